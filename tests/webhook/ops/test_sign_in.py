"""Signing in to the pages: sessions that end, forms that nobody else can send, guesses that are slowed and told."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from models.database import Database
from models.reports import users
from models.reports.users import Role
from tests.support.rows import ENCRYPTION_KEY, LOCATION, rows_of, store, write
from tests.webhook.ops.conftest import PASSWORD, Pages, a_call, pages_on
from webhook.ops import access
from workers.telemetry import metrics

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
MARIA = "maría-has-a-long-one"
OTHER_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def token_in(page: TestResponse) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def sign_in(client: FlaskClient, name: str, password: str, **more: Any) -> TestResponse:
    token = token_in(client.get("/ops/sign-in", headers=BROWSER))
    data = {"name": name, "password": password, "csrf_token": token, **more}
    return client.post("/ops/sign-in", data=data, headers=BROWSER)


def sees(client: FlaskClient, path: str = "/ops/") -> int:
    return client.get(path, headers=BROWSER).status_code


@pytest.fixture
def maria(database: Database) -> str:
    assert write(database, users.add, "maria", Role.VIEWER, password=MARIA)
    return "maria"


@pytest.mark.parametrize("password_set", [True, False], ids=["beside ops", "without ops"])
def test_whoever_signs_in_sees_the_page_that_was_asked_for_until_the_sign_out(
    database_url: str, maria: str, password_set: bool
) -> None:
    client = pages_on(database_url, password=PASSWORD if password_set else None).client
    refused = client.get("/ops/setup?account=x", headers=BROWSER)
    assert refused.status_code == 401
    assert "WWW-Authenticate" not in refused.headers, "a browser shows the form"
    [wanted] = re.findall(r'name="next" value="([^"]*)"', refused.text)
    answer = sign_in(client, maria, MARIA, next=wanted)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ops/setup?account=x")
    page = client.get("/ops/", headers=BROWSER)
    assert page.status_code == 200
    assert "Sign out <span>maria</span>" in page.text
    assert client.post("/ops/sign-out", data={"csrf_token": token_in(page)}, headers=BROWSER).status_code == 303
    assert sees(client) == 401


def test_ops_signs_in_with_the_password_of_the_environment(ops: Pages, database: Database) -> None:
    assert sign_in(ops.client, "ops", PASSWORD).status_code == 303
    assert sees(ops.client) == 200
    [row] = rows_of(database, users.audit_table)
    assert (row["by_user"], row["what"]) == ("ops", "signed_in")


@pytest.mark.parametrize(
    ("name", "password"), [("maria", "wrong"), ("ops", MARIA), ("nobody", MARIA), ("", ""), ("maria", "")]
)
def test_a_wrong_name_or_password_is_told_counted_and_logged_without_what_was_typed(
    ops: Pages, maria: str, name: str, password: str
) -> None:
    before = metrics.SIGN_INS.labels("failed")._value.get()
    with capture_logs() as logged:
        answer = sign_in(ops.client, name, password)
    assert answer.status_code == 401
    assert "Wrong name or password." in answer.text
    assert metrics.SIGN_INS.labels("failed")._value.get() == before + 1
    [event] = [each for each in logged if each["event"] == "sign_in_failed"]
    assert set(event) == {"event", "log_level", "address", "is_ops"}
    assert sees(ops.client) == 401


@pytest.mark.parametrize("by", ["form", "basic"])
def test_after_ten_wrong_passwords_an_address_waits_even_with_the_right_one_and_whoever_is_signed_in_goes_on(
    ops: Pages, database: Database, by: str
) -> None:
    client = ops.client
    assert sign_in(client, "ops", PASSWORD).status_code == 303
    other = client.application.test_client()
    for _ in range(10):
        assert (sign_in(other, "ops", "x") if by == "form" else ops.get("/ops/", password="x")).status_code == 401
    answer = sign_in(other, "ops", PASSWORD)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
    assert "Too many wrong passwords." in answer.text
    assert ops.get("/ops/").status_code == 429, "neither by basic authentication"
    assert sees(client) == 200
    elsewhere = {"REMOTE_ADDR": "10.1.2.3"}
    token = token_in(other.get("/ops/sign-in", headers=BROWSER, environ_base=elsewhere))
    data = {"name": "ops", "password": PASSWORD, "csrf_token": token}
    assert other.post("/ops/sign-in", data=data, headers=BROWSER, environ_base=elsewhere).status_code == 303


@pytest.mark.parametrize("path", ["/ops/sign-in", "/ops/sign-out"])
def test_a_form_from_another_page_is_refused(ops: Pages, database: Database, path: str) -> None:
    assert sign_in(ops.client, "ops", PASSWORD).status_code == 303
    for token in ("", "made-up"):
        data = {"name": "ops", "password": PASSWORD, "csrf_token": token}
        answer = ops.client.post(path, data=data, headers=BROWSER)
        assert answer.status_code == 400
        assert "open for too long" in answer.text
    assert sees(ops.client) == 200, "nobody was signed out"


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/ops/", "//evil.example/ops/", "/\\evil.example", "/etc", ""]
)
def test_after_signing_in_nobody_is_sent_to_another_site(ops: Pages, database: Database, elsewhere: str) -> None:
    assert sign_in(ops.client, "ops", PASSWORD, next=elsewhere).headers["Location"] == "/ops/"


def test_a_session_ends_with_another_password_with_the_user_and_with_its_time(
    ops: Pages, database: Database, maria: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ops.client
    assert sign_in(client, maria, MARIA).status_code == 303
    assert write(database, users.set_password, maria, "another-one-of-hers")
    assert sees(client) == 401
    assert sign_in(client, maria, "another-one-of-hers").status_code == 303
    assert sees(client) == 200
    assert write(database, users.remove, maria)
    assert sees(client) == 401
    assert sign_in(client, "ops", PASSWORD).status_code == 303
    client.application.permanent_session_lifetime = timedelta(seconds=-1)
    assert sees(client) == 401


def test_a_session_holds_in_every_process_and_with_a_newer_key_in_front_and_with_no_foreign_key(
    database_url: str, database: Database
) -> None:
    client = pages_on(database_url).client
    sign_in(client, "ops", PASSWORD)
    cookie = client.get_cookie("leadway_ops", path="/ops/")
    assert cookie is not None
    assert (cookie.http_only, cookie.same_site, cookie.secure) == (True, "Strict", False)
    for keys, seen in ((ENCRYPTION_KEY, 200), (f"{OTHER_KEY},{ENCRYPTION_KEY}", 200), (OTHER_KEY, 401)):
        there = pages_on(database_url, TOKEN_ENCRYPTION_KEYS=keys).client
        there.set_cookie("leadway_ops", cookie.value, path="/ops/")
        assert sees(there) == seen


def test_behind_https_the_cookie_is_sent_over_https_only(ops: Pages, database: Database) -> None:
    answer = ops.client.get("/ops/sign-in", headers={**BROWSER, "X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["Set-Cookie"].split("; ")


def test_who_opened_which_call_is_kept(ops: Pages, database: Database, maria: str) -> None:
    store(database, a_call("call-1"))
    assert sign_in(ops.client, maria, MARIA).status_code == 303
    for _ in range(3):  # as a page that renews itself does
        assert sees(ops.client, f"/ops/calls/{LOCATION}/call-1") == 200
    assert sees(ops.client, f"/ops/calls/{LOCATION}/unknown") == 404
    told = [(row["by_user"], row["what"], row["subject"]) for row in rows_of(database, users.audit_table)]
    assert told == [("maria", "signed_in", None), ("maria", "call_opened", "call-1")]


def test_the_sign_in_page_speaks_the_browsers_language(ops: Pages, database: Database) -> None:
    page = ops.client.get("/ops/", headers={**BROWSER, "Accept-Language": "es-ES,es;q=0.9,en;q=0.5"})
    assert 'lang="es"' in page.text
    assert "Contraseña" in page.text
    assert "Password" in ops.client.get("/ops/", headers={**BROWSER, "Accept-Language": "de"}).text


def test_the_password_of_nobody_takes_a_check_too(
    monkeypatch: pytest.MonkeyPatch, ops: Pages, database: Database
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(access.users, "check_for_nobody", asked.append)
    assert sign_in(ops.client, "nobody", "guessed-password").status_code == 401
    assert asked == ["guessed-password"]


def test_no_password_is_stored_as_it_is(database: Database, maria: str, tmp_path: Path) -> None:
    [row] = rows_of(database, users.users_table)
    assert row["password_hash"].startswith("scrypt:")
    assert MARIA not in row["password_hash"]

"""Who sees the operators' pages, and what every answer carries."""

import re
from pathlib import Path

import pytest

from models.database import Database
from tests.support.rows import LOCATION, SECRET, TOKEN, store
from tests.webhook.ops.conftest import PASSWORD, Pages, a_call, pages_on
from workers.local.embedded_redis import free_port

PAGES = ("/ops/", "/ops/setup", f"/ops/calls/{LOCATION}/call-1")
PATHS = (*PAGES, "/ops/static/ops.css", "/ops/static/copy.js")


@pytest.mark.parametrize("path", PATHS)
def test_without_a_password_set_every_page_is_closed_and_says_what_to_set(path: str, sqlite_url: str) -> None:
    for answer in (pages_on(sqlite_url, password=None).get(path), pages_on(sqlite_url, password="").get(path)):
        assert answer.status_code == 403
        assert "Set OPS_PASSWORD" in answer.text


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    ("user", "password"), [("ops", "wrong"), ("root", PASSWORD), ("ops", ""), ("", ""), ("ops", PASSWORD + "x")]
)
def test_a_wrong_user_or_password_is_asked_to_sign_in(path: str, user: str, password: str, sqlite_url: str) -> None:
    answer = pages_on(sqlite_url).get(path, user=user, password=password)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("header", ["", "Basic", "Basic !!!", "Basic b3Bz", "Bearer abc", "Digest username=ops"])
def test_a_header_that_is_no_basic_authentication_is_asked_to_sign_in(header: str, sqlite_url: str) -> None:
    assert pages_on(sqlite_url).client.get("/ops/", headers={"Authorization": header}).status_code == 401


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("path", [*PATHS, "/ops/?status=nonsense&after=nonsense"])
def test_every_answer_forbids_foreign_scripts_frames_sources_and_copies(path: str, ops: Pages) -> None:
    answer = ops.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert "style=" not in answer.text
    assert 'src="http' not in answer.text
    assert "script-src 'self'; connect-src 'self'" in policy
    assert set(re.findall("<script[^>]*>", answer.text)) <= {
        '<script src="/ops/static/copy.js" defer>', '<script src="/ops/static/refresh.js" defer>'
    }  # fmt: skip
    assert not re.search(r"<[^>]*\son\w+=", answer.text)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("path", PATHS)
def test_the_pages_only_read(path: str, ops: Pages) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ops.client.open(path, method=method).status_code in (400, 401, 405)


def test_no_page_shows_a_token_a_secret_or_what_they_are_stored_as(ops: Pages, database: Database) -> None:
    store(database, a_call("call-1"))
    with database.reading() as connection:
        row = connection.exec_driver_sql(
            "SELECT api_token_encrypted, intake_secret_hash FROM accounts"
        ).one()  # fmt: skip
    shown = "".join(ops.text(path) for path in ("/ops/", "/ops/setup", f"/ops/calls/{LOCATION}/call-1"))
    for hidden in (TOKEN, SECRET, PASSWORD, *row):
        assert hidden not in shown


@pytest.mark.parametrize("path", ["/ops/", "/ops/setup", f"/ops/calls/{LOCATION}/call-1"])
def test_while_the_database_is_away_a_calm_page_says_so(path: str) -> None:
    answer = pages_on(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing").get(path)
    assert answer.status_code == 503
    assert "does not answer just now" in answer.text
    assert "no call is lost" in answer.text
    assert answer.headers["Retry-After"]


def test_a_database_without_tables_gives_the_same_calm_page(tmp_path: Path) -> None:
    answer = pages_on(f"sqlite:///{tmp_path / 'empty.db'}").get("/ops/")
    assert answer.status_code == 503
    assert "leadway-calls migrate" in answer.text

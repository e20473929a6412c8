"""What an operator does from a page: told first, done once, kept in the audit, and nothing a viewer may do."""

import re
from html import unescape

import pytest

from models.accounts import pauses
from models.calls.calls import work_key
from models.database import Database
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUpState
from models.reports import users
from models.reports.users import Role
from models.work.work_rows import work_table
from tests.support.rows import (
    LOCATION,
    booked_call,
    dead_follow_up,
    done_follow_up,
    read,
    rows_of,
    store,
    unclear_follow_up,
    write,
)
from tests.webhook.ops.conftest import PASSWORD, Pages
from tests.webhook.ops.test_sign_in import BROWSER, MARIA, sign_in, token_in

CALL = f"/ops/calls/{LOCATION}/call-1"
ACCOUNT = f"/ops/accounts/{LOCATION}"


@pytest.fixture
def operator(ops: Pages, database: Database) -> Pages:
    assert sign_in(ops.client, "ops", PASSWORD).status_code == 303
    return ops


def done_by(pages: Pages, path: str, **data: str) -> str:
    """Reads what the act will do, does it, and returns what the next page tells."""
    before = pages.client.get(path, headers=BROWSER)
    assert before.status_code == 200, before.text
    answer = pages.client.post(path, data={"csrf_token": token_in(before), **data}, headers=BROWSER)
    assert answer.status_code == 303, answer.text
    page = pages.client.get(answer.headers["Location"], headers=BROWSER).text
    [told] = re.findall(r'role="status">([^<]+)<', page)
    return unescape(told)


def audited(database: Database) -> list[tuple[str, str, str | None]]:
    return [
        (row["by_user"], row["what"], row["subject"])
        for row in rows_of(database, users.audit_table)
        if row["what"] not in ("signed_in", "call_opened")
    ]


def test_a_call_is_fetched_again(operator: Pages, database: Database) -> None:
    store(database, booked_call("call-1"))
    assert "Fetch the log again" in operator.client.get(CALL, headers=BROWSER).text
    assert done_by(operator, f"{CALL}/refetch") == "Its log is fetched again now."
    assert [row["subject"] for row in rows_of(database, work_table) if row["kind"] == "call"] == ["call-1"]
    assert audited(database) == [("ops", "refetch", "call-1")]


def test_a_dead_follow_up_is_tried_again(operator: Pages, database: Database) -> None:
    store(database, booked_call("call-1"))
    follow_up_id = dead_follow_up(database)
    assert f"{CALL}/{follow_up_id}/send" in operator.client.get(CALL, headers=BROWSER).text
    assert done_by(operator, f"{CALL}/{follow_up_id}/send") == "It is tried again now."
    found = read(database, follow_ups.get, follow_up_id)
    assert found is not None
    assert found.status is FollowUpState.PENDING
    assert audited(database) == [("ops", "send", follow_up_id)]


@pytest.mark.parametrize(("name", "state"), [("is-there", FollowUpState.DONE), ("is-not-there", FollowUpState.PENDING)])
def test_an_unclear_follow_up_is_settled_by_what_a_person_saw(
    operator: Pages, database: Database, name: str, state: FollowUpState
) -> None:
    store(database, booked_call("call-1"))
    follow_up_id = unclear_follow_up(database)
    done_by(operator, f"{CALL}/{follow_up_id}/{name}")
    found = read(database, follow_ups.get, follow_up_id)
    assert found is not None
    assert found.status is state
    assert audited(database) == [("ops", name, follow_up_id)]


@pytest.mark.parametrize("name", ["send", "is-there", "is-not-there"])
def test_what_is_done_already_is_left_alone_and_that_is_told(operator: Pages, database: Database, name: str) -> None:
    store(database, booked_call("call-1"))
    follow_up_id = done_follow_up(database)
    assert done_by(operator, f"{CALL}/{follow_up_id}/{name}") == "Nothing was changed: it is not like that any more."
    assert audited(database) == []


def test_a_follow_up_is_not_acted_on_under_another_call(operator: Pages, database: Database) -> None:
    store(database, booked_call("call-1"))
    follow_up_id = dead_follow_up(database)
    path = f"/ops/calls/{LOCATION}/another/{follow_up_id}/send"
    answer = operator.client.post(path, data={"csrf_token": token_in(operator.client.get(path, headers=BROWSER))})
    assert answer.status_code == 303
    found = read(database, follow_ups.get, follow_up_id)
    assert found is not None
    assert found.status is FollowUpState.DEAD


def test_an_account_is_paused_with_a_reason_goes_on_and_its_list_is_compared(
    operator: Pages, database: Database
) -> None:
    assert done_by(operator, f"{ACCOUNT}/pause", reason="they clean up the CRM") == "The account is paused."
    [pause] = read(database, pauses.of_account, LOCATION)
    assert pause.detail.startswith("they clean up the CRM Ends with")
    assert done_by(operator, f"{ACCOUNT}/resume") == "The account goes on."
    assert read(database, pauses.of_account, LOCATION) == []
    assert done_by(operator, f"{ACCOUNT}/reconcile") == "Leadway's list is compared now."
    assert [row["kind"] for row in rows_of(database, work_table)] == ["window"]
    assert [what for _, what, _ in audited(database)] == ["pause", "resume", "reconcile"]
    path = "/ops/accounts/nobody/pause"
    assert done_by(operator, path) == "Nothing was changed: it is not like that any more."


@pytest.mark.parametrize("path", [f"{CALL}/refetch", f"{ACCOUNT}/pause", f"{CALL}/{'0' * 36}/send"])
def test_a_viewer_sees_and_does_not_act(ops: Pages, database: Database, path: str) -> None:
    store(database, booked_call("call-1"))
    write(database, users.add, "maria", Role.VIEWER, password=MARIA)
    assert sign_in(ops.client, "maria", MARIA).status_code == 303
    page = ops.client.get(CALL, headers=BROWSER)
    assert "Fetch the log again" not in page.text
    assert ops.client.get(path, headers=BROWSER).status_code == 403
    token = {"csrf_token": token_in(page)}
    assert ops.client.post(path, data=token, headers=BROWSER).status_code == 403
    assert audited(database) == []
    assert rows_of(database, pauses.pauses_table) == []


@pytest.mark.parametrize("path", [f"{CALL}/explode", f"{ACCOUNT}/explode", f"{CALL}/some-id/explode"])
def test_an_unknown_act_is_not_found(operator: Pages, database: Database, path: str) -> None:
    assert operator.client.get(path, headers=BROWSER).status_code == 404


def test_nobody_acts_without_having_signed_in_or_without_the_forms_token(ops: Pages, database: Database) -> None:
    store(database, booked_call("call-1"))
    for headers in (BROWSER, {}):
        assert ops.client.post(f"{CALL}/refetch", headers=headers).status_code in (400, 401)
    assert sign_in(ops.client, "ops", PASSWORD).status_code == 303
    assert ops.client.post(f"{CALL}/refetch", headers=BROWSER).status_code == 400
    assert [row for row in rows_of(database, work_table) if row["kind"] == work_key(LOCATION, "call-1").kind.name] == []


def test_the_audit_shows_the_newest_first_of_everybody_or_of_one_page_by_page(
    operator: Pages, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(database, booked_call("call-1"))
    done_by(operator, f"{CALL}/refetch")
    write(database, users.add, "maria", Role.VIEWER, password=MARIA)
    other = operator.client.application.test_client()
    assert sign_in(other, "maria", MARIA).status_code == 303
    assert other.get("/ops/audit", headers=BROWSER).status_code == 403

    def told(path: str) -> list[tuple[str, str]]:
        page = operator.client.get(path, headers=BROWSER).text
        return re.findall(r"<bdi>(\w+)</bdi></a></td>\s*<td>([^<]+)</td>", page)

    assert told("/ops/audit")[:2] == [("maria", "signed in"), ("ops", "call opened")]
    assert told("/ops/audit?user=ops") == [("ops", "call opened"), ("ops", "refetch"), ("ops", "signed in")]
    monkeypatch.setattr("webhook.ops.audit.ROWS", 2)
    first = operator.client.get("/ops/audit?user=ops", headers=BROWSER).text
    [older] = re.findall(r'href="([^"]+)">older', first)
    assert told(unescape(older)) == [("ops", "signed in")]

"""What senders are answered, and what is in the database by then."""

import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa
from werkzeug.test import TestResponse

from models.accounts import accounts
from models.database import Database
from models.intake import inbox
from models.intake.notifications import Arrival
from models.intake.reasons import Reason, ReceiptStatus
from tests.leadway_double.notifications import Dialect, Message, Proof
from tests.support.waiting import eventually
from tests.support.world import World
from tests.webhook.conftest import PATH, Intake
from webhook import receiver
from webhook.notification import MAX_BODY_BYTES
from workers.take_in import take_in

WAYS = [
    (Dialect.FLAT, Proof.ED25519),
    (Dialect.FLAT, Proof.RSA),
    (Dialect.FLAT_UNTYPED, Proof.ED25519),
    (Dialect.DATA, Proof.ED25519),
    (Dialect.WORKFLOW, Proof.SECRET_HEADER),
    (Dialect.WORKFLOW, Proof.SECRET_PATH),
    (Dialect.THIN, Proof.SECRET_HEADER),
    (Dialect.THIN, Proof.SECRET_PATH),
    (Dialect.CALL_COMPLETED, Proof.SECRET_PATH),
    (Dialect.FLAT, Proof.SECRET_PATH),
    (Dialect.DATA, Proof.SECRET_HEADER),
]

Sender = Callable[[Intake], TestResponse]


def _cannot_be_written(intake: Intake) -> TestResponse:
    with intake.without_inbox():
        return intake.send(b'{"callId": "call-1"}')


def _cannot_be_looked_up(intake: Intake) -> TestResponse:
    with intake.without_accounts():
        return intake.send(b'{"callId": "call-1"}', path=f"{PATH}/of-an-account-added-a-moment-ago", headers={})


def _without_keys(intake: Intake) -> TestResponse:
    with Intake(
        intake.settings.database_url, intake.settings.redis_url, leadway_webhook_public_keys=()
    ) as without_keys:
        return without_keys.send_signed(b"{}")


REFUSED: dict[Reason, Sender] = {
    Reason.CREDENTIALS_MISSING: lambda intake: intake.send(b'{"callId": "call-1"}', {}),
    Reason.SIGNATURE_MALFORMED: lambda intake: intake.send(b"{}", {"X-GHL-Signature": "no signature"}),
    Reason.SIGNATURE_INVALID: lambda intake: intake.post(intake.message(proof=Proof.TAMPERED)),
    Reason.SIGNATURE_KEYS_NOT_CONFIGURED: _without_keys,
    Reason.INTAKE_SECRET_UNKNOWN: lambda intake: intake.send(
        b'{"callId": "call-1"}', path=f"{PATH}/mistyped", headers={}
    ),
    Reason.WRONG_ACCOUNT: lambda intake: intake.send(b'{"callId": "call-1", "locationId": "loc-other"}'),
    Reason.TOO_LARGE: lambda intake: intake.send(b" " * (MAX_BODY_BYTES + 1)),
    Reason.CANNOT_WRITE_DOWN: _cannot_be_written,
    Reason.CANNOT_LOOK_UP: _cannot_be_looked_up,
}
IGNORED: dict[Reason, Sender] = {
    Reason.EVENT_TYPE_NOT_WANTED: lambda intake: intake.send_signed(b'{"type": "ContactCreate", "id": "contact-1"}'),
    Reason.LOCATION_NOT_SERVED: lambda intake: intake.send_signed(b'{"id": "call-1", "locationId": "loc-other"}'),
    Reason.LOCATION_MISSING: lambda intake: intake.send_signed(b'{"id": "call-1"}'),
    Reason.NOT_UTF8: lambda intake: intake.send(b"\x1f\x8b\x08\x00"),
    Reason.NOT_JSON: lambda intake: intake.send(b"call-1"),
    Reason.NOT_AN_OBJECT: lambda intake: intake.send(b'["call-1"]'),
    Reason.DUPLICATE_KEYS: lambda intake: intake.send_signed(b'{"callId": "call-1", "callId": "call-2"}'),
    Reason.TOO_DEEP: lambda intake: intake.send_signed(b'{"id": "call-1", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
    Reason.NUMBER_OUT_OF_RANGE: lambda intake: intake.send_signed(b'{"callId": "call-1", "duration": 1e999}'),
}
KEPT = (Reason.NOT_UTF8, Reason.NOT_JSON, Reason.NOT_AN_OBJECT)
"""Ignored, but they came with an account's intake secret."""
UNRESOLVED: dict[Reason, Sender] = {
    Reason.UNRESOLVED_MERGE_TAG: lambda intake: intake.post(intake.message(dialect=Dialect.UNRESOLVED)),
    Reason.CALL_ID_UNUSABLE: lambda intake: intake.send(b'{"callId": 17}'),
    Reason.BROKEN_JSON: lambda intake: intake.send(b'{"contactId": "contact-1", "summary": "she said "yes" twice"}'),
    Reason.SEVERAL_CALL_IDS: lambda intake: intake.send(b'[{"callId": "call-1"}, {"callId": "call-2"}]'),
    Reason.CALL_ID_MISSING: lambda intake: intake.send(b'{"contact_id": "contact-1"}'),
}
ANSWERS = {**REFUSED, **IGNORED, **UNRESOLVED}


def test_every_reason_has_its_test() -> None:
    assert set(ANSWERS) == set(Reason)


@pytest.mark.parametrize("reason", ANSWERS, ids=str)
def test_each_reason_has_its_status_its_word_and_a_sentence(intake: Intake, reason: Reason) -> None:
    answer = ANSWERS[reason](intake)

    assert answer.status_code == reason.http_status
    assert answer.json == {"status": reason.status.value, "reason": reason.value, "detail": reason.sentence}
    assert answer.status_code in ({202} if reason.status is not ReceiptStatus.REFUSED else {401, 413, 429})
    assert ("Retry-After" in answer.headers) == (answer.status_code == 429)


@pytest.mark.parametrize("reason", [*KEPT, *UNRESOLVED], ids=str)
def test_what_comes_with_a_secret_but_is_of_no_use_is_written_down_with_its_reason(
    intake: Intake, reason: Reason
) -> None:
    ANSWERS[reason](intake)
    intake.take_in()

    row = intake.only_row("notifications")
    assert (row["status"], row["reason"], row["repeats"]) == (reason.status.value, reason.value, 0)
    assert row["call_id"] is None
    assert intake.rows("work") == []


@pytest.mark.parametrize("reason", [each for each in IGNORED if each not in KEPT], ids=str)
def test_what_is_signed_for_others_or_tells_of_something_else_is_counted_and_leaves_no_row(
    intake: Intake, reason: Reason
) -> None:
    for _ in range(3):
        ANSWERS[reason](intake)
    assert intake.rows("inbox") == []
    intake.receiver.rejection_counter.write()
    row = intake.only_row("rejection_counts")
    assert (row["reason"], row["number"]) == (reason.value, 3)


def test_an_event_of_another_type_that_comes_with_a_secret_is_counted_too(intake: Intake) -> None:
    answer = intake.send(b'{"type": "ContactCreate", "id": "contact-1"}')
    assert answer.get_json()["reason"] == "event_type_not_wanted"
    assert intake.rows("inbox") == []


def test_a_signed_event_of_no_use_is_ignored_while_the_database_is_away(intake: Intake) -> None:
    with intake.without_inbox():
        assert IGNORED[Reason.EVENT_TYPE_NOT_WANTED](intake).status_code == 202


@pytest.mark.parametrize("reason", REFUSED, ids=str)
def test_what_is_refused_leaves_no_row(intake: Intake, reason: Reason) -> None:
    ANSWERS[reason](intake)

    assert intake.rows("inbox") == []


@pytest.mark.parametrize(("dialect", "proof"), WAYS)
def test_a_notification_is_in_the_inbox_before_it_is_answered_and_becomes_work_when_it_is_taken_in(
    intake: Intake, dialect: Dialect, proof: Proof
) -> None:
    call = intake.double.place_call(contact=True)
    answer = intake.post(intake.message(call, dialect=dialect, proof=proof))

    assert (answer.status_code, answer.json) == (202, {"status": "accepted"})
    waits = intake.only_row("inbox")
    assert (waits["location_id"], waits["call_id"]) == (call.location_id, call.call_id)
    assert (intake.rows("notifications"), intake.rows("work")) == ([], []), "a receipt writes one row"

    intake.take_in()

    row = intake.only_row("notifications")
    assert {name: row[name] for name in waits if name in row} == {name: waits[name] for name in waits if name in row}
    assert (row["status"], row["reason"], row["repeats"]) == ("accepted", None, 0)
    work = intake.only_row("work")
    assert (work["kind"], work["location_id"], work["subject"]) == ("call", call.location_id, call.call_id)
    assert (work["origin"], work["requested"], work["due_at"] is None) == ("notification", 1, False)
    assert intake.rows("calls") == [], "nothing of the call is stored yet"


@pytest.mark.parametrize("taken_in_between", [False, True])
def test_a_repeat_is_counted_and_does_nothing_twice(intake: Intake, taken_in_between: bool) -> None:
    message = intake.message()
    assert intake.post(message).json == {"status": "accepted"}

    for _ in range(3):
        if taken_in_between:
            intake.take_in()
        answer = intake.post(message)
        assert (answer.status_code, answer.json) == (202, {"status": "duplicate"})

    intake.take_in()
    row = intake.only_row("notifications")
    assert row["repeats"] == 3
    assert row["last_received_at"] > row["received_at"]
    assert len(intake.rows("work")) == 1


@pytest.mark.parametrize("reason", [Reason.NOT_JSON, Reason.BROKEN_JSON, Reason.CALL_ID_MISSING], ids=str)
def test_a_repeat_of_what_is_of_no_use_is_counted_too(intake: Intake, reason: Reason) -> None:
    first, again = ANSWERS[reason](intake), ANSWERS[reason](intake)

    assert first.json == again.json
    intake.take_in()
    assert intake.only_row("notifications")["repeats"] == 1


def test_the_same_call_told_in_two_dialects_is_two_notifications_and_one_call(intake: Intake) -> None:
    call = intake.double.place_call(contact=True)
    answers = [intake.post(intake.message(call, dialect=dialect)).json for dialect in (Dialect.FLAT, Dialect.THIN)]

    assert answers == [{"status": "accepted"}, {"status": "accepted"}]
    intake.take_in()
    assert len(intake.rows("notifications")) == 2
    assert len(intake.rows("work")) == 1


def test_a_receipt_waits_for_no_row_that_a_worker_or_a_person_has_locked(postgresql_url: str, redis_url: str) -> None:
    with Intake(postgresql_url, redis_url, patient=False) as intake:
        message = intake.message()
        intake.post(message)
        intake.take_in()
        intake.post(message)
        with intake.database.transaction() as connection:
            for table in ("accounts", "work", "notifications", "inbox"):
                assert connection.execute(sa.text(f"SELECT * FROM {table} FOR UPDATE")).all()

            assert intake.post(message).json == {"status": "duplicate"}


def test_a_bearer_of_one_accounts_secret_cannot_speak_for_another_one(intake: Intake) -> None:
    with intake.database.transaction() as connection:
        accounts.add(connection, "loc-other")
        accounts.set_secret(connection, "loc-other", "secret-of-the-other-account")
    body = intake.message().body

    assert intake.send(body, {"X-Intake-Secret": "secret-of-the-other-account"}).status_code == 401
    assert intake.send(body).json == {"status": "accepted"}
    assert [row["location_id"] for row in intake.rows("inbox")] == [intake.double.location_id]


def test_a_removed_account_is_not_served_any_more(intake: Intake) -> None:
    with intake.database.transaction() as connection:
        accounts.remove(connection, intake.double.location_id)
    intake.receiver.known.read()  # as it does every few seconds

    assert intake.post(intake.message(dialect=Dialect.THIN)).get_json()["reason"] == "intake_secret_unknown"
    assert intake.post(intake.message(dialect=Dialect.FLAT)).get_json()["reason"] == "location_not_served"


def test_a_credential_in_the_body_is_not_written_down(intake: Intake) -> None:
    credential = "sk-live-4f9a1c77e2"
    action = {
        "actionType": "CUSTOM_ACTION",
        "actionParameters": {
            "apiDetails": {
                "url": f"https://api.example.com/v1?api_key={credential}",
                "headers": [{"key": "Authorization", "value": f"Bearer {credential}"}],
                "authenticationValue": credential,
            }
        },
    }
    intake.post(intake.message(fields={"executedCallActions": [action]}))
    intake.post(
        intake.message(dialect=Dialect.WORKFLOW, fields={"customData": {"callId": "call-2", "token": credential}})
    )

    written = json.dumps(intake.rows("inbox"), default=str)
    assert len(intake.rows("inbox")) == 2
    assert credential not in written
    assert "[redacted:" in written


def test_the_log_names_the_call_and_nothing_that_was_said_or_shown(intake: Intake, log_lines: io.StringIO) -> None:
    call = intake.double.place_call(contact=True, actions=["APPOINTMENT_BOOKING", "CUSTOM_ACTION"])
    contact = intake.double.memory.contacts[call.contact_id or ""]
    log = json.loads(call.document(intake.double.memory.now()))
    for dialect, proof in WAYS:
        intake.post(intake.message(call, dialect=dialect, proof=proof))
    for reason in ANSWERS:
        ANSWERS[reason](intake)
    intake.receiver.rejection_counter.write()

    lines = log_lines.getvalue()
    events = [json.loads(line) for line in lines.splitlines()]
    assert {call.call_id} <= {event.get("call_id") for event in events if event["event"] == "notification_received"}
    for secret in (
        intake.double.token,
        intake.double.intake_secret,
        "mistyped",
        log["transcript"][:20],
        log["summary"][:20],
        log["fromNumber"],
        contact.last_name,
        contact.phone,
        contact.email,
    ):
        assert secret
        assert secret not in lines


def test_a_row_that_cannot_be_written_by_itself_is_quarantined_and_stops_no_other(
    intake: Intake, log_lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = intake.message(dialect=Dialect.THIN, proof=Proof.SECRET_PATH)
    put_and_look = inbox.put_and_look

    def refusing(connection: sa.Connection, arrivals: Sequence[Arrival]) -> set[str]:
        if any(each.call_id == json.loads(bad.body)["callId"] for each in arrivals):
            raise KeyError("a bug that quotes +14155550123")
        return put_and_look(connection, arrivals)

    monkeypatch.setattr(inbox, "put_and_look", refusing)
    messages = [bad, *(intake.message() for _ in range(20))]
    with ThreadPoolExecutor(len(messages)) as senders:
        answers = list(senders.map(intake.post, messages))

    assert {(answer.status_code, answer.get_json()["status"]) for answer in answers} == {(202, "accepted")}
    assert len(intake.rows("inbox")) == 20
    aside = intake.only_row("quarantine")
    assert (aside["error"], json.loads(bad.body)["callId"] in aside["raw"].decode()) == ("KeyError", True)
    assert intake.double.intake_secret not in log_lines.getvalue()
    assert "+14155550123" not in log_lines.getvalue()


def test_an_answer_that_breaks_after_the_commit_logs_no_secret_either(
    intake: Intake, log_lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(receiver, "_as_response", broken)
    answer = intake.post(intake.message(dialect=Dialect.THIN, proof=Proof.SECRET_PATH))

    assert answer.status_code == 429
    assert intake.double.intake_secret not in log_lines.getvalue()
    assert len(intake.rows("inbox")) == 1


def test_a_receipt_waits_for_no_migration_of_another_table_and_then_tells_no_repeat(
    postgresql_url: str, redis_url: str
) -> None:
    """A reader is idle in a transaction, and a migration waits behind it: everybody else queues behind that."""
    with Intake(postgresql_url, redis_url, patient=False) as intake:
        message = intake.message()
        intake.post(message)
        with intake.database.transaction() as reader, ThreadPoolExecutor(1) as migration:
            for table in ("notifications", "calls", "accounts", "work"):
                reader.execute(sa.text(f"SELECT * FROM {table}"))
            altered = migration.submit(intake._change_schema, "ALTER TABLE notifications ADD COLUMN later text")
            eventually(lambda: intake.rows("pg_locks WHERE NOT granted"), describe="the migration to wait")
            answers = [intake.post(each) for each in (message, *(intake.message() for _ in range(20)))]
            assert {(each.status_code, each.get_json()["status"]) for each in answers} == {(202, "accepted")}
            reader.rollback()
            altered.result(30)
        intake._change_schema("ALTER TABLE notifications DROP COLUMN later")
        intake.receiver.writer._no_look_until = 0.0  # as after a few seconds
        assert intake.post(message).get_json() == {"status": "duplicate"}
        assert len(intake.rows("inbox")) == 23


@pytest.mark.parametrize("path", ["", "/", "/intake-secret-of-the-double", "/intake-secret-of-the-double/"])
def test_a_slash_at_the_end_of_the_address_makes_no_difference(intake: Intake, path: str) -> None:
    answer = intake.send(b'{"callId": "call-1"}', path=PATH + path)

    assert (answer.status_code, answer.json) == (202, {"status": "accepted"})


def test_without_an_account_everything_is_refused_or_ignored(sqlite_url: str, redis_url: str) -> None:
    with Intake(sqlite_url, redis_url, leadway_location_id=None) as intake:
        assert intake.post(intake.message(dialect=Dialect.THIN)).get_json()["reason"] == "intake_secret_unknown"
        assert intake.post(intake.message(dialect=Dialect.FLAT)).get_json()["reason"] == "location_not_served"


def test_crowds_of_notifications_on_two_processes_lose_none_and_do_nothing_twice(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    settings = {"WEB_PROCESSES": "2"}
    with World(tmp_path, database_url=database_url, redis_url=redis_url, settings=settings) as world:
        world.start("web")
        same = world.double.message(world.double.place_call())[0]
        others = [world.double.message(call)[0] for call in world.double.place_calls(200)]

        with ThreadPoolExecutor(10) as senders:
            of_the_same = list(senders.map(_send_as_the_vendor_does, [same] * 10))
        with ThreadPoolExecutor(50) as senders:
            of_others = list(senders.map(_send_as_the_vendor_does, others))

        assert {answers[-1] for answers in of_the_same} <= {"accepted", "duplicate"}
        assert {answers[-1] for answers in of_others} <= {"accepted", "duplicate"}
        with closing(Database(database_url)) as database:
            take_in(database)
        [repeats] = world.rows("SELECT repeats FROM notifications WHERE repeats > 0 ORDER BY notification_id LIMIT 1")
        refused = sum(len(answers) - 1 for answers in of_the_same)
        assert 9 <= repeats["repeats"] <= 9 + refused
        assert world.scalar("SELECT count(*) FROM notifications") == 201
        assert world.scalar("SELECT count(*) FROM work") == 201


def _send_as_the_vendor_does(message: Message) -> list[str]:
    """What was answered, in order: 429 is repeated."""
    answers: list[str] = []
    while (not answers or answers[-1] == "refused") and len(answers) < 20:
        answer = requests.post(message.url, data=message.body, headers=dict(message.headers), timeout=30)
        assert answer.status_code == (429 if answer.json()["status"] == "refused" else 202)
        answers.append(answer.json()["status"])
    return answers

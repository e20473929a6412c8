"""Documents of every shape: what is read, what is tolerated, what is refused."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calls.call_log import ActionType, CallLog, Source
from workers.leadway.documents import (
    KNOWN_FIELDS,
    read_appointment,
    read_call_log,
    read_list_page,
    read_note,
    read_task,
    read_time,
    read_whole_list,
)
from workers.leadway.errors import ErrorKind, UnreadableDocument


def read(document: Any) -> CallLog:
    return read_call_log(document, source=Source.FETCH, redaction_key=b"k")


FULL: dict[str, Any] = {
    "id": "6a25186f17a921dd841b287b",
    "contactId": "p1",
    "agentId": "a1",
    "isAgentDeleted": False,
    "fromNumber": "+34600111222",
    "createdAt": "2026-01-15T10:30:00.000Z",
    "duration": 180,
    "trialCall": False,
    "agentTransferOccurred": True,
    "executedCallActions": [
        {
            "actionId": "x1",
            "actionType": "CALL_TRANSFER",
            "actionName": "Transfer",
            "actionParameters": {"transferToValue": "+1"},
            "executedAt": "2026-01-15T10:32:00.000Z",
            "triggerReceivedAt": "2026-01-15T10:31:45.000Z",
        },
        {"_id": "x2", "actionType": "Something_New", "actionName": "New"},
        {"actionType": "CUSTOM_ACTION", "actionParameters": {"apiDetails": {"authenticationValue": "token123"}}},
    ],
    "summary": "Asked.",
    "transcript": "bot:Hello\nhuman:hi",
    "translation": {"language": "es"},
    "extractedData": {"name": "Ñ"},
    "messageId": "m1",
}


def test_a_full_call_log_is_read_into_its_fields() -> None:
    call_log = read(FULL)
    assert (call_log.call_id, call_log.contact_id, call_log.agent_id) == ("6a25186f17a921dd841b287b", "p1", "a1")
    assert call_log.started_at == datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
    assert call_log.ended_at == datetime(2026, 1, 15, 10, 33, tzinfo=UTC)
    assert (call_log.trial_call, call_log.agent_handoff, call_log.agent_deleted) == (False, True, False)
    assert (call_log.summary, call_log.transcript) == ("Asked.", "bot:Hello\nhuman:hi")
    assert (call_log.translation, call_log.extracted_data) == ({"language": "es"}, {"name": "Ñ"})
    assert (call_log.from_number, call_log.message_id) == ("+34600111222", "m1")
    assert call_log.unknown_fields == ()
    transfer, new, custom = call_log.actions
    assert (transfer.action_type, transfer.action_id, transfer.name) == (ActionType.CALL_TRANSFER, "x1", "Transfer")
    assert transfer.executed_at == datetime(2026, 1, 15, 10, 32, tzinfo=UTC)
    assert (new.action_type, new.action_id, new.executed_at) == ("SOMETHING_NEW", "x2", None)
    assert "token123" not in json.dumps([call_log.document, custom.parameters])


def test_the_document_leaves_out_what_has_a_column() -> None:
    assert read(FULL).document == {}
    assert read(FULL | {"traceId": "t1", "novelty": 1, "duration": "long"}).document == {
        "traceId": "t1", "novelty": 1, "duration": "long",
    }  # fmt: skip


@pytest.mark.parametrize(
    "entry",
    [
        "junk", {"novelty": 1}, {"actionParameters": "none"}, {"executedAt": "soon"}, {"actionName": ["x"]},
        {"actionId": "x1", "_id": "x2"}, {"triggerReceivedAt": 7},
    ],
)  # fmt: skip
def test_actions_that_say_more_than_their_columns_keep(entry: Any) -> None:
    entries = [*FULL["executedCallActions"][:2], entry]
    assert read(FULL | {"executedCallActions": entries}).document == {"executedCallActions": entries}


def test_unknown_fields_are_named_and_kept() -> None:
    call_log = read({"id": "c1", "sentiment": "good", "recordingUrl": None})
    assert call_log.unknown_fields == ("recordingUrl", "sentiment")
    assert call_log.document["sentiment"] == "good"


NEVER_READ = {"contactName", "locationId", "traceId", "transcriptWithToolCalls"}
"""Described, and of no column."""


@pytest.mark.parametrize(
    ("transcript", "read_as"),
    [
        ([{"role": "bot", "content": "Hola"}, {"role": "human", "content": "Una cita"}], "bot:Hola\nhuman:Una cita"),
        (
            [{"speaker": "Agent", "text": "Hi \n there"}, {"speaker": "user", "message": "Yes"}],
            "bot:Hi there\nhuman:Yes",
        ),
        ({"turns": [{"role": "assistant", "text": "Hi"}]}, "bot:Hi"),
        ('[{"role": "caller", "content": "Hi"}]', "human:Hi"),
        (["bot: Hi", "human: Yes"], "bot: Hi\nhuman: Yes"),
        ([{"content": "Hi"}], "Hi"),
        ("[inaudible] yes", "[inaudible] yes"),
    ],
)
def test_a_transcript_in_turns_is_read_as_lines(transcript: Any, read_as: str) -> None:
    call_log = read(FULL | {"transcript": transcript})
    assert call_log.transcript == read_as
    assert call_log.unread_fields == ()


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("0:03:25", 205), ("3:25", 205), ("01:00:00.5", 3600.5), ("205", 205), (205.5, 205.5), (None, None), ("", None)],
)
def test_a_length_may_be_clock_text(duration: Any, seconds: float | None) -> None:
    call_log = read(FULL | {"duration": duration})
    assert (call_log.duration_seconds, call_log.unread_fields) == (seconds, ())


@pytest.mark.parametrize("duration", ["long", "3:25:", -1, [205]])
def test_a_length_that_cannot_be_read_is_counted_and_kept(duration: Any) -> None:
    call_log = read(FULL | {"duration": duration})
    assert (call_log.duration_seconds, call_log.unread_fields) == (None, ("duration",))
    assert call_log.document == {"duration": duration}


@pytest.mark.parametrize("how", [json.dumps, lambda actions: actions[0]])
def test_actions_as_json_text_or_as_one_object_are_read_and_redacted(how: Callable[[Any], Any]) -> None:
    action = {
        "actionId": "b1", "actionType": "CUSTOM_ACTION", "actionName": "Ask", "executedAt": "2026-01-15T10:31:00Z",
        "actionParameters": {"apiDetails": {"authenticationValue": "token123"}},
    }  # fmt: skip
    call_log = read(FULL | {"executedCallActions": how([action])})
    assert [each.action_id for each in call_log.actions] == ["b1"]
    assert "token123" not in json.dumps([call_log.document, call_log.actions[0].parameters])


def test_actions_in_a_text_that_cannot_be_read_are_counted() -> None:
    assert read(FULL | {"executedCallActions": "[broken"}).unread_fields == ("executedCallActions",)


def test_the_same_entry_twice_is_one_action_unless_it_tells_no_time() -> None:
    timed = {"actionId": "b1", "actionType": "SMS", "actionParameters": {"a": 1}, "executedAt": "2026-01-15T10:31:00Z"}
    timeless = {"actionId": "b2", "actionType": "SMS"}
    other = timed | {"actionParameters": {"a": 2}}
    call_log = read(FULL | {"executedCallActions": [timed, timeless, timed, other, timeless]})
    assert [(each.action_id, dict(each.parameters)) for each in call_log.actions] == [
        ("b1", {"a": 1}), ("b2", {}), ("b1", {"a": 2}), ("b2", {}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "translation",
    [{"enabled": True, "language": "es"}, {"translatedTranscript": "Hola"}, {"transcript": "Hola", "language": "es"}],
)
def test_every_shape_of_translation_is_kept(translation: dict[str, Any]) -> None:
    assert read(FULL | {"translation": translation}).translation == translation


def test_values_of_wrong_types_count_as_missing_and_stay_in_the_document() -> None:
    wrong = {name: [["wrong"]] for name in KNOWN_FIELDS - {"id"}}
    call_log = read({"id": "c1", **wrong})
    unread = tuple(sorted(wrong.keys() - NEVER_READ))
    assert call_log == CallLog(call_id="c1", source=Source.FETCH, document=wrong, unread_fields=unread)


def test_actions_that_are_no_objects_or_lack_everything_are_tolerated() -> None:
    call_log = read({"id": "c1", "executedCallActions": ["junk", None, {}, {"actionType": " sms ", "actionId": 7}]})
    assert [(action.action_type, action.action_id) for action in call_log.actions] == [("", None), ("SMS", "7")]


@pytest.mark.parametrize(
    "document", [None, [], "c1", {}, {"id": None}, {"id": ""}, {"id": "a/b"}, {"id": "a\x00b"}, {"callId": "c1"}]
)
def test_a_document_without_a_usable_id_is_puzzling_and_its_error_tells_nothing(document: Any) -> None:
    with pytest.raises(UnreadableDocument) as caught:
        read(document)
    assert caught.value.kind == ErrorKind.PUZZLING
    assert str(caught.value) == "Leadway: puzzling"


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-15T10:30:00.000Z",
        "2026-01-15T10:30:00Z",
        "2026-01-15T12:30:00+02:00",
        "2026-01-15T05:00:00-0530",
        "2026-01-15T10:30:00",
        "2026-01-15 10:30:00",
        " 2026-01-15T10:30:00.000000000Z ",
        1768473000,
        1768473000.0,
        1768473000000,
        "1768473000",
        "1768473000000",
    ],
)
def test_a_time_of_any_known_shape_is_that_instant_in_utc(value: Any) -> None:
    moment = read_time(value)
    assert moment == datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
    assert moment is not None
    assert moment.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "value", [None, True, "", "soon", [], {}, 0, -1, 1e300, float("nan"), "0001-01-01T00:00:00+14:00", "9" * 400]
)
def test_what_is_no_plausible_time_is_none(value: Any) -> None:
    assert read_time(value) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(180, 180), (18.5, 18.5), ("180", 180), ("18.5", 18.5), (0, 0), (-1, None), (True, None), (1e300, None)],
)
def test_a_duration_is_a_number_of_seconds_also_as_text(value: Any, seconds: float | None) -> None:
    assert read({"id": "c1", "duration": value}).duration_seconds == seconds


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "inf", "", "3 min", 10**400, None, [], {}])
def test_what_is_no_number_is_no_duration(value: Any) -> None:
    assert read({"id": "c1", "duration": value}).duration_seconds is None


@pytest.mark.parametrize(("value", "trial"), [(True, True), ("true", True), (1, True), ("yes", False), (None, False)])
def test_a_trial_call_is_one_that_says_so(value: Any, trial: bool) -> None:
    assert read({"id": "c1", "trialCall": value}).trial_call is trial


def rows(count: int) -> list[dict[str, str]]:
    return [{"id": f"c{n}"} for n in range(count)]


@pytest.mark.parametrize(
    ("answer", "total", "is_empty"),
    [
        ({"callLogs": rows(2), "total": 2}, 2, False),
        ({"callLogs": rows(1), "totalRecords": "1"}, 1, False),
        ({"callLogs": rows(1)}, None, False),
        ({"callLogs": rows(1), "total": -1}, None, False),
        ({"callLogs": [], "total": 9}, 9, True),
        ({"callLogs": [], "total": "many", "page": 1}, None, True),
    ],
)
def test_a_page_tells_its_rows_and_the_total_of_the_list(answer: Any, total: int | None, is_empty: bool) -> None:
    page = read_list_page(answer, page=1, redaction_key=b"k")
    assert (page.total, page.is_empty, page.refused) == (total, is_empty, ())
    assert all(row.source is Source.LIST for row in page.rows)


def test_times_without_a_zone_are_read_in_the_accounts_and_counted() -> None:
    action = {"actionType": "SMS", "executedAt": "2026-07-01 10:00:00", "triggerReceivedAt": "2026-07-01T08:00:00Z"}
    log = {"id": "c1", "createdAt": "2026-01-16T11:00:00", "executedCallActions": [action]}
    found = read_call_log(log, source=Source.LIST, redaction_key=b"k", zone=ZoneInfo("Europe/Madrid"))
    assert found.zoneless_times == 2
    assert found.started_at == datetime(2026, 1, 16, 10, tzinfo=UTC)
    assert found.actions[0].executed_at == found.actions[0].trigger_received_at == datetime(2026, 7, 1, 8, tzinfo=UTC)
    assert read({**log, "createdAt": 1768561200, "executedCallActions": []}).zoneless_times == 0


@pytest.mark.parametrize("missing", ["createdAt", "duration", "transcript", "executedCallActions"])
def test_a_row_that_lacks_what_every_log_has_is_partial(missing: str) -> None:
    whole = {"id": "c1", "createdAt": None, "duration": 0, "transcript": "", "executedCallActions": None}
    assert not read(whole).is_partial
    assert read({name: value for name, value in whole.items() if name != missing}).is_partial


@pytest.mark.parametrize("answer", [None, [], {}, {"callLogs": {}}, {"callLogs": [], "page": 2}])
def test_a_page_that_is_none_or_another_is_puzzling(answer: Any) -> None:
    with pytest.raises(UnreadableDocument):
        read_list_page(answer, page=1, redaction_key=b"k")


def test_an_appointment_without_zones_says_so() -> None:
    event = {"id": "e1", "calendarId": "k1", "title": " Visit ", "appointmentStatus": "Confirmed", "contactId": "p1"}
    times = {"startTime": "2026-01-16 11:00:00", "dateAdded": "2026-01-15 10:00:00"}
    appointment = read_appointment(event | times)
    assert appointment.zoneless == {"starts_at", "added_at"}
    assert appointment.starts_at == datetime(2026, 1, 16, 11, tzinfo=UTC)
    assert (appointment.title, appointment.status, appointment.calendar_id) == ("Visit", "confirmed", "k1")


def test_an_appointment_with_offsets_is_exact() -> None:
    appointment = read_appointment({"id": "e1", "startTime": "2026-01-16T11:00:00+05:30", "dateAdded": None})
    assert (appointment.starts_at, appointment.added_at) == (datetime(2026, 1, 16, 5, 30, tzinfo=UTC), None)
    assert appointment.zoneless == frozenset()


keys = st.one_of(st.sampled_from(sorted(KNOWN_FIELDS | {"actionType", "actionParameters", "body", "_id"})), st.text())
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),
    st.datetimes().map(str),
    st.sampled_from(["1e400", "0", "c1", 10**400, "\x00", "\ud800"]),
)
values = st.recursive(leaves, lambda v: st.one_of(st.lists(v), st.dictionaries(keys, v)), max_leaves=20)
call_logs = st.builds(lambda document, call_id: document | {"id": call_id}, st.dictionaries(keys, values), values)


@given(st.one_of(call_logs, values))
def test_any_json_is_a_storable_call_log_or_unreadable(document: Any) -> None:
    try:
        call_log = read(document)
    except UnreadableDocument:
        return
    parts = [call_log.document, call_log.extracted_data, call_log.translation, list(call_log.unknown_fields)]
    parts += [call_log.summary, call_log.transcript, call_log.from_number]
    parts += [[action.parameters, action.name, action.action_type] for action in call_log.actions]
    assert "\\u0000" not in json.dumps(parts, allow_nan=False)
    json.dumps(parts, ensure_ascii=False).encode()
    assert call_log.ended_at is None or call_log.ended_at.tzinfo is UTC


@given(st.one_of(values, st.dictionaries(st.sampled_from(["id", "body", "title", "startTime", "dateAdded"]), values)))
def test_any_json_is_a_note_a_task_an_appointment_or_unreadable(document: Any) -> None:
    for reader in (read_note, read_task, read_appointment):
        for wrapped in (document, {"list": [document]}):
            try:
                read_whole_list(wrapped, "list", read=reader)  # type: ignore[arg-type]
            except UnreadableDocument:
                continue


@given(st.one_of(values, st.fixed_dictionaries({"callLogs": st.one_of(values, st.lists(call_logs)), "total": values})))
def test_any_json_is_a_page_or_unreadable(document: Any) -> None:
    try:
        page = read_list_page(document, page=1, redaction_key=b"k")
    except UnreadableDocument:
        return
    assert page.length == len(document["callLogs"])

"""The trace that refused notifications leave for whoever sets up the webhook."""

import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

from models.intake import rejection_counts
from models.intake.reasons import Reason
from tests.leadway_double.notifications import Dialect, Proof
from tests.support.waiting import eventually
from tests.webhook.conftest import PATH, Intake


def test_refusals_are_counted_per_reason_and_hour(intake: Intake) -> None:
    for _ in range(3):
        intake.send(b"{}", {})
    intake.post(intake.message(proof=Proof.FORGED))
    intake.receiver.rejection_counter.write()
    intake.send(b"{}", {})
    intake.receiver.rejection_counter.write()

    with intake.database.reading() as connection:
        rows = rejection_counts.since(connection, datetime.now(UTC) - timedelta(hours=2))
    found: Counter[str] = Counter()
    for row in rows:  # of two hours, where one just ended
        found[row.reason] += row.number
    assert found == {Reason.CREDENTIALS_MISSING: 4, Reason.SIGNATURE_INVALID: 1}


def test_they_are_written_by_themselves_within_seconds(intake: Intake) -> None:
    intake.send(b"{}", {})

    assert eventually(lambda: intake.rows("rejection_counts"))[0]["number"] == 1


def test_the_trace_tells_which_credentials_were_there_and_nothing_of_what_was_sent(intake: Intake) -> None:
    call = intake.double.place_call(contact=True)
    forged = intake.message(call, proof=Proof.FORGED)
    intake.post(forged)
    intake.send(b'{"callId": "call-1", "full_name": "Ana Ruiz"}', {"X-Intake-Secret": "mistyped-secret"})
    intake.send(b"{}", {}, path=f"{PATH}/mistyped-in-the-path")
    intake.post(intake.message(call, dialect=Dialect.FLAT, proof=Proof.TAMPERED))
    intake.receiver.rejection_counter.write()

    rows = {row["reason"]: row for row in intake.rows("rejection_counts")}
    trace = _as_object(rows[Reason.INTAKE_SECRET_UNKNOWN]["trace"])
    assert set(trace) == {"at", "bytes", "content_type", "credentials"}
    assert _as_object(rows[Reason.SIGNATURE_INVALID]["trace"])["credentials"] == ["X-GHL-Signature"]
    written = json.dumps(list(rows.values()), default=str)
    for said in ("mistyped", "Ana Ruiz", call.call_id, forged.headers["X-GHL-Signature"]):
        assert said not in written


def test_a_content_type_that_no_database_can_hold_hides_no_refusals(intake: Intake) -> None:
    intake.send(b"{}", {"Content-Type": "text/plain"})
    intake.receiver.rejection_counter.count(Reason.NOT_JSON, headers={"Content-Type": "a\x00b\ud800" * 100}, size=None)
    intake.receiver.rejection_counter.write()

    assert {row["reason"] for row in intake.rows("rejection_counts")} == {Reason.CREDENTIALS_MISSING, Reason.NOT_JSON}


def test_a_flood_of_refusals_starts_one_timer(intake: Intake) -> None:
    before = threading.active_count()
    for _ in range(200):
        intake.receiver.rejection_counter.count(Reason.CREDENTIALS_MISSING, headers={}, size=1)

    assert threading.active_count() <= before + 1
    intake.receiver.rejection_counter.write()
    assert intake.only_row("rejection_counts")["number"] == 200


def _as_object(trace: object) -> dict[str, object]:
    """Plain SQL gives JSON as text on SQLite."""
    found = json.loads(trace) if isinstance(trace, str) else trace
    assert isinstance(found, dict)
    return found

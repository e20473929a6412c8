"""After the retention time people's words are gone, the rows stay, and nothing brings the words back."""

from datetime import timedelta
from typing import Any

from models import retention
from models.calls.calls import Origin
from models.intake.notifications import NotificationStatus
from models.work.work_rows import Lane
from tests.support.rows import arrive, write
from tests.support.worker import AtWork
from workers.prune_expired import prune_expired

DAY = 86_400.0
WORDS = ("summary", "transcript", "translation", "extracted_data", "document", "from_number")


def notify(at_work: AtWork, key: str, **values: Any) -> None:
    arrive(
        at_work.database, key, location_id=at_work.location_id, from_number="+15550100", document={"id": key}, **values
    )  # fmt: skip


def told(at_work: AtWork) -> tuple[str, list[Any]]:
    """A call with its note written, and all that is left of its words."""
    call = at_work.fetched(actions=["CALL_TRANSFER"], duration=60, ago=29 * 3600)
    notify(at_work, call.call_id, call_id=call.call_id, status=NotificationStatus.ACCEPTED)
    [row] = at_work.follow_ups_of(call)
    at_work.send(row.follow_up_id)
    return call.call_id, words_left(at_work)


def words_left(at_work: AtWork) -> list[Any]:
    left = [row[name] for row in at_work.rows("calls") for name in WORDS]
    left += [row["parameters"] for row in at_work.rows("call_actions")]
    left += [row[name] for row in at_work.rows("follow_ups") for name in ("body", "title")]
    left += [row[name] for row in at_work.rows("notifications") for name in ("document", "from_number")]
    return [each for each in left if each]


def grow_old(at_work: AtWork, days: float) -> None:
    at_work.time_passes(days * DAY)
    for row in at_work.rows("calls"):
        if row["started_at"] is not None:
            at_work.change_call(row["call_id"], started_at=row["started_at"] - timedelta(days=days))


def test_without_a_retention_time_everything_is_kept(at_work: AtWork) -> None:
    _, words = told(at_work)
    grow_old(at_work, 5000)
    prune_expired()
    assert words_left(at_work) == words != []


def test_words_go_after_the_retention_time_not_before_and_rows_stay(at_work: AtWork) -> None:
    at_work.settings.leadway_retention_days = 30
    call_id, words = told(at_work)
    grow_old(at_work, 28)
    prune_expired()
    assert words_left(at_work) == words
    grow_old(at_work, 2.1)
    prune_expired()
    assert not words_left(at_work)
    row = at_work.call(call_id)
    assert (row.status, row.contact_id is not None, row.duration_seconds) == ("complete", True, 60)
    [follow_up] = at_work.follow_ups_of(call_id)
    assert (follow_up.status, follow_up.remote_id is not None) == ("done", True)
    assert len(at_work.rows("call_actions")) == len(at_work.rows("notifications")) == 1


def test_neither_a_notification_nor_a_listing_brings_the_words_back(at_work: AtWork) -> None:
    at_work.settings.leadway_retention_days = 30
    call_id, _ = told(at_work)
    grow_old(at_work, 31)
    prune_expired()
    at_work.announce(call_id)
    at_work.announce(call_id, origin=Origin.RECONCILE, lane=Lane.RECONCILED)
    at_work.fetch(call_id)
    assert not words_left(at_work)
    assert len(at_work.requests("fetch")) == 1
    assert len(at_work.double.truth.notes()) == 1


def test_a_call_that_is_still_waiting_keeps_its_words(at_work: AtWork) -> None:
    at_work.settings.leadway_retention_days = 30
    call = at_work.double.place_call(empty_for=90 * DAY, contact=True)
    at_work.announce(call)
    at_work.fetch(call)
    grow_old(at_work, 31)
    prune_expired()
    assert at_work.call(call).document is not None


def test_notifications_of_no_call_lose_their_words_too(at_work: AtWork) -> None:
    at_work.settings.leadway_retention_days = 30
    notify(at_work, "unresolved", call_id=None, status=NotificationStatus.UNRESOLVED)
    notify(at_work, "ignored", call_id="never-stored", status=NotificationStatus.IGNORED)
    prune_expired()
    assert len(words_left(at_work)) == 4
    at_work.time_passes(31 * DAY)
    prune_expired()
    assert not words_left(at_work)
    assert {row["status"] for row in at_work.rows("notifications")} == {"unresolved", "ignored"}


def test_a_call_is_not_emptied_while_its_note_is_owed_or_unclear(at_work: AtWork) -> None:
    call = at_work.fetched(actions=["CALL_TRANSFER"], ago=DAY)
    [owed] = at_work.follow_ups_of(call)
    at_work.double.fault("create_note", "reset", times=1)
    at_work.change_call(call, first_heard_at=at_work.call(call).first_heard_at - timedelta(days=40))
    at_work.change_call(call, started_at=at_work.call(call).started_at - timedelta(days=40))
    assert write(at_work.database, retention.empty_calls, days=30) == 0
    at_work.send(owed.follow_up_id)
    assert write(at_work.database, retention.empty_calls, days=30) == 0
    while at_work.follow_up(owed.follow_up_id).status != "done":
        at_work.send_when_due(owed.follow_up_id)
    assert write(at_work.database, retention.empty_calls, days=30) == 1

"""The truth about the webhook: how many calls it announced, when that is too few, and the likely cause."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from models.calls import storing
from models.calls.calls import Origin, calls_table
from models.calls.storing import ReadByClaim, Reading
from models.database import Database, now
from models.intake import rejection_counts
from models.intake.notifications import NotificationStatus
from models.reconciling import webhook_coverage
from models.reconciling.webhook_coverage import AlarmCause
from models.work.work_rows import Request
from tests.support.rows import LOCATION, arrive, call_log, read, write

DAY = 86_400.0


def known(
    database: Database, *, announced: int = 0, unannounced: int = 0, ago: float = 3600.0, origin: Origin | None = None
) -> None:
    """Calls that began `ago` seconds ago and were listed then; each a second after the one before."""
    with database.transaction() as connection:
        at = now(connection)
        number = connection.execute(sa.select(sa.func.count()).select_from(calls_table)).scalar_one()
        readings = []
        for position in range(announced + unannounced):
            began = at + timedelta(seconds=position - ago)
            is_announced = position < announced
            came_by = origin or (Origin.NOTIFICATION if is_announced else Origin.RECONCILE)
            request = Request(began, began if is_announced else None, came_by, wants_follow_ups=True)
            readings.append(Reading(call_log(f"call-{number + position}", started_at=began), request))
        storing.store(connection, [ReadByClaim(LOCATION, readings, fence=1, read_at=at, time_zone="UTC")])


def judge(database: Database) -> AlarmCause | None:
    return read(database, webhook_coverage.judge, LOCATION)


def test_a_webhook_that_announces_nearly_every_call_is_well(database: Database) -> None:
    known(database, announced=40, unannounced=3)
    assert judge(database) is None


def test_calls_that_nobody_announced_are_an_alarm(database: Database) -> None:
    known(database, announced=10)
    known(database, unannounced=4, ago=1800)
    assert judge(database) is AlarmCause.NEVER_ARRIVED


def test_the_alarm_ends_when_the_newest_calls_are_announced_again(database: Database) -> None:
    known(database, unannounced=30)
    known(database, announced=4, ago=1800)
    assert judge(database) is not None
    known(database, announced=1, ago=900)
    assert judge(database) is None


def test_a_few_calls_backfilled_calls_and_calls_of_a_moment_ago_are_no_alarm(database: Database) -> None:
    known(database, unannounced=2)
    known(database, unannounced=20, origin=Origin.BACKFILL)
    known(database, unannounced=20, ago=60)
    known(database, unannounced=20, ago=2 * DAY)
    assert judge(database) is None


@pytest.mark.parametrize(
    ("refused", "cause"),
    [
        ("intake_secret_unknown", AlarmCause.WRONG_SECRET),
        ("signature_invalid", AlarmCause.REFUSED),
        ("cannot_write_down", AlarmCause.NOT_WRITTEN_DOWN),
        ("event_type_not_wanted", AlarmCause.NEVER_ARRIVED),
    ],
)
def test_what_was_refused_tells_the_likely_cause(database: Database, refused: str, cause: AlarmCause) -> None:
    known(database, unannounced=5)
    write(database, rejection_counts.count, refused, number=3, trace={})
    assert judge(database) is cause
    assert cause.sentence


def test_notifications_without_a_call_id_tell_it_too(database: Database) -> None:
    known(database, unannounced=5)
    arrive(database, "one", status=NotificationStatus.UNRESOLVED, reason="unresolved_merge_tag")
    assert judge(database) is AlarmCause.WITHOUT_CALL_ID


def test_the_alarm_is_raised_once_and_status_can_tell_it(database: Database) -> None:
    known(database, announced=1, unannounced=5)
    with database.transaction() as connection:
        assert webhook_coverage.set_alarm(connection, LOCATION, AlarmCause.REFUSED)
        assert not webhook_coverage.set_alarm(connection, LOCATION, AlarmCause.REFUSED)
        told = webhook_coverage.of_account(connection, LOCATION)
        assert (told.alarm, told.calls_in_the_last_day, told.unannounced_in_the_last_day) == (AlarmCause.REFUSED, 6, 5)
        assert told.alarm_since is not None
        assert webhook_coverage.set_alarm(connection, LOCATION, None)
        assert webhook_coverage.of_account(connection, LOCATION).alarm is None

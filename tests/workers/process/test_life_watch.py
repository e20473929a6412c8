"""A database that forgot: what the workers notice, and that no note is written twice because of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from models.work import life
from models.work.life import Cause, Life
from tests.support.copies import Copy
from tests.support.rows import read
from tests.support.worker import AtWork, reconcile, was_served_since
from workers.process.connections import open_connections


class Disaster:
    """A worker whose database is copied, and restored while the worker is down."""

    def __init__(self, at_work: AtWork, folder: Path) -> None:
        self.at_work, self._folder = at_work, folder
        self.copy: Copy

    def back_up(self) -> None:
        self.at_work.this.close()
        self.copy = Copy(self.at_work.settings.database_url, self._folder)
        self.start_worker()

    def restore(self, *, lose_redis: bool = False, lose_host: bool = False) -> None:
        self.at_work.this.life_watch.carry_out()
        self.at_work.this.close()
        self.copy.restore()
        if lose_redis:
            self.lose_redis()
        if lose_host:
            self.lose_host()
        self.start_worker()

    def lose_redis(self) -> None:
        self.at_work.this.redis.flushall()

    def lose_host(self) -> None:
        for file in Path("var").glob("greatest-fence-*"):
            file.unlink()

    def start_worker(self) -> None:
        self.at_work.this = open_connections(self.at_work.settings, worker="worker-1")

    def life(self) -> Life:
        """After a transaction, which a new connection begins with a look at it."""
        self.at_work.database.transact(lambda connection: connection.execute(sa.text("SELECT 1")))
        return read(self.at_work.database, life.current)


@pytest.fixture
def disaster(at_work: AtWork, tmp_path: Path) -> Iterator[Disaster]:
    made = Disaster(at_work, tmp_path)
    yield made
    if hasattr(made, "copy"):
        at_work.this.close()
        made.copy.drop()


def test_a_note_that_a_restored_database_forgot_is_found_and_not_written_again(disaster: Disaster) -> None:
    at_work = disaster.at_work
    owed = at_work.owed()
    disaster.back_up()
    assert at_work.send(owed).status == "done"
    disaster.restore()
    assert at_work.send_when_due(owed).status == "unclear"
    assert at_work.send_when_due(owed).status == "done"
    assert len(at_work.notes(owed)) == 1
    assert disaster.life().cause == Cause.FENCES_BEHIND


def test_a_call_that_a_restored_database_forgot_is_listed_again_and_its_note_is_not_doubled(disaster: Disaster) -> None:
    at_work = disaster.at_work
    was_served_since(at_work, 3600.0)
    disaster.back_up()
    owed = at_work.owed()
    assert at_work.send(owed).status == "done"
    disaster.restore()
    assert disaster.life().number == 1
    [account] = at_work.rows("accounts")
    assert at_work.seconds_until(account["next_reconcile_at"]) <= 0
    reconcile(at_work)
    assert at_work.send_when_due(owed).status == "unclear"
    assert at_work.send_when_due(owed).status == "done"
    assert len(at_work.notes(owed)) == 1


def test_a_note_that_was_not_written_before_the_restore_is_written_after_two_looks(disaster: Disaster) -> None:
    at_work = disaster.at_work
    owed = at_work.owed()
    disaster.back_up()
    at_work.fetched()  # what makes the outside copies greater than the restored database's fences
    disaster.restore()
    looks = [at_work.send_when_due(owed).status for _ in range(3)]
    assert looks == ["unclear", "unclear", "done"]
    assert len(at_work.requests("list_notes")) == 2
    assert len(at_work.notes(owed)) == 1


def test_an_unclear_note_of_a_restored_database_is_looked_for_anew(disaster: Disaster) -> None:
    """The restored row says that it was absent once, and the note was written after the backup."""
    at_work = disaster.at_work
    owed = at_work.owed()
    at_work.double.fault("create_note", "reset", times=1)
    at_work.send(owed)
    assert at_work.send_when_due(owed).absences == 1
    disaster.back_up()
    assert at_work.send_when_due(owed).status == "done"
    disaster.restore()
    at_work.make_due(owed)
    assert at_work.send(owed).absences == 0
    assert at_work.send_when_due(owed).status == "done"
    assert len(at_work.notes(owed)) == 1


def test_a_call_of_the_new_life_gets_its_note_at_once(disaster: Disaster) -> None:
    at_work = disaster.at_work
    disaster.back_up()
    at_work.fetched()
    disaster.restore()
    assert disaster.life().number == 1
    at_work.time_passes(600)
    later = at_work.owed()
    assert at_work.send(later).status == "done"


@pytest.mark.parametrize("lost", [{"lose_redis": True}, {"lose_host": True}], ids=["Redis", "the host's file"])
def test_either_copy_outside_is_enough_to_notice(disaster: Disaster, lost: dict[str, bool]) -> None:
    disaster.back_up()
    disaster.at_work.fetched()
    disaster.restore(**lost)
    assert disaster.life().cause == Cause.FENCES_BEHIND


def test_without_any_copy_outside_a_database_with_follow_ups_is_not_trusted(disaster: Disaster) -> None:
    disaster.at_work.owed()
    disaster.back_up()
    disaster.restore(lose_redis=True, lose_host=True)
    assert disaster.life().cause == Cause.NOT_KNOWN_OUTSIDE


def test_a_restart_begins_no_life_and_neither_does_a_wiped_redis(disaster: Disaster) -> None:
    disaster.at_work.owed()
    disaster.at_work.this.life_watch.carry_out()
    disaster.lose_redis()
    disaster.at_work.this.close()
    disaster.start_worker()
    assert disaster.life().cause == Cause.CREATED


def test_an_empty_database_begins_no_life_however_little_is_known_outside(disaster: Disaster) -> None:
    disaster.lose_redis()
    disaster.at_work.this.close()
    disaster.start_worker()
    assert disaster.life().number == 0


def test_a_restore_under_a_running_worker_is_noticed_by_its_tick(disaster: Disaster) -> None:
    at_work = disaster.at_work
    disaster.back_up()
    at_work.fetched()
    disaster.copy.restore()
    at_work.this.life_watch.look(at_work.database)
    assert read(at_work.database, life.current).number == 1


def test_of_two_workers_that_notice_one_begins_the_life(disaster: Disaster) -> None:
    at_work = disaster.at_work
    disaster.back_up()
    at_work.fetched()
    disaster.restore()
    for _ in range(2):
        at_work.this.life_watch.look(at_work.database)
    assert disaster.life().number == 1


def test_fences_of_a_new_life_are_greater_than_all_before(disaster: Disaster) -> None:
    at_work = disaster.at_work
    disaster.back_up()
    before = at_work.fetched()
    fence = at_work.this.greatest_fence.number
    disaster.restore()
    disaster.life()
    at_work.announce(before)
    at_work.fetch(before)
    assert at_work.this.greatest_fence.number > fence


def test_a_process_that_ends_before_the_fences_are_moved_leaves_that_to_the_next(disaster: Disaster) -> None:
    at_work = disaster.at_work
    at_work.database.transact(lambda connection: life.begin(connection, life.current(connection), Cause.PERSON))
    disaster.at_work.this.close()
    disaster.start_worker()
    disaster.life()
    at_work.fetched()
    assert at_work.this.greatest_fence.number > 1 << 40


def test_a_note_of_a_call_that_became_known_late_is_looked_for_once(at_work: AtWork) -> None:
    owed = at_work.owed(ago=1800.0)
    assert at_work.send(owed).status == "done"
    assert [each.kind for each in at_work.requests("list_notes", "create_note")] == ["list_notes", "create_note"]


def test_the_file_of_a_host_never_goes_back(at_work: AtWork) -> None:
    at_work.fetched()
    at_work.this.life_watch.carry_out()
    [file] = Path("var").glob("greatest-fence-*")
    written = file.read_bytes()
    beside = open_connections(at_work.settings, worker="worker-2")
    beside.greatest_fence.database_id = at_work.this.greatest_fence.database_id
    beside.greatest_fence.saw(1)
    beside.life_watch.carry_out()
    beside.close()
    assert file.read_bytes() == written

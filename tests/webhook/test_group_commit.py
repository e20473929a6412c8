"""Group commit: what waits is written together, and each handler learns what became of its own row."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import OperationalError

from models.intake.notifications import Arrival, NotificationStatus
from tests.support.waiting import eventually
from webhook.group_commit import DEAD_WRITER, ROWS_AT_ONCE, GroupCommit


def arrival(name: str) -> Arrival:
    return Arrival(name, f"key of {name}", "thin", "intake_path", NotificationStatus.ACCEPTED)


class Sink:
    """What is written, batch by batch; `gate` holds a batch up."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.aside: list[str] = []
        self.fails: Callable[[Sequence[str]], Exception | None] = lambda names: None
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.gate.set()

    def put_all(self, arrivals: Sequence[Arrival]) -> set[str]:
        names = [each.arrival_id for each in arrivals]
        self.begun.set()
        assert self.gate.wait(30)
        if error := self.fails(names):
            raise error
        self.batches.append(names)
        return {name for name in names if name.startswith("repeat")}

    def quarantine(self, one: Arrival, error: Exception) -> None:
        self.aside.append(one.arrival_id)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def writer(sink: Sink) -> Iterator[GroupCommit]:
    opened = GroupCommit(sink.put_all, quarantine=sink.quarantine, name="test writer")
    yield opened
    sink.gate.set()
    opened.stop()


def written(writer: GroupCommit, names: Sequence[str], *, seconds: float = 30) -> list[bool | Exception]:
    """What each of so many handlers at once is told."""

    def write(name: str) -> bool | Exception:
        try:
            return writer.write(arrival(name), seconds=seconds)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(names)) as handlers:
        return list(handlers.map(write, names))


def test_a_lone_row_is_written_at_once(writer: GroupCommit, sink: Sink) -> None:
    assert writer.write(arrival("one"), seconds=30) is False
    assert sink.batches == [["one"]]


def test_what_comes_while_a_batch_is_written_is_the_next_batch(writer: GroupCommit, sink: Sink) -> None:
    sink.gate.clear()
    names = [str(number) for number in range(ROWS_AT_ONCE + 50)]
    with ThreadPoolExecutor(2) as crowds:
        first = crowds.submit(written, writer, ["first"])
        assert sink.begun.wait(30)
        rest = crowds.submit(written, writer, names)
        eventually(lambda: len(writer._waiting) == len(names), timeout=30)
        sink.gate.set()
        assert first.result() + rest.result() == [False] * (len(names) + 1)
    assert [len(batch) for batch in sink.batches] == [1, ROWS_AT_ONCE, 50]


def test_a_repeat_is_told_to_the_handler_that_brought_it(writer: GroupCommit) -> None:
    assert written(writer, ["one", "repeat"]) == [False, True]


def test_a_failure_of_the_database_is_told_to_everyone_and_the_next_row_is_tried_anew(
    writer: GroupCommit, sink: Sink
) -> None:
    sink.fails = lambda names: OperationalError("", None, Exception())
    assert {type(each) for each in written(writer, ["one", "two"])} == {OperationalError}
    assert sink.aside == []
    sink.fails = lambda names: None
    assert writer.write(arrival("three"), seconds=30) is False


def test_a_row_that_is_refused_by_itself_is_set_aside_and_the_others_are_written(
    writer: GroupCommit, sink: Sink
) -> None:
    sink.fails = lambda names: ValueError() if "bad" in names else None
    assert written(writer, ["one", "bad", "two"]) == [False, False, False]
    assert sink.aside == ["bad"]
    assert sorted(name for batch in sink.batches for name in batch) == ["one", "two"]


def test_a_row_that_waited_too_long_is_withdrawn_unless_the_writer_has_begun_with_it(
    writer: GroupCommit, sink: Sink
) -> None:
    sink.gate.clear()
    assert [type(each) for each in written(writer, ["begun"], seconds=0.05)] == [TimeoutError]
    assert [type(each) for each in written(writer, ["waits"], seconds=0.05)] == [TimeoutError]
    assert writer.hangs_for() > 0.09
    sink.gate.set()
    assert writer.write(arrival("later"), seconds=30) is False
    assert sink.batches == [["begun"], ["later"]]
    assert eventually(lambda: writer.hangs_for() == 0)


def test_a_writer_that_dies_ends_its_process() -> None:
    program = """
from models.intake.notifications import Arrival, NotificationStatus
from webhook.group_commit import GroupCommit

def dies(arrivals):
    raise SystemExit

writer = GroupCommit(dies, quarantine=print, name="dying")
writer.write(Arrival("one", "key", "thin", "intake_path", NotificationStatus.ACCEPTED), seconds=30)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == DEAD_WRITER

"""Counters of ended processes are folded into one file: nothing is counted twice, and nothing goes down."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from tests.support.processes import ROOT
from tests.support.waiting import eventually
from workers.telemetry.shared_counters import SharedCounters

STARTS = 60
AT_ONCE = 4
CALLS = 'leadway_enqueued_total{work="call"}'
SECONDS = "leadway_budget_wait_seconds_sum"
BEGINS = """
import os, signal, sys
from pathlib import Path
from models.settings import Settings
from workers.telemetry.metrics_files import share_counters
def begin():
    global metrics
    share_counters(Settings(metrics_dir=Path("shared")))
    from workers.telemetry import metrics
def count(number=1, seconds=0.1):
    metrics.ENQUEUED.labels("call").inc(number)
    metrics.BUDGET_WAIT_SECONDS.observe(seconds)
"""
PROCESS = BEGINS + "begin()\n"
COUNTS = PROCESS + "count()\nmetrics.WEBHOOK_ALARM.labels('L1').set(1)"
COUNTS_WHEN_TOLD = PROCESS + "for line in sys.stdin:\n    count()\n    print(flush=True)"


MANY_STARTS = """
for first in range(0, int(sys.argv[1]), 4):
    children = []
    for number in range(first, first + 4):
        child = os.fork()
        if child:
            children.append(child)
            continue
        begin()
        count()
        metrics.WEBHOOK_ALARM.labels("L1").set(number)
        os.kill(os.getpid(), signal.SIGKILL if number % 3 else signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)
    print(len(os.listdir("shared")))
"""
"""Each child begins as an entry point does; that they are forked spares them the imports."""


def test_many_starts_leave_one_file_of_ended_processes_and_every_count_in_it(tmp_path: Path) -> None:
    left = [int(line) for line in _run(tmp_path, BEGINS + MANY_STARTS, str(STARTS))]
    assert len(left) == STARTS / AT_ONCE
    assert max(left) <= 4 * 2 * AT_ONCE + 2, "those that ended just now, and one file for all others"
    told = _scraped(tmp_path)

    assert _value(told, CALLS) == STARTS
    assert _value(told, "leadway_budget_wait_seconds_count") == STARTS
    assert _value(told, 'leadway_budget_wait_seconds_bucket{le="0.05"}') == 0
    assert _value(told, 'leadway_budget_wait_seconds_bucket{le="0.1"}') == STARTS
    assert _value(told, 'leadway_budget_wait_seconds_bucket{le="+Inf"}') == STARTS
    assert _value(told, SECONDS) == _value(_scraped(tmp_path), SECONDS) >= STARTS * 0.1
    assert _value(told, 'leadway_webhook_alarm{location_id="L1"}') >= STARTS - AT_ONCE, "the one that was set last"
    assert _files(tmp_path) == ["ended.json", "fold.lock"]


def test_a_gauge_of_an_earlier_release_is_told_no_more(tmp_path: Path) -> None:
    """By two, one of which lives still: `leadway_complete_until_timestamp_seconds` comes from the database now."""
    gauge = """
from prometheus_client import Gauge
name = "leadway_complete_until_timestamp_seconds"
Gauge(name, "Watermark.", ["location_id"], multiprocess_mode="mostrecent").labels("L1").set(1)
"""
    _run(tmp_path, COUNTS + gauge)
    with _counting(tmp_path, PROCESS + gauge + "for line in sys.stdin:\n    count()\n    print(flush=True)") as living:
        _count(living)
        told = _scraped(tmp_path)
    assert _value(told, CALLS) == 2
    assert "complete_until" not in told


def test_a_process_that_lives_goes_on_counting_into_its_own_files(tmp_path: Path) -> None:
    with _counting(tmp_path) as living:
        for number in range(1, 4):
            _count(living)
            _run(tmp_path, COUNTS)
            assert _value(_scraped(tmp_path), CALLS) == 2 * number
        living.kill()
        living.wait()
        assert _value(_scraped(tmp_path), CALLS) == 6
    assert _files(tmp_path) == ["ended.json", "fold.lock"]


def test_a_forked_process_counts_for_itself_and_outlives_its_parent(tmp_path: Path) -> None:
    forks = """
count(10)
child = os.fork()
if child:
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
for line in sys.stdin:
    count()
    os.close(1)
"""
    with _counting(tmp_path, PROCESS + forks) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        child = int(parent.stdout.readline())
        parent.wait(10)

        def the_parents_are_folded() -> bool:
            assert _value(_scraped(tmp_path), CALLS) == 10
            return not [name for name in _files(tmp_path) if f"{parent.pid}-" in name]

        eventually(the_parents_are_folded, describe="the child to let go of its parent's lock")
        parent.stdin.write("count\n")
        parent.stdin.flush()
        parent.stdout.read()
        assert _value(_scraped(tmp_path), CALLS) == 11
        assert [name for name in _files(tmp_path) if f"{child}-" in name]
    eventually(lambda: _files(tmp_path) and not Path(f"/proc/{child}").exists())
    assert _value(_scraped(tmp_path), CALLS) == 11


KILLED_AT_EACH_STEP = """
import os, shutil, signal, sys
from pathlib import Path
from workers.telemetry.shared_counters import fold
STEPS = ("open", "os.rename", "os.remove")
whole, broken = Path("shared"), Path("broken")
for step in range(1, 1000):
    shutil.copytree(whole, broken / str(step))
    child = os.fork()
    if not child:
        left = step
        def kill_at_step(event, arguments):
            global left
            if event in STEPS:
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(kill_at_step)
        fold(broken / str(step))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def test_a_fold_that_is_killed_before_any_of_its_steps_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """A step: each file that is opened, renamed or removed."""
    for _ in range(2):  # with something that was folded before
        for process in [_started(tmp_path, COUNTS) for _ in range(2)]:
            process.communicate(timeout=60)
    assert _value(_scraped(_copy(tmp_path)), CALLS) == 4
    assert len(_files(tmp_path)) > 2
    _run(tmp_path, KILLED_AT_EACH_STEP)

    steps = sorted((tmp_path / "broken").iterdir(), key=lambda step: int(step.name))
    left = {len(os.listdir(step)) for step in steps}
    assert len(left) > 4, "it was killed while it removed files, too"
    for step in steps:
        for _ in range(2):
            assert _value(_scraped_folder(step), CALLS) == 4, f"killed before step {step.name}"
            assert _value(_scraped_folder(step), "leadway_budget_wait_seconds_count") == 4
        assert _left(step) <= {"ended.json", "fold.lock"}


SCRAPES = """
import sys
from pathlib import Path
from workers.telemetry.shared_counters import SharedCounters
print(flush=True)
while not Path("enough").exists():
    samples = [sample for metric in SharedCounters(Path("shared")).collect() for sample in metric.samples]
    told = [sample.value for sample in samples if sample.name == "leadway_enqueued_total"]
    print(*told or [0.0], flush=True)
"""


def test_while_processes_come_and_go_no_scrape_sees_a_counter_go_down(tmp_path: Path) -> None:
    with ExitStack() as stack:
        (tmp_path / "shared").mkdir()
        scrapers = [stack.enter_context(_counting(tmp_path, SCRAPES)) for _ in range(2)]
        for scraper in scrapers:
            assert scraper.stdout is not None
            scraper.stdout.readline()
        _run(tmp_path, BEGINS + MANY_STARTS, str(STARTS))
        (tmp_path / "enough").touch()
        for scraper in scrapers:
            assert scraper.stdout is not None
            told = [float(line) for line in scraper.stdout.read().splitlines()]
            assert scraper.wait(10) == 0
            assert len(set(told)) > 3, "scrapes between the starts"
            assert told == sorted(told)
            assert max(told) <= STARTS
    assert _value(_scraped(tmp_path), CALLS) == STARTS


FOLDED_WHILE_IT_READS = """
from workers.telemetry.shared_counters import SharedCounters, fold
reading, writing = os.pipe()
child = os.fork()
if not child:
    count(7)
    os.write(writing, b"!")
    while True:
        signal.pause()
os.read(reading, 1)
lists = 0
def fold_before_the_second_list(event, arguments):
    global lists
    lists += event == "os.listdir"
    if event == "os.listdir" and lists == 2:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        another = os.fork()
        if not another:
            fold(Path("shared"))
            os._exit(0)
        os.waitpid(another, 0)
sys.addaudithook(fold_before_the_second_list)
samples = [sample for metric in SharedCounters(Path("shared")).collect() for sample in metric.samples]
assert lists > 2
print(*[sample.value for sample in samples if sample.name == "leadway_enqueued_total"])
"""


def test_what_is_folded_between_two_looks_of_a_scrape_is_counted_by_it(tmp_path: Path) -> None:
    """It looks into the file of ended processes, and then at which others there are."""
    assert _run(tmp_path, PROCESS + FOLDED_WHILE_IT_READS) == ["7.0"]


ENDS_ONE_BY_ONE = """
pipes = []
for number in range(40):
    reading, writing = os.pipe()
    ready, is_ready = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        count(seconds=float(f"1e{number % 7 - 4}") / 3 + number * 0.1)
        os.write(is_ready, b"!")
        os.read(reading, 1)
        os._exit(0)
    os.read(ready, 1)
    pipes.append((child, writing))
from workers.telemetry.shared_counters import SharedCounters
def tell():
    samples = [sample for metric in SharedCounters(Path("shared")).collect() for sample in metric.samples]
    print(*[repr(sample.value) for sample in samples if sample.name == "leadway_budget_wait_seconds_sum"])
tell()
for child, writing in pipes:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    tell()
"""


def test_a_sum_of_seconds_does_not_go_down_by_a_bit_when_its_parts_are_folded(tmp_path: Path) -> None:
    """Prometheus would take that for a new beginning, and its rate for a leap."""
    told = [float(line) for line in _run(tmp_path, PROCESS + ENDS_ONE_BY_ONE)]
    assert len(told) == 41
    assert told == sorted(told)
    assert told[-1] - told[0] < 1e-9


def test_files_of_the_release_before_are_folded_once_their_processes_have_ended(tmp_path: Path) -> None:
    """Their names are process ids, and nothing but the id tells whether they live."""
    shared = tmp_path / "shared"
    shared.mkdir()
    before = """
import sys
from prometheus_client import Counter
enqueued = Counter("leadway_enqueued_total", "Messages.", ["work"]).labels("call")
enqueued.inc()
for line in sys.stdin:
    enqueued.inc()
    print(flush=True)
"""
    with _counting(tmp_path, before, PROMETHEUS_MULTIPROC_DIR=str(shared)) as living:
        _count(living)
        ended = _started(tmp_path, before, PROMETHEUS_MULTIPROC_DIR=str(shared))
        assert ended.stdin is not None
        ended.stdin.close()
        assert ended.wait(60) == 0
        assert f"counter_{ended.pid}.db" in _files(tmp_path)
        assert _value(_scraped(tmp_path), CALLS) == 3
        assert f"counter_{ended.pid}.db" not in _files(tmp_path)
        assert f"counter_{living.pid}.db" in _files(tmp_path)
        _count(living)
        assert _value(_scraped(tmp_path), CALLS) == 4


def test_gauges_of_other_kinds_are_dropped_with_their_process(tmp_path: Path) -> None:
    gauge = "\nfrom prometheus_client import Gauge\nGauge('of_each_process', 'Such as those of Flower.').set(7)\n"
    with _counting(tmp_path, PROCESS + gauge + "print(flush=True)\nsys.stdin.read()") as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert re.search(rf'of_each_process{{pid="{process.pid}-\w+"}} 7.0', _scraped(tmp_path))
    assert "of_each_process" not in _scraped(tmp_path)
    assert _files(tmp_path) == ["ended.json", "fold.lock"]


def test_a_gauge_whose_help_text_changed_is_one_series_with_the_newest_value(tmp_path: Path) -> None:
    """Its help text is part of prometheus_client's key; two series of one name would stay for good."""
    gauge = "\nfrom prometheus_client import Gauge\nGauge('alarm', {!r}, multiprocess_mode='mostrecent').set({})\n"
    waits = "print(flush=True)\nsys.stdin.read()"
    for told, value in (("The first text.", 1), ("The second text.", 2)):
        _run(tmp_path, PROCESS + gauge.format(told, value))
    assert _series(_scraped(tmp_path), "alarm") == ["alarm 2.0"], "both folded"
    assert _series(_scraped(tmp_path), "alarm") == ["alarm 2.0"], "both from the file of ended processes"
    with _counting(tmp_path, PROCESS + gauge.format("The third text.", 3) + waits) as living:
        assert living.stdout is not None
        living.stdout.readline()
        assert _series(_scraped(tmp_path), "alarm") == ["alarm 3.0"], "one folded, one alive"
        _run(tmp_path, PROCESS + gauge.format("The fourth text.", 4))
        assert _series(_scraped(tmp_path), "alarm") == ["alarm 4.0"], "the one that is folded is the newest"


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    _run(tmp_path, COUNTS)
    database = tmp_path / "shared" / "leadway-calls.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE calls (call_id TEXT)")
    before = database.read_bytes()
    assert _value(_scraped(tmp_path), CALLS) == 1
    assert database.read_bytes() == before


def test_a_file_that_cannot_be_read_holds_up_no_scrape_and_no_fold(tmp_path: Path) -> None:
    _run(tmp_path, COUNTS)
    [counters] = (tmp_path / "shared").glob("counter_*.db")
    counters.write_bytes(b"\xff" * 500)
    [seconds] = (tmp_path / "shared").glob("histogram_*.db")
    shutil.copy(seconds, seconds.with_name("histogram_99-00000000.db"))
    seconds.write_bytes(b"")
    assert _value(_scraped(tmp_path), "leadway_budget_wait_seconds_count") == 1
    assert _files(tmp_path) == ["ended.json", "fold.lock"]


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from workers.telemetry.shared_counters import SharedCounters
os.chdir("shared")
if os.geteuid() == 0:
    os.chown(".", 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
assert not os.access("fold.lock", os.W_OK)
for _ in range(2):
    samples = [sample for metric in SharedCounters(Path()).collect() for sample in metric.samples]
    print(*[sample.value for sample in samples if sample.name == "leadway_enqueued_total"])
"""
"""Run by root, it becomes the folder's owner, who owns none of the files. Otherwise their modes forbid the same."""


def test_files_that_only_another_user_may_write_are_folded(tmp_path: Path) -> None:
    """Such as those of a command that was run once as root."""
    _run(tmp_path, COUNTS)
    _scraped(tmp_path)
    _run(tmp_path, COUNTS)
    (tmp_path / "shared" / "ended.new").write_text("what a fold that was killed has left")
    for file in (tmp_path / "shared").iterdir():
        file.chmod(0o444)
    assert _run(tmp_path, AS_ANOTHER_USER) == ["2.0", "2.0"]
    assert _files(tmp_path) == ["ended.json", "fold.lock"]


def test_files_that_another_user_may_not_even_read_stop_no_fold_and_are_kept(tmp_path: Path) -> None:
    with _counting(tmp_path) as living:
        _count(living)
        for file in (tmp_path / "shared").glob(f"*{living.pid}-*"):
            file.chmod(0)
        _run(tmp_path, COUNTS)
        _run(tmp_path, COUNTS)
        kept = [name for name in _files(tmp_path) if f"{living.pid}-" in name]
        (tmp_path / "shared" / "fold.lock").chmod(0o444)
        assert _run(tmp_path, AS_ANOTHER_USER) == ["2.0", "2.0"]
        assert _files(tmp_path) == sorted([*kept, "ended.json", "fold.lock"])
    for file in (tmp_path / "shared").glob("*.alive"):
        file.chmod(0o444)
    assert _run(tmp_path, AS_ANOTHER_USER) == ["2.0", "2.0"], "it has ended, but nobody could read what it counted"
    assert [name for name in _files(tmp_path) if f"{living.pid}-" in name and name.endswith(".db")]
    for file in (tmp_path / "shared").iterdir():
        file.chmod(0o444)
    assert _run(tmp_path, AS_ANOTHER_USER) == ["3.0", "3.0"]


def test_what_every_user_of_the_folder_has_to_read_is_readable_whatever_the_umask(tmp_path: Path) -> None:
    _run(tmp_path, "import os\nos.umask(0o077)\n" + COUNTS)
    assert [file.stat().st_mode & 0o777 for file in (tmp_path / "shared").glob("*.alive")] == [0o644]
    _run(tmp_path, "import os\nos.umask(0o077)\n" + COUNTS)
    for name in ("fold.lock", "ended.json"):
        assert (tmp_path / "shared" / name).stat().st_mode & 0o777 == 0o644, name


def _started(folder: Path, code: str, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _run(folder: Path, code: str, *words: str) -> list[str]:
    """Until it has ended; what it printed."""
    process = _started(folder, code, *words)
    printed, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return printed.splitlines()


@contextmanager
def _counting(folder: Path, code: str = COUNTS_WHEN_TOLD, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs until the end of the block, where it is killed."""
    process = _started(folder, code, **environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _count(process: subprocess.Popen[str]) -> None:
    """Returns when it has counted one."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("count\n")
    process.stdin.flush()
    process.stdout.readline()


def _scraped(folder: Path) -> str:
    return _scraped_folder(folder / "shared")


def _scraped_folder(shared: Path) -> str:
    registry = CollectorRegistry()
    registry.register(SharedCounters(shared))
    return generate_latest(registry).decode()


def _copy(folder: Path) -> Path:
    shutil.copytree(folder / "shared", folder / "copy" / "shared")
    return folder / "copy"


def _files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "shared"))


def _left(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def _value(told: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} ([0-9.e+-]+)$", told, re.MULTILINE)
    assert found is not None, f"no {series} in\n{told}"
    return float(found[1])


def _series(told: str, name: str) -> list[str]:
    return [line for line in told.splitlines() if line.startswith(name)]

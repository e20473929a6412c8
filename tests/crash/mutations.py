"""Whether the matrix can fail: drops one protection at a time, in a copy of the project, and wants red for each.

A cell is red when it shows damage: a call lost, a note too many or missing, a row that says what is not so. A cell that
only takes too long is not. Run it on a machine that has nothing else to do: some cells turn on tenths of a second, and
each may be tried again.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import ROOT

AT_ONCE = 2
TRIES = 3
PATIENCE_SECONDS = 15.0
STILL_GREEN_PATIENCE_SECONDS = 60.0
RUN_SECONDS = 400.0
TOO_SLOW = "too slow"


@dataclass(frozen=True)
class Mutation:
    """A protection, the place where it is dropped, and the cells and tests of which one at least has to turn red.

    `old` stands exactly once in `file`.
    """

    name: str
    file: str
    old: str
    new: str
    cells: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    """Of TESTS: for a protection that another one stands before, so that no cell can show its absence."""
    database: str = ""
    """The only one where it protects: SQLite has one writer. "": both."""


TESTS = "tests/crash/test_protections.py"
LIFECYCLE = "models/work/lifecycle.py"
FOLLOW_UPS = "models/follow_ups/follow_ups.py"

MUTATIONS = (
    Mutation(
        "fence",
        LIFECYCLE,
        '_is_claimed = sa.and_(IS_THIS_ROW, work_table.c.fence == sa.bindparam("this_fence"), IS_LEASED)',
        '_is_claimed = sa.and_(IS_THIS_ROW, work_table.c.fence >= sa.bindparam("this_fence"), IS_LEASED)',
        tests=("test_a_claim_that_was_taken_over_completes_and_reschedules_nothing",),
    ),
    Mutation(
        "fence compared at completing",
        LIFECYCLE,
        "_COMPLETE = sa.delete(work_table).where(_is_claimed, ",
        '_COMPLETE = sa.delete(work_table).where(IS_THIS_ROW, sa.bindparam("this_fence", type_=sa.BigInteger) > 0, ',
        tests=("test_a_claim_that_was_taken_over_completes_and_reschedules_nothing",),
    ),
    Mutation(
        "request since the claim, compared at completing",
        LIFECYCLE,
        'work_table.c.requested == sa.bindparam("as_claimed")',
        'work_table.c.requested >= sa.bindparam("as_claimed")',
        tests=("test_a_call_that_was_announced_since_its_claim_is_read_again_when_that_ends",),
    ),
    Mutation(
        "the fence of readings",
        "models/calls/storing.py",
        'if call.reading_fence >= common["reading_fence"] or call.erased_at is not None:',
        "if call.erased_at is not None:",
        ("page_listed × a fetch stores a newer log",),
        ("test_an_older_reading_is_not_stored_over_a_newer_one",),
    ),
    Mutation(
        "whoever changes a follow-up takes its work from the worker",
        LIFECYCLE,
        "    connection.execute(_TAKE_FROM_WORKER, key.parameters)\n    count_fence(connection)\n",
        "    lock(connection, key)\n",
        ("follow_up_worded × its contact changes",),
    ),
    Mutation(
        "whoever decides locks the row of work",
        FOLLOW_UPS,
        "    if found is None or not lifecycle.lock(connection, found.key):\n        return None\n",
        "    if found is None:\n        return None\n",
        tests=("test_a_persons_decision_waits_for_the_attempt_that_holds_the_work",),
        database="postgresql",
    ),
    Mutation(
        "taking in is one transaction",
        "workers/take_in.py",
        "    taken = list(inbox.take(connection, numbers).values())\n",
        "    taken = list(inbox.take(connection, numbers).values())\n"
        '    connection.exec_driver_sql("COMMIT")\n    connection.exec_driver_sql("BEGIN")\n',
        ("notifications_merged × kill it",),
    ),
    Mutation(
        "what was taken out of a file is remembered",
        "models/intake/taken_arrivals.py",
        "    return set(connection.execute(_REMEMBER[connection.dialect.name], rows).scalars()) if rows else set()\n",
        "    return {row['arrival_id'] for row in rows}\n",
        tests=("test_what_leaves_its_file_late_is_taken_once",),
        database="sqlite",
    ),
    Mutation(
        "what the database does not take goes into the journal",
        "webhook/inbox_writer.py",
        "        self._journal.put_all(arrivals)\n",
        "        pass\n",
        ("journal_committed × restart database",),
        database="postgresql",
    ),
    Mutation(
        "only what is due is claimed",
        LIFECYCLE,
        "sa.and_(IS_DUE, ~_is_held_back,",
        "sa.and_(~_is_held_back,",
        tests=("test_what_is_not_due_or_is_leased_is_not_claimed_whatever_message_comes",),
    ),
    Mutation(
        "what fails in a group runs alone",
        "workers/process/grouped_transactions.py",
        "        self.is_left_alone = True\n",
        "        self.is_left_alone = False\n        self.result = None\n",
        tests=("test_what_shares_its_transaction_with_an_attempt_that_lost_its_lease_is_done",),
    ),
    Mutation(
        "the scan from the beginning",
        "models/work/dispatch_order.py",
        "FROM_THE_BEGINNING_SECONDS = 60.0",
        "FROM_THE_BEGINNING_SECONDS = 1e9",
        tests=("test_a_row_that_is_committed_long_after_its_due_time_is_found_within_a_minute",),
    ),
    Mutation(
        "a new life of the database is noticed",
        "models/work/life.py",
        "        return Cause.FENCES_BEHIND\n",
        "        return None\n",
        ("follow_up_claimed × restored from then", "nothing yet × restored from then"),
    ),
    Mutation(
        "in a new life a follow-up is looked for",
        FOLLOW_UPS,
        "    _doubt_what_was_forgotten(connection, claim)\n",
        "",
        ("follow_up_claimed × restored from then", "nothing yet × restored from then"),
    ),
    Mutation(
        "settle window",
        "workers/send_follow_up.py",
        "return self.this.settings.leadway_settle_seconds",
        "return 0.0",
        ("write note × written late", "note in flight × kill, executed late"),
    ),
    Mutation(
        "fence, lease and intent_at, checked by the intent",
        FOLLOW_UPS,
        """    if not lifecycle.hold(connection, claim, seconds=seconds):
        return False
    c = follow_ups_table.c
    as_seen = c.intent_at.is_(None) if follow_up.intent_at is None else c.intent_at == follow_up.intent_at
""",
        "    c, as_seen = follow_ups_table.c, sa.true()\n",
        ("follow_up_worded × suspend it", "follow_up_worded × overtaken in flight"),
    ),
    Mutation(
        "intent_at, compared by the intent",
        FOLLOW_UPS,
        "as_seen = c.intent_at.is_(None) if follow_up.intent_at is None else c.intent_at == follow_up.intent_at",
        "as_seen = sa.true()",
        tests=("test_under_one_claim_an_intent_is_written_once",),
    ),
    Mutation(
        "lease that lasts, wanted by the intent",
        LIFECYCLE,
        'work_table.c.lease_until > moment(sa.bindparam("this_lease", type_=sa.Double))',
        'sa.bindparam("this_lease", type_=sa.Double) > 0',
        tests=("test_no_intent_is_written_when_the_lease_does_not_last",),
    ),
    Mutation(
        "second look",
        "workers/send_follow_up.py",
        "if follow_up.absences == 0:",
        "if False:",
        ("look for note × lag that ends between the looks",),
    ),
    Mutation(
        "deadline before sending",
        "workers/leadway/client.py",
        "seconds = self._deadline - time.monotonic()",
        "seconds = max(1.0, self._deadline - time.monotonic())",
        ("intent_committed × freeze it",),
    ),
)


def main(databases: Sequence[str], *, only: str = "") -> int:
    """Prints what was seen. 0: every mutation was caught, and the same cells are green without any."""
    chosen = [mutation for mutation in MUTATIONS if only in mutation.name]
    of = {database: [each for each in chosen if each.database in ("", database)] for database in databases}
    results = [_on(database, its) for database, its in of.items()]
    return 0 if all(results) else 1


def _on(database: str, chosen: Sequence[Mutation]) -> bool:
    started = time.monotonic()
    cells = tuple(dict.fromkeys(cell for mutation in chosen for cell in mutation.cells))
    tests = tuple(dict.fromkeys(test for mutation in chosen for test in mutation.tests))
    print(f"\n{database}: {len(chosen)} mutations, {AT_ONCE} at once", flush=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        unmutated = pool.submit(_is_green, database, cells, tests)
        caught = list(pool.map(lambda mutation: _is_caught(database, mutation), chosen))
        good = unmutated.result() and all(caught)
    print(
        f"{database}: {sum(caught)} of {len(chosen)} mutations caught, {time.monotonic() - started:.0f} s", flush=True
    )
    return good


def _is_green(database: str, cells: Sequence[str], tests: Sequence[str]) -> bool:
    seen: dict[str, str] = {}
    for _ in range(TRIES):  # only for what ran out of time on a busy machine
        left = [cell for cell in cells if cell not in seen or seen[cell].startswith(TOO_SLOW)]
        if left or tests:
            seen |= _seen(database, None, left, tests)
            tests = ()
    good = not any(seen.values())
    print(f"  {'ok ' if good else 'BAD'} unmutated: {_told(seen)}", flush=True)
    return good


def _is_caught(database: str, mutation: Mutation) -> bool:
    """A second try for what a busy machine may have missed: a moment of some tenths of a second."""
    seen: dict[str, str] = {}
    for _ in range(TRIES if mutation.cells else 1):
        seen = _seen(database, mutation, mutation.cells, mutation.tests)
        if any(what and not what.startswith(TOO_SLOW) for what in seen.values()):
            print(f"  red {mutation.name}: {_told(seen)}", flush=True)
            return True
    print(f"  BAD {mutation.name} is not noticed: {_told(seen)}", flush=True)
    return False


def _told(seen: dict[str, str]) -> str:
    return "; ".join(f"{cell}: {what or 'green'}" for cell, what in seen.items())


def _seen(database: str, mutation: Mutation | None, cells: Sequence[str], tests: Sequence[str]) -> dict[str, str]:
    """Runs cells and tests in a copy. Their names, and the damage that each showed, "too slow: …" or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        _copy_to(copy)
        if mutation is not None:
            _mutate(copy, mutation)
        seen = {test: _damage_of_test(copy, database, test) for test in tests}
        return seen | (_damage_of_cells(copy, database, cells, mutated=mutation is not None) if cells else {})


def _damage_of_test(copy: Path, database: str, test: str) -> str:
    """Of a test that fails, the last line of what pytest told."""
    ended = _run(copy, "pytest", "-q", "-p", "no:cacheprovider", TESTS, "-k", f"{test} and {database}")
    if ended.returncode not in (0, 1):
        raise RuntimeError(f"the test could not be run:\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}")
    return ended.stdout.splitlines()[-1] if ended.returncode else ""


def _damage_of_cells(copy: Path, database: str, cells: Sequence[str], *, mutated: bool) -> dict[str, str]:
    report = copy / "report.json"
    named = [word for cell in cells for word in ("--cell", cell)]
    patience = PATIENCE_SECONDS if mutated else STILL_GREEN_PATIENCE_SECONDS
    options = ["--database", database, "--stages", "1", "--patience", str(patience), "--report", str(report)]
    ended = _run(copy, "tests.crash", *named, *options)
    if not report.exists():
        raise RuntimeError(f"the cells could not be run:\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}")
    return {
        each["cell"]: each["damage"] or (f"{TOO_SLOW}: {each['trouble'][:200]}" if each["trouble"] else "")
        for each in json.loads(report.read_text())
    }


def _run(copy: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )


def _copy_to(copy: Path) -> None:
    """What git knows, as it stands in the working tree. Stages prove that their processes run the code beside them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


def _mutate(copy: Path, mutation: Mutation) -> None:
    (copy / mutation.file).write_text(mutated(copy, mutation))


def mutated(project: Path, mutation: Mutation) -> str:
    """The file's text without the protection. Raises LookupError when the code has moved on."""
    file = project / mutation.file
    text = file.read_text() if file.exists() else ""
    if (number := text.count(mutation.old)) != 1:
        raise LookupError(f"{mutation.name!r} is out of date: {mutation.file} holds its text {number} times, not once")
    return text.replace(mutation.old, mutation.new)

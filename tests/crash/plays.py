"""How a cell of the crash matrix is played: what is held where, what befalls it there, and when it goes on."""

import time
from collections.abc import Callable
from contextlib import closing
from enum import StrEnum
from uuid import uuid4

from models.database import COMMAND, Database
from models.follow_ups import follow_ups
from tests.crash.frozen import Frozen
from tests.crash.stage import LEASE_SECONDS, SETTLE_SECONDS, Stage
from tests.leadway_double.notifications import Dialect
from tests.leadway_double.nouns import PlacedCall
from tests.leadway_double.sender import Delivery
from tests.support.refusing import refusing_call
from tests.support.waiting import eventually

Play = Callable[[Stage, PlacedCall], None]
"""Ends when everything that was stopped has gone on and ended its attempts. The work may go on."""

REACHED_WITHIN = 20.0
OTHERS_FINISH_WITHIN = 40.0
HOLDS_A_LOCK = (
    "receipt_before_commit",
    "inbox_taken",
    "notifications_merged",
    "taken_in_before_commit",
    "call_before_commit",
    "intent_before_commit",
    "follow_up_before_commit",
)
"""Points inside a transaction: nobody can take over what is held there, so a freeze only outlasts the lease."""
HOLDS_A_LEASE = (
    "call_claimed",
    "call_fetched",
    "call_before_commit",
    "follow_up_claimed",
    "follow_up_worded",
    "intent_committed",
    "note_answered",
    "probe_answered",
    "window_claimed",
    "page_listed",
)
OF_A_WINDOW = ("window_claimed", "page_listed", "page_stored")
"""Points of listing: the notification does not name its call, so only the list brings it."""
OF_A_GRANT = ("grant_claimed", "grant_answered")
"""Points of a token's refresh: the call is of an account that has no token yet."""
SENDS_MESSAGES = ("due_marked", "due_sent", "wake_up_before_send")
"""Points of a dispatch: what goes on there makes no attempt itself."""
LATE_IN_THE_WINDOW = 0.5


class Executed(StrEnum):
    """When the double executes a request whose client is killed or frozen while it waits for the answer."""

    BEFORE = "executed before"
    AFTER = "executed after"
    LATE = "executed late"
    """After the lease's end, and a note in the middle of the settle window that follows."""
    NEVER = "never executed"


def undisturbed(stage: Stage, call: PlacedCall) -> None:
    """Only the double fails."""
    assert stage.world.double.notify(call).accepted


def listed(stage: Stage, call: PlacedCall) -> None:
    """Only the double fails, and only its list brings the call."""
    assert stage.world.double.notify(call, dialect=Dialect.UNRESOLVED).accepted


def befallen(point: str, befall: Callable[[Stage, int], None]) -> Play:
    """While a process holds at the point, something befalls it or what it depends on."""

    def play(stage: Stage, call: PlacedCall) -> None:
        delivery, pid = _held_at(stage, point, call)
        befall(stage, pid)
        stage.let_go(point)
        _accept(delivery)

    return play


def journaled(point: str, befall: Callable[[Stage, int], None]) -> Play:
    """The same while the database takes no row, because somebody has locked the inbox; and when it can be drained."""

    def play(stage: Stage, call: PlacedCall) -> None:
        is_of_the_drain = point == "drained_before_deletion"
        stage.arm(point)
        with stage.locked_inbox():
            delivery = stage.world.double.notify(call, wait=False)
            if is_of_the_drain:
                _accept(delivery)
            else:
                befall(stage, stage.wait_until_reached(point, timeout=REACHED_WITHIN))
                stage.let_go(point)
        if is_of_the_drain:
            befall(stage, stage.wait_until_reached(point, timeout=REACHED_WITHIN))
            stage.let_go(point)
        _accept(delivery)

    return play


def restored(point: str | None, *, lost_at: str | None = None) -> Play:
    """A backup is made while a process holds at the point, or before anything is known of the call. It is put in place
    when all is done, or already while a process holds at `lost_at`, as when a standby lacks the last commits."""

    def play(stage: Stage, call: PlacedCall) -> None:
        if point is None:
            copy = stage.copy_database()
            delivery = stage.world.double.notify(call, wait=False)
        else:
            delivery, _ = _held_at(stage, point, call)
            copy = stage.copy_database()
            stage.let_go(point)
        if lost_at is None:
            stage.wait_for_peace([call], timeout=OTHERS_FINISH_WITHIN)
        else:
            stage.arm(lost_at)
            stage.wait_until_reached(lost_at, timeout=REACHED_WITHIN)
        _accept(delivery)
        stage.restore_database(copy)
        if lost_at is not None:
            stage.let_go(lost_at)

    return play


def frozen(point: str, *, clock_stands_still: bool = False) -> Play:
    """The process that holds at the point is frozen until the other one has taken over and finished."""

    def play(stage: Stage, call: PlacedCall) -> None:
        delivery, pid = _held_at(stage, point, call)
        with Frozen(stage, pid, clock_stands_still=clock_stands_still) as process:
            assert process.in_hand or point not in HOLDS_A_LEASE, "it had nothing in hand"
            stage.open(point)
            if point in HOLDS_A_LOCK:
                time.sleep(LEASE_SECONDS + 1)
            else:
                stage.wait_for_peace([call], timeout=OTHERS_FINISH_WITHIN)
            process.thaw()
        _accept(delivery)
        if point in SENDS_MESSAGES:
            _wait_for_stale_messages(stage, point)

    return play


def overtaken(point: str, kind: str, *, skip: int = 0) -> Play:
    """The process that holds at the point is suspended until the other one's request is under way: it goes on while
    the row is running again, under another's lease. `skip`: requests of its own that it has made before."""

    def play(stage: Stage, call: PlacedCall) -> None:
        held = _hold(stage, kind, call, Executed.AFTER, skip=skip)
        delivery, pid = _held_at(stage, point, call)
        stage.world.double.change_call(call.call_id)
        with Frozen(stage, pid, clock_stands_still=True) as process:
            stage.open(point)
            _client_port(stage, held)
            assert process.in_hand, "it had nothing in hand"
            process.thaw()
        stage.world.double.release(held)
        _accept(delivery)

    return play


def killed_in_flight(kind: str, executed: Executed) -> Play:
    """The worker is killed while its request is under way."""

    def play(stage: Stage, call: PlacedCall) -> None:
        held = _hold(stage, kind, call, executed)
        assert stage.world.double.notify(call).accepted
        stage.kill_pid(stage.worker_at(_client_port(stage, held)))
        _release(stage, held, kind, call, executed)

    return play


def frozen_in_flight(kind: str, executed: Executed) -> Play:
    """The worker is frozen while its request is under way, until the other one has taken over and finished."""

    def play(stage: Stage, call: PlacedCall) -> None:
        held = _hold(stage, kind, call, executed)
        assert stage.world.double.notify(call).accepted
        with Frozen(stage, stage.worker_at(_client_port(stage, held))) as process:
            assert process.in_hand, "it had nothing in hand"
            _release(stage, held, kind, call, executed)
            stage.wait_for_peace([call], timeout=OTHERS_FINISH_WITHIN)
            process.thaw()

    return play


def stale_message(stage: Stage, call: PlacedCall) -> None:
    """A dispatcher is frozen between its mark and its message, so the follow-up's message is sent when it is done."""
    delivery, _ = _held_at(stage, "call_before_commit", call)
    stage.arm("due_marked")  # the call itself is leased: what is marked next is its follow-up
    stage.let_go("call_before_commit")
    pid = stage.wait_until_reached("due_marked", timeout=REACHED_WITHIN)
    with Frozen(stage, pid) as process:
        stage.open("due_marked")
        stage.wait_for_peace([call], timeout=OTHERS_FINISH_WITHIN)
        process.thaw()
    _accept(delivery)
    _wait_for_stale_messages(stage, "due_marked")


def announced_again(stage: Stage, call: PlacedCall) -> None:
    """While a worker holds an older log, the log fills up and the call is announced once more."""
    delivery, _ = _held_at(stage, "call_fetched", call)
    stage.world.double.change_call(call.call_id)
    assert stage.world.double.notify(call).accepted
    requested = "SELECT count(*) FROM work WHERE kind = 'call' AND subject = :id AND requested > 1"
    eventually(lambda: stage.world.scalar(requested, id=call.call_id), describe="the call to be requested again")
    stage.let_go("call_fetched")
    _accept(delivery)


def fetched_meanwhile(stage: Stage, call: PlacedCall) -> None:
    """While a worker holds a page that shows the call's older log, another reads and stores the newer one."""
    stage.arm("page_listed")
    looked_for = stage.world.double.place_call(actions=["CALL_TRANSFER"], contact=f"contact{uuid4().hex}")
    assert stage.world.double.notify(looked_for, dialect=Dialect.UNRESOLVED).accepted
    stage.wait_until_reached("page_listed", timeout=REACHED_WITHIN)
    stage.world.double.change_call(call.call_id, summary="The caller has said more since.")
    assert stage.world.double.notify(call).accepted
    stage.wait_for_peace([call])
    stage.let_go("page_listed")
    stage.wait_for_peace([looked_for])


def beside_a_refused_row(point: str) -> Play:
    """The page that brings the call has a row too that the database refuses; its reader is killed at the point."""

    def play(stage: Stage, call: PlacedCall) -> None:
        refused = stage.world.double.place_call(contact=f"contact{uuid4().hex}")
        database = Database(stage.world.database_url, limits=COMMAND)
        with closing(database), refusing_call(database, "calls", refused.call_id):
            delivery, pid = _held_at(stage, point, call)
            stage.kill_pid(pid)
            stage.let_go(point)
            _accept(delivery)
            stage.wait_for_peace([call])
            aside = "SELECT count(*) FROM quarantined_rows WHERE call_id = :id"
            assert stage.world.scalar(aside, id=refused.call_id) == 1, "the row was not set aside"

    return play


def resent(stage: Stage, call: PlacedCall) -> None:
    """While a worker holds what its look for the note has found, a person asks for the follow-up again."""
    delivery, _ = _held_at(stage, "probe_answered", call)
    [row] = stage.world.rows("SELECT follow_up_id FROM follow_ups WHERE call_id = :id", id=call.call_id)
    assert stage.write(follow_ups.resend, row["follow_up_id"])
    stage.let_go("probe_answered")
    _accept(delivery)


def contact_changed(stage: Stage, call: PlacedCall) -> None:
    """While a worker is about to write the note to one contact, the log tells another."""
    double = stage.world.double
    other = double.place_call(contact=f"contact{uuid4().hex}").contact_id
    double.change_call(call.call_id, contactId=other)
    delivery, _ = _held_at(stage, "follow_up_worded", call)
    double.change_call(call.call_id, contactId=call.contact_id)
    assert double.notify(call).accepted
    moved = "SELECT count(*) FROM follow_ups WHERE call_id = :id AND contact_id = :contact"
    eventually(
        lambda: stage.world.scalar(moved, id=call.call_id, contact=call.contact_id),
        describe="the follow-up to move to the contact of the newest log",
    )
    stage.let_go("follow_up_worded")
    _accept(delivery)


def _held_at(stage: Stage, point: str, call: PlacedCall) -> tuple[Delivery, int]:
    """The notification that is being delivered, and the process that holds."""
    stage.arm(point)
    if point in OF_A_GRANT:
        stage.connect(call.location_id)
    dialect = Dialect.UNRESOLVED if point in OF_A_WINDOW else Dialect.FLAT
    delivery = stage.world.double.notify(call, dialect=dialect, wait=False)
    return delivery, stage.wait_until_reached(point, timeout=REACHED_WITHIN)


def _wait_for_stale_messages(stage: Stage, point: str) -> None:
    """Until who was frozen there has sent what it had, and what stands behind that in the queues is done."""
    eventually(lambda: not stage.was_reached(point), describe="the dispatcher to go on")
    behind = stage.world.double.place_call(actions=["CALL_TRANSFER"], contact=f"contact{uuid4().hex}")
    assert stage.world.double.notify(behind).accepted
    stage.wait_for_peace([behind])


def _accept(delivery: Delivery) -> None:
    delivery.wait(30)
    assert delivery.accepted, "the notification was never accepted"


def _hold(stage: Stage, kind: str, call: PlacedCall, executed: Executed, *, skip: int = 0) -> int:
    subject = call.call_id if kind == "fetch" else call.contact_id
    what = "do_then_hold" if executed is Executed.BEFORE else "hold"
    return stage.world.double.fault(kind, what, only=subject, times=1, skip=skip)


def _client_port(stage: Stage, held: int) -> int:
    """Waits until a request is under way."""
    [fault] = [fault for fault in stage.world.double.faults() if fault.fault_id == held]
    return eventually(lambda: fault.held, timeout=REACHED_WITHIN, describe=f"a request {fault.kind}")[0]


def _release(stage: Stage, held: int, kind: str, call: PlacedCall, executed: Executed) -> None:
    if executed is Executed.LATE:
        eventually(lambda: stage.leases_lost(call), timeout=REACHED_WITHIN, describe="the lease to be taken over")
        if kind == "create_note":
            eventually(
                lambda: _is_late_in_the_window(stage, call) or stage.is_at_peace([call]),  # nobody waits any more
                timeout=REACHED_WITHIN,
                describe="the middle of the settle window",
            )
    stage.world.double.release(held, executed=executed is not Executed.NEVER)


def _is_late_in_the_window(stage: Stage, call: PlacedCall) -> bool:
    return stage.seconds_unclear(call) >= LATE_IN_THE_WINDOW * SETTLE_SECONDS

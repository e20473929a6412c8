"""What befalls one account stays with it: the others go on, and it catches up by itself when it is over."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts import accounts
from models.accounts.pauses import pauses_table
from models.accounts.token_encryption import TokenCipher
from models.database import WORKER, Database, moment
from tests.leadway_double.notifications import Dialect
from tests.leadway_double.nouns import PlacedCall
from tests.support.waiting import eventually
from tests.support.world import World, notes_due, notes_written

STRUCK, OTHERS = "loc_struck", ("loc_one", "loc_two")


def test_a_token_that_is_revoked_in_mid_flow_stops_its_account_alone_until_it_is_valid_again(
    postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=postgresql_url, redis_url=redis_url) as world:
        world.start("web", "worker", "beat")
        tokens = _serve(world, STRUCK, *OTHERS)
        before = _announced(world, STRUCK, 15)
        eventually(lambda: world.call_statuses().get("complete", 0) >= 3, timeout=30)

        world.double.revoke_token(tokens[STRUCK])
        during = _announced(world, STRUCK, 15)
        elsewhere = [call for each in OTHERS for call in _announced(world, each, 20)]
        paused = "SELECT count(*) FROM pauses WHERE location_id = :location_id AND cause = 'token'"
        eventually(lambda: world.scalar(paused, location_id=STRUCK) == 1, timeout=30, describe="the account to pause")
        eventually(lambda: _done(world, *OTHERS) == len(elsewhere), timeout=60, describe="the others' calls to be done")
        assert world.scalar("SELECT count(*) FROM pauses") == 1
        in_pause = world.double.stats(STRUCK)["requests"]
        assert _done(world, STRUCK) < len(before) + len(during)

        world.double.restore_token(tokens[STRUCK])
        assert world.double.stats(STRUCK)["requests"] == in_pause, "nobody knocks while it stands still"
        _let_the_next_probe_come(world)
        world.wait_until_done(calls=len(before) + len(during) + len(elsewhere), timeout=90)
        assert world.scalar("SELECT count(*) FROM pauses") == 0
        _nothing_is_lost_or_doubled(world, [*before, *during, *elsewhere])


def test_a_new_token_resumes_its_account_at_once_without_a_restart(
    postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=postgresql_url, redis_url=redis_url) as world:
        world.start("web", "worker", "beat")
        tokens = _serve(world, STRUCK)
        world.double.revoke_token(tokens[STRUCK])
        calls = _announced(world, STRUCK, 10)
        eventually(lambda: world.scalar("SELECT count(*) FROM pauses") == 1, timeout=30)
        _set_token(world, STRUCK, world.double.rotate_token(tokens[STRUCK], new="pit-the-next-one"))
        world.wait_until_done(calls=len(calls), timeout=60)
        _nothing_is_lost_or_doubled(world, calls)


def test_an_outage_of_one_account_opens_its_breaker_and_ends_by_itself(
    postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=postgresql_url, redis_url=redis_url) as world:
        world.start("web", "worker", "beat")
        _serve(world, STRUCK, *OTHERS)
        number = world.double.fault("*", "status", status=503, only=STRUCK)
        calls = _announced(world, STRUCK, 20)
        elsewhere = [call for each in OTHERS for call in _announced(world, each, 10)]
        eventually(lambda: _done(world, *OTHERS) == len(elsewhere), timeout=60)
        rests = "SELECT open_until IS NOT NULL FROM accounts WHERE location_id = :location_id"
        eventually(lambda: world.scalar(rests, location_id=STRUCK), timeout=30, describe="the breaker to open")
        assert _done(world, STRUCK) == 0
        world.double.clear_faults(number)
        world.wait_until_done(calls=len(calls) + len(elsewhere), timeout=90)
        assert world.scalar("SELECT count(*) FROM work WHERE dead_cause IS NOT NULL") == 0
        _nothing_is_lost_or_doubled(world, [*calls, *elsewhere])


def test_an_account_that_answers_a_million_objects_keeps_no_other_waiting_and_fills_no_memory(
    postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=postgresql_url, redis_url=redis_url) as world:
        world.start("web", "worker")
        _serve(world, STRUCK)
        for kind in ("fetch", "list"):
            world.double.fault(kind, "status", status=200, only=STRUCK, body={"callLogs": [{}] * 1_000_000})
        most = [0]

        def remember_memory() -> bool:
            family = [psutil.Process(world.processes.pid("worker"))]
            family += family[0].children(recursive=True)
            most[0] = max(most[0], *(each.memory_info().rss for each in family))
            return True

        huge = _announced(world, STRUCK, 20)
        asked = partial(world.double.truth.requests, kind="fetch", location_id=STRUCK)
        eventually(asked, describe="a huge answer")
        others = _announced(world, world.double.location_id, 40, actions=["CALL_TRANSFER"])
        eventually(lambda: remember_memory() and _done(world, world.double.location_id) == len(others), timeout=60)
        dead = "SELECT count(*) FROM work WHERE kind = 'call' AND dead_cause = 'too_large'"
        eventually(
            lambda: remember_memory() and world.scalar(dead) == len(huge), timeout=60, describe="the state's name"
        )
        assert most[0] < 500 * 1024**2
        eventually(lambda: notes_written(world) == notes_due(others), timeout=30)
        waited = "SELECT max(extract(epoch FROM stored_at - first_heard_at)) FROM calls WHERE location_id != :struck"
        print(f"others stored within {world.scalar(waited, struck=STRUCK):.2f} s, {most[0] / 1024**2:.0f} MiB at most")


def _serve(world: World, *location_ids: str) -> dict[str, str]:
    """Adds accounts beside the first one; returns their tokens."""
    tokens = {}
    for location_id in location_ids:
        tokens[location_id] = world.double.add_location(
            location_id, intake_secret=f"secret-of-{location_id}-0123456789"
        )
        _write(world, partial(accounts.add, location_id=location_id))
        _set_token(world, location_id, tokens[location_id])
    return tokens


def _set_token(world: World, location_id: str, token: str) -> None:
    cipher = TokenCipher([world.processes.environment["TOKEN_ENCRYPTION_KEYS"]])
    _write(world, lambda connection: accounts.set_token(connection, location_id, token, cipher=cipher))


def _let_the_next_probe_come(world: World) -> None:
    """The first one would come after 30 s."""
    _write(world, lambda connection: connection.execute(sa.update(pauses_table).values(next_probe_at=moment())))


def _write(world: World, write: Callable[[Connection], object]) -> None:
    database = Database(world.database_url, limits=WORKER)
    try:
        database.transact(write)
    finally:
        database.close()


def _announced(world: World, location_id: str, number: int, **wish: Any) -> list[PlacedCall]:
    calls = world.double.place_calls(number, location_id, contact=True, **wish)
    for call in calls:
        assert world.double.notify(call, dialect=Dialect.FLAT).status == 202
    return calls


def _done(world: World, *location_ids: str) -> int:
    stored = "SELECT count(*) FROM calls WHERE location_id = :location_id"
    return sum(world.scalar(stored, location_id=each) for each in location_ids)


def _nothing_is_lost_or_doubled(world: World, calls: list[PlacedCall]) -> None:
    assert {row["call_id"] for row in world.rows("SELECT call_id FROM calls")} == {call.call_id for call in calls}
    assert notes_written(world) == {call_id: number for call_id, number in notes_due(calls).items() if number}

"""The application's own threads: the heartbeat of a web process, which no receipt waits for."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from models.database import COMMAND, Database
from models.work import heartbeats
from tests.support.waiting import eventually
from tests.webhook.conftest import Intake
from webhook import app
from webhook.app import alive


def test_a_web_process_is_alive_in_the_database_while_it_serves(database_url: str, redis_url: str) -> None:
    with Intake(database_url, redis_url) as intake:
        with alive(intake.settings), alive(intake.settings):
            eventually(lambda: _alive(intake) == ["web", "web"], describe="a row for each process")
        assert _alive(intake) == []


def test_a_web_process_that_fails_closes_the_connections_of_its_heartbeat(
    postgresql_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Database] = []

    class Remembered(Database):
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            opened.append(self)

    with Intake(postgresql_url, redis_url) as intake:
        monkeypatch.setattr(app, "Database", Remembered)
        with pytest.raises(KeyboardInterrupt), alive(intake.settings):
            _interrupt_when(lambda: _alive(intake) == ["web"])
        [of_the_heartbeat] = opened
        pool = of_the_heartbeat.engine.pool
        assert isinstance(pool, sa.QueuePool)
        assert (pool.checkedin(), pool.checkedout()) == (0, 0)


def test_receipts_go_on_while_the_heartbeat_cannot_be_written(postgresql_url: str, redis_url: str) -> None:
    with Intake(postgresql_url, redis_url, patient=False, web_threads=2) as intake:
        assert intake.post(intake.message()).status_code == 202
        other = Database(intake.settings.database_url, limits=COMMAND)
        with other.transaction() as connection, ThreadPoolExecutor(2) as pool:
            connection.execute(sa.text("LOCK TABLE heartbeats IN ACCESS EXCLUSIVE MODE"))
            with alive(intake.settings):
                eventually(lambda: _waiting(other) == 1, describe="the heartbeat to wait for the lock")
                messages = [intake.message() for _ in range(20)]
                answers = pool.map(intake.post, messages)
                assert {answer.status_code for answer in answers} == {202}
        other.close()


def _interrupt_when(condition: Callable[[], object]) -> None:
    eventually(condition)
    raise KeyboardInterrupt


def _alive(intake: Intake) -> list[str]:
    database = Database(intake.settings.database_url, limits=COMMAND)
    with database.reading() as connection:
        found = [each.process for each in heartbeats.all_of(connection) if each.is_alive]
    database.close()
    return found


def _waiting(database: Database) -> int:
    """Sessions that wait for a lock."""
    with database.reading() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return int(connection.execute(sa.text(query)).scalar_one())

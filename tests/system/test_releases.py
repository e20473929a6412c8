"""From one release to the next: messages that this one does not know are lost hints, and a backup is a whole system."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from celery import Celery

from tests.support.rows import on_sqlite
from tests.support.services import PostgresServer
from tests.support.traffic import assert_each_note_once
from tests.support.waiting import eventually
from tests.support.world import World
from workers.app import QUEUES

LOST = ("Received unregistered task", "raised unexpected: TypeError")


@on_sqlite
def test_messages_of_another_release_are_lost_hints_and_the_worker_goes_on(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    another = Celery("another release", broker=redis_url, set_as_current=False)
    with World(tmp_path, database_url=database_url, redis_url=redis_url) as world:
        world.start("web", "worker")
        for queue in QUEUES:
            another.send_task("calls.of_tomorrow", ("a", "b"), queue=queue)
        another.send_task("calls.fetch", ("location", "call", "more"), queue="calls")
        another.send_task("calls.fetch", (), {"unheard": "of"}, queue="calls")

        def told() -> list[int]:
            return [world.processes.log("worker").count(words) for words in LOST]

        eventually(lambda: told() == [len(QUEUES), 2], describe=lambda: world.processes.log("worker")[-3000:])
        call = world.double.place_call(actions=["CALL_TRANSFER"], contact=True)
        assert world.double.notify(call).accepted
        world.wait_until_done(calls=1)
        assert_each_note_once(world, [call])
        assert world.processes.is_running("worker")


def test_a_backup_put_in_the_place_of_a_lost_database_goes_on_where_it_was_made(
    empty_database_url: str, redis_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "backup"
    with World(tmp_path, database_url=empty_database_url, redis_url=redis_url) as world:
        world.start("web", "worker")
        done, waiting = (world.double.place_call(actions=["CALL_TRANSFER"], contact=True) for _ in range(2))
        assert world.double.notify(done).accepted
        world.wait_until_done(calls=1)
        world.processes.stop("worker")
        assert world.double.notify(waiting).accepted

        told = world.command("backup", str(file))
        url = sa.make_url(empty_database_url)
        if url.get_backend_name() == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres_server")
            run_with_password(server, url, *shlex.split(told.partition("run: ")[2]))
        world.processes.stop("web")
        world.disconnect()
        if url.get_backend_name() == "postgresql":
            assert url.database is not None
            server.drop_database(url.database)
            server.create_database(url.database)
            target = url.set(password="").render_as_string(hide_password=False)
            run_with_password(server, url, "pg_restore", "--exit-on-error", f"--dbname={target}", str(file))
        else:
            lost = Path(str(url.database))
            for each in lost.parent.glob(f"{lost.name}*"):
                each.unlink()
            shutil.copy(file, lost)

        world.start("web", "worker", "beat")
        world.wait_until_done(calls=2)
        assert_each_note_once(world, [done, waiting])
        assert "Everything is well." in world.command("status", name="status")


def run_with_password(server: PostgresServer, url: sa.URL, program: str, *words: str) -> None:
    """A program of PostgreSQL, with the password where it does not show."""
    command = [server.programs / program, *words]
    ran = subprocess.run(command, env={"PGPASSWORD": str(url.password)}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr

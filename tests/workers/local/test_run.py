"""What `make run` does with its processes: starts them, starts them again, and leaves none behind."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from models.settings import Settings, read_settings
from tests.support.processes import Processes, is_alive
from tests.support.waiting import eventually
from workers.local.embedded_redis import EmbeddedRedis, free_port
from workers.local.run import closed_doors, environment_with, missing_settings
from workers.local.supervision import Child, finish, supervise

PATH = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
LIVES_ON = "python -u -c 'import os, time; print(os.getpid()); time.sleep(600)'"
DEAF = "python -u -c 'import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(600)'"
WITH_A_CHILD_OF_ITS_OWN = (
    'python -u -c \'import subprocess, sys; print(subprocess.Popen([sys.executable, "-c", '
    '"import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]).pid); sys.stdin.read(); '
    "import time; time.sleep(600)'"
)


class Supervised:
    """`supervise` in a thread, and what it said."""

    def __init__(self, children: list[Child], redis: EmbeddedRedis | None) -> None:
        self.said: list[tuple[str, str]] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(
            target=supervise, args=(children, redis, lambda name, line: self.said.append((name, line)), self.stop)
        )

    def lines(self, name: str) -> list[str]:
        return [line for said_by, line in self.said if said_by == name]

    def pid(self, number: int = 0) -> int:
        """The number that `child` printed when it was started for the first, the second … time."""
        return int(eventually(lambda: self.lines("child")[number], describe=lambda: str(self.said)))


@contextmanager
def supervised(command: str, *, redis: EmbeddedRedis | None = None) -> Iterator[Supervised]:
    running = Supervised([Child("child", command, PATH)], redis)
    running.thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        running.thread.join(40)
        assert not running.thread.is_alive()


def test_a_process_that_was_killed_is_started_again() -> None:
    with supervised(LIVES_ON) as running:
        os.kill(running.pid(0), signal.SIGKILL)
        assert running.pid(1) != running.pid(0)
        assert "child ended with -9: started again in a second" in running.lines("system")


def test_an_embedded_redis_that_was_killed_is_started_again(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as redis, supervised(LIVES_ON, redis=redis) as running:
        killed = redis.pid
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: redis.is_running() and redis.pid != killed, describe=lambda: str(running.said))


def test_stopping_ends_a_process_in_order() -> None:
    with supervised(LIVES_ON) as running:
        pid = running.pid()
    assert not psutil.pid_exists(pid)
    assert "child ended with -15" in running.lines("system")


def test_what_a_process_leaves_behind_is_ended_with_it() -> None:
    with supervised(WITH_A_CHILD_OF_ITS_OWN) as running:
        grandchild = running.pid()
    eventually(lambda: not is_alive(grandchild), describe=f"process {grandchild} is gone")


def test_asked_to_stop_twice_it_waits_for_nobody() -> None:
    with supervised(DEAF) as running:
        running.pid()
        running.stop.set()
        eventually(lambda: not running.stop.is_set(), describe="the first request was heard")
    assert "child ended with -9" in running.lines("system")


def test_a_release_that_fails_tells_its_exit_code() -> None:
    said: list[str] = []
    child = Child("release", "python -c 'import sys; print(\"no database\"); sys.exit(3)'", PATH)
    assert finish(child, lambda _name, line: said.append(line), threading.Event()) == 3
    assert said == ["no database"]


@pytest.mark.usefixtures("no_account_in_the_environment")
def test_missing_settings_are_named_one_a_line_until_the_database_knows_an_account(sqlite_url: str) -> None:
    assert [line.split(":")[0] for line in missing_settings(Settings(database_url=sqlite_url))] == [
        "LEADWAY_LOCATION_ID",
        "LEADWAY_API_TOKEN",
    ]
    half = Settings(database_url=sqlite_url, leadway_location_id="loc1")
    assert [line.split(":")[0] for line in missing_settings(half)] == ["LEADWAY_API_TOKEN"]


@pytest.mark.usefixtures("no_account_in_the_environment")
def test_doors_that_stay_closed_are_told(sqlite_url: str) -> None:
    assert [line.split(":")[0] for line in closed_doors(Settings(database_url=sqlite_url))] == [
        "LEADWAY_INTAKE_SECRET",
        "OPS_PASSWORD",
    ]


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("FLOWER_PORT=1\nPORT=2\n")
    monkeypatch.setenv("PORT", "3")
    monkeypatch.delenv("FLOWER_PORT", raising=False)
    monkeypatch.delenv("HOST", raising=False)
    monkeypatch.chdir(tmp_path)
    together = environment_with(read_settings())
    assert (together["FLOWER_PORT"], together["PORT"], together["HOST"]) == ("1", "3", "0.0.0.0")
    monkeypatch.delenv("PORT")
    together = environment_with(read_settings())
    assert (together["PORT"], together["HOST"]) == ("2", "127.0.0.1"), "no platform has set this one"


def test_started_without_an_account_it_says_what_is_missing_and_starts_nothing(tmp_path: Path) -> None:
    with Processes(tmp_path, {}) as processes:
        processes.run(["python", "-m", "workers.local.run"], name="run")
        eventually(lambda: not processes.is_running("run"))
        assert "LEADWAY_API_TOKEN: the location's token" in processes.log("run")


def test_the_whole_procfile_comes_up_on_an_embedded_redis_and_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    environment = {
        "LEADWAY_LOCATION_ID": "ve9EPM428h8vShlRW1KT", "LEADWAY_API_TOKEN": "token", "OPS_PASSWORD": "password",
        "LEADWAY_API_URL": f"http://127.0.0.1:{free_port()}", "PORT": str(free_port()), "FLOWER_PORT": str(free_port()),
    }  # fmt: skip
    with Processes(tmp_path, environment) as processes:
        processes.run(["python", "-m", "workers.local.run"], name="run")
        ready = f"Notifications are taken at http://127.0.0.1:{environment['PORT']}/webhooks/leadway"
        for sign in ("Booting worker", "worker_started", "beat_started", "Visit me at", ready, "/ops/setup"):
            processes.wait_for_log("run", sign, timeout=60)
        everybody = psutil.Process(processes.pid("run")).children(recursive=True)
        assert len(everybody) >= 7  # Redis, web and its two processes, worker, beat, flower
        os.kill(processes.pid("run"), signal.SIGINT)
        eventually(lambda: not processes.is_running("run"), timeout=40, describe=lambda: processes.log("run"))
        assert not [each for each in everybody if is_alive(each.pid)]


@pytest.fixture
def no_account_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LEADWAY_LOCATION_ID", "LEADWAY_API_TOKEN", "LEADWAY_INTAKE_SECRET", "OPS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # away from anybody's .env

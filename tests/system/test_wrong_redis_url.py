"""A process says in one sentence that REDIS_URL is none, shows nothing of it, and ends."""

from pathlib import Path

from tests.support.processes import Processes


def test_neither_web_nor_a_worker_starts_with_it_and_none_shows_a_traceback(tmp_path: Path) -> None:
    """Beat and Flower begin like a worker. Commands: tests/workers/cli/test_redis_url.py."""
    environment = {
        "REDIS_URL": "redis://:hidden/secret@localhost:6379/0",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'x.db'}",
        "PORT": "0",
    }
    with Processes(tmp_path, environment) as processes:
        lines = ("web", "worker")
        for line in lines:
            processes.start(line)
        for name in lines:
            assert processes.wait(name) != 0, name
            told = processes.log(name)
            assert "REDIS_URL has no usable host and port" in " ".join(told.split()), f"{name}: {told}"
            assert "Traceback" not in told, f"{name}: {told}"
            assert "hidden" not in told, f"{name}: {told}"

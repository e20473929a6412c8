"""The Redis that `make run` and the tests start for themselves."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis

from tests.support.processes import is_alive
from tests.support.waiting import eventually
from workers.local.embedded_redis import EmbeddedRedis, RedisNotAvailableError, find_redis_server


def test_it_answers_under_its_url_and_refuses_whoever_lacks_the_password(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()
        port = client.connection_pool.connection_kwargs["port"]
        with redis.Redis(host="127.0.0.1", port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.get("anything")


def test_it_never_throws_queued_work_away_and_listens_on_loopback_only(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        settings = client.config_get("maxmemory-policy", "appendonly", "bind", "save")
    assert settings == {"maxmemory-policy": "noeviction", "appendonly": "yes", "bind": "127.0.0.1", "save": ""}


def test_its_password_is_on_no_command_line(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        password = server.url.split(":")[2].split("@")[0]
        assert password
        assert password not in " ".join(psutil.Process(server.pid).cmdline())


def test_what_was_queued_outlives_a_stop_and_a_new_start_on_the_same_folder(tmp_path: Path) -> None:
    for round_ in range(3):
        with EmbeddedRedis(tmp_path / "redis") as server, redis.Redis.from_url(server.url) as client:
            assert client.llen("queue") == round_
            client.rpush("queue", "message")


def test_killed_and_started_again_it_keeps_its_url_and_what_it_had_written(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        url = server.url
        with redis.Redis.from_url(url) as client:
            client.set("key", "value")
        server.kill()
        assert not server.is_running()
        server.start()
        assert server.url == url
        with redis.Redis.from_url(url) as client:
            assert client.get("key") == b"value"


def test_a_second_one_on_the_same_folder_is_refused_and_says_who_holds_it(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as first:
        with pytest.raises(RedisNotAvailableError, match=f"in use by another embedded Redis .process {first.pid}"):
            EmbeddedRedis(tmp_path / "redis").start()
        with redis.Redis.from_url(first.url) as client:
            assert client.ping()


def test_it_leaves_no_process_behind(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        pid = server.pid
    assert not psutil.pid_exists(pid)


def test_it_ends_when_its_starter_is_killed_and_its_folder_is_free_again(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from workers.local.embedded_redis import EmbeddedRedis\n"
        "server = EmbeddedRedis(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", program, tmp_path / "redis"], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    starter.stdout.close()
    eventually(lambda: not is_alive(pid), describe=f"process {pid}, whose starter was killed, is gone")
    server = EmbeddedRedis(tmp_path / "redis")
    eventually(lambda: server.start() is None, describe="its last thread let go of the lock")
    server.stop()


def test_a_server_on_path_is_preferred_to_the_packaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = find_redis_server()
    (tmp_path / "redis-server").symlink_to(packaged)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis_server() == tmp_path / "redis-server"
    (tmp_path / "valkey-server").symlink_to(packaged)
    assert find_redis_server() == tmp_path / "valkey-server"


def test_a_server_that_ends_at_once_is_reported_with_the_place_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(RedisNotAvailableError, match=r"redis\.log"):
        EmbeddedRedis(tmp_path / "redis").start()

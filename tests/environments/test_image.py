"""The image without Docker: the commands of its stages, then its processes as its user on a read-only file system.

What stands for a layer is a folder; `useradd` alone is not run. Needs root, for a mount namespace of its own, and
Debian's util-linux.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.support.clock import ROOT
from tests.support.image import Stage, stages
from tests.support.processes import procfile
from tests.support.waiting import eventually
from tests.support.world import World
from workers.local.embedded_redis import free_port

pytestmark = pytest.mark.timeout(600)


class Image:
    """Folders in the places of /build, /opt/leadway-calls and /app."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = {each: str(folder / each.strip("/")) for each in ("/opt/leadway-calls", "/build", "/app")}
        self.tmp = folder / "tmp"
        self.stages = stages()

    def build(self) -> None:
        build, image = self.stages
        for name in ("build", "opt", "app/var", "tmp"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "bin").mkdir()
        (self.folder / "bin/python").symlink_to(_python_of(image.user))
        environment = {"PATH": os.pathsep.join([str(self.folder / "bin"), os.defpath])}
        for sources, target in build.copies:
            for source in sources:
                self._copy(source, target)
        for command in build.runs:
            subprocess.run(["sh", "-c", self.placed(command)], cwd=self.folder / "build", env=environment, check=True)
            environment = self._environment(build, environment)
        for name in ("app/var", "tmp"):
            os.chown(self.folder / name, *map(int, image.user.split(":")))

    def run(self, command: list[str], environment: Mapping[str, str]) -> list[str]:
        """The command line that runs `command` in the image: as its user; only /app/var and /tmp can be written to."""
        image = self.stages[-1]
        complete = {**self._environment(image, {"PATH": os.defpath}), "TMPDIR": str(self.tmp), **environment}
        user, group = image.user.split(":")
        writable = [str(self.folder / "app/var"), str(self.tmp)]
        shell = [
            "set -e",
            *(f"mount --bind {each} {each}" for each in writable),
            "mount -o remount,ro,bind /",
            f"cd {self.places['/app']}",
            f"if touch {self.places['/app']}/written 2>/dev/null; then exit 97; fi",  # root could, but for the mount
            shlex.join(
                ["exec", "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs",
                 "env", "-i", *(f"{name}={value}" for name, value in complete.items()), *map(self.placed, command)]
            ),
        ]  # fmt: skip
        return ["unshare", "--mount", "sh", "-c", "\n".join(shell)]

    def placed(self, text: str) -> str:
        return re.sub("|".join(self.places), lambda found: self.places[found[0]], text)

    def _environment(self, stage: Stage, base: Mapping[str, str]) -> dict[str, str]:
        mine = {name: self.placed(value).replace("$PATH", base["PATH"]) for name, value in stage.environment.items()}
        return {**base, **mine}

    def _copy(self, source: str, target: str) -> None:
        there = self.folder / "build" / target
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, there, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, there)


def _python_of(user: str) -> Path:
    """The folder of this Python may be closed to other users, as /root is."""
    for folder in (Path(sys.base_prefix) / "bin", Path("/usr/local/bin"), Path("/usr/bin")):
        python = folder / "python3"
        as_user = [
            "setpriv", f"--reuid={user.split(':')[0]}", "--clear-groups", "env", python, "-c", "import ensurepip",
        ]  # fmt: skip
        if subprocess.run(as_user, capture_output=True).returncode == 0:
            return python
    raise AssertionError("no Python that another user can start: install Debian's package python3-venv")


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    assert os.geteuid() == 0, "needs root: a read-only file system is made in a mount namespace"
    folder = Path(tempfile.mkdtemp(prefix="leadway-image-"))
    folder.chmod(0o755)
    try:
        made = Image(folder)
        made.build()
        yield made
    finally:
        shutil.rmtree(folder)


def test_every_process_of_the_image_works_as_its_user_on_a_read_only_file_system(
    image: Image, postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    settings = {"FLOWER_PORT": str(free_port()), "OPS_PASSWORD": "of-this-test-alone"}
    with World(tmp_path, database_url=postgresql_url, redis_url=redis_url, settings=settings) as world:
        given = {k: v for k, v in world.processes.environment.items() if k not in {"PATH", "PYTHONPATH", "HOME"}}

        def finish(command: list[str], name: str) -> int:
            world.processes.run(image.run(command, given), name=name)
            return world.processes.wait(name)

        check = image.stages[-1].health_check
        assert finish(["leadway-calls", "migrate"], "migrate") == 0, world.processes.log("migrate")
        assert finish(check, "unhealthy") != 0, "nothing runs yet"
        for line in ("worker", "beat", "flower"):
            world.processes.run(image.run(shlex.split(procfile()[line]), given), name=line)
        world.processes.run(image.run(image.stages[-1].command, given), name="web")
        world.wait_for_web()
        world.wait_for_worker()
        assert finish(check, "healthy") == 0, world.processes.log("healthy")
        eventually(
            lambda: (
                {row["process"] for row in world.rows("SELECT process FROM heartbeats")} == {"web", "worker", "beat"}
            ),
            timeout=30,
            describe="all hearts to beat",
        )
        flower = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{given['FLOWER_PORT']}/healthcheck')"
        eventually(lambda: finish(["python", "-c", flower], "flower-check") == 0, timeout=30, describe="Flower")

        calls = world.double.place_calls(3, actions=["CALL_TRANSFER"])
        for call in calls:
            assert world.double.notify(call).status == 202
        world.wait_until_done(calls=3)

        for name in ("web", "worker", "beat", "flower"):
            assert world.processes.is_running(name)
            assert "Read-only file system" not in world.processes.log(name), world.processes.log(name)
            assert "Permission denied" not in world.processes.log(name), world.processes.log(name)
            assert world.processes.stop(name, timeout=40) == 0, world.processes.log(name)


@pytest.mark.parametrize("starts", [["-m", "honcho", "start"], ["foreman"]], ids=["honcho", "foreman"])
def test_a_platform_that_installs_the_requirements_alone_starts_all_and_the_release_ends_none(
    image: Image, starts: list[str], postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    platform = tmp_path / "platform"
    shutil.copytree(image.folder / "opt/leadway-calls", platform, symlinks=True)
    python = str(platform / "bin" / "python")
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "leadway-calls"], check=True)
    for name in ("models", "migrations", "workers", "webhook"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Procfile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = [python, *starts] if starts[0] == "-m" else ["foreman", "start"]
    assert shutil.which(command[0]), "foreman is missing: install Debian's package ruby-foreman"
    settings = {"FLOWER_PORT": str(free_port()), "PATH": f"{platform / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    with World(tmp_path, database_url=postgresql_url, redis_url=redis_url, settings=settings) as world:
        world.processes.environment.pop("PYTHONPATH")
        world.processes.run(command, name="all")
        world.wait_for_web()
        world.wait_for_worker()
        everything = psutil.Process(world.processes.pid("all"))
        eventually(
            lambda: (
                any("--stay" in child.cmdline() for child in everything.children(recursive=True))
                and "Done. This process sleeps" in world.processes.log("all")
            ),
            timeout=30,
            describe=lambda: f"release to be done, and to stay:\n{world.processes.log('all')}",
        )
        (call,) = world.double.place_calls(1, actions=["CALL_TRANSFER"])
        assert world.double.notify(call).status == 202
        world.wait_until_done(calls=1)
        assert world.processes.is_running("all")
        assert world.processes.stop("all", timeout=40) in {0, 143, -15}

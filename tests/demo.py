"""`make demo`: the whole system on this machine, against a simulated Leadway that places a call every few seconds.

Everything is real but Leadway itself: the processes of the Procfile under their supervisor, an embedded Redis, a
SQLite database. All of it lives in `var/demo`, which every start empties. Nothing of the environment that speaks to
this system is heeded, so a demo never touches an account, a database or a Redis that somebody set up.
"""

import argparse
import fcntl
import itertools
import json
import os
import secrets
import shutil
import socket
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import requests
from cryptography.fernet import Fernet
from sqlalchemy.exc import SQLAlchemyError

from migrations.upgrading import migrate
from models.accounts import accounts
from models.accounts.token_encryption import TokenCipher
from models.database import COMMAND, Database
from models.reports import timeline
from models.settings import NAMES
from tests.demo_journeys import is_complete, journey
from tests.demo_scenes import ACCOUNTS, ENGLISH, SCENES, SPANISH, Scene
from tests.leadway_double.double import LeadwayDouble
from tests.support.clock import ROOT
from workers.local.embedded_redis import free_port
from workers.local.run import run_all

FOLDER = Path("var/demo")
LOOK_SECONDS = 0.2
SHORTENED = {"LEADWAY_RETRY_SECONDS": "1", "LEADWAY_SETTLE_SECONDS": "6"}


def main() -> int:
    options = _options()
    with ExitStack() as stack:
        folder = _fresh(FOLDER, stack)
        os.chdir(folder)  # an .env of this project must not reach the demo's processes
        demo = Demo(options, folder)
        stack.callback(demo.close)
        return demo.run()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="Runs the whole system against a simulated Leadway.")
    parser.add_argument("--calls-every", type=float, default=3.0, metavar="SECONDS", help="default: 3")
    parser.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="ends by itself; default: ctrl-C")
    parser.add_argument("--port", type=int, help="of the pages and the webhook; default: 8000, or any that is free")
    return parser.parse_args()


class Demo:
    """The double, the two threads that place and tell calls, and the system, with what they share."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.stop = threading.Event()
        self.port = options.port or _port(8000)
        self.flower_port = _port(5555)
        self.password = secrets.token_urlsafe(9)
        self.key = Fernet.generate_key().decode()
        self.database_url = f"sqlite:///{folder / 'leadway-calls.db'}"
        self.database = Database(self.database_url, limits=COMMAND)
        self.double = LeadwayDouble(
            location_id=ENGLISH,
            token=secrets.token_urlsafe(),
            intake_secret=secrets.token_urlsafe(),
            webhook_url=f"{self.address}/webhooks/leadway",
        )
        self.logs = Logs(folder, self.stop)
        self.untold: dict[tuple[str, str], str] = {}
        """Calls whose journey is not complete, with what was done to them on purpose."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self) -> int:
        """Returns the exit code when no process is left."""
        say("Starting …")
        migrate(self.database_url)
        self._add_accounts()
        self.double.start()
        threads = [threading.Thread(target=each, daemon=True) for each in (self._place_calls, self._tell_journeys)]
        for thread in threads:
            thread.start()
        code = run_all(self._environment(), on_line=self.logs.take, stop=self.stop, redis_folder=self.folder / "redis")
        self.stop.set()
        for thread in threads:
            thread.join()
        if code:
            say(f"The system did not start (exit code {code}). Why is in {self.folder}/*.log")
        else:
            say(f"Stopped, nothing is left running. Logs and the database are in {self.folder}")
        return code

    def close(self) -> None:
        self.double.stop()
        self.database.close()
        self.logs.close()

    def _add_accounts(self) -> None:
        """As `leadway-calls accounts add` does; the simulated Leadway knows the same ones."""
        cipher = TokenCipher([self.key])
        self.double.add_location(SPANISH, token=secrets.token_urlsafe(), intake_secret=secrets.token_urlsafe())
        with self.database.transaction() as connection:
            for location_id, values in ACCOUNTS.items():
                location = self.double.memory.locations[location_id]
                location.time_zone = values["time_zone"]
                token = next(each for each in self.double.memory.tokens.values() if each.location_id == location_id)
                accounts.add(connection, location_id, **values)
                accounts.set_token(connection, location_id, token.token, cipher=cipher)
                accounts.set_secret(connection, location_id, str(location.intake_secret))

    def _environment(self) -> dict[str, str]:
        ours = {*NAMES, *(f"{name}_FILE" for name in NAMES)}
        return {name: value for name, value in os.environ.items() if name not in ours and "FLOWER" not in name} | {
            "DATABASE_URL": self.database_url,
            "LEADWAY_API_URL": self.double.url,
            "LEADWAY_WEBHOOK_PUBLIC_KEYS": self.double.public_keys_pem,
            "TOKEN_ENCRYPTION_KEYS": self.key,
            "OPS_PASSWORD": self.password,
            "PORT": str(self.port),
            "FLOWER_PORT": str(self.flower_port),
            "PYTHONPATH": str(ROOT),
            **SHORTENED,
        }

    def _place_calls(self) -> None:
        if not self._wait_until_ready():
            return
        self._say_where_to_look()
        if self.options.seconds:
            timer = threading.Timer(self.options.seconds, self.stop.set)
            timer.daemon = True
            timer.start()
        for scene in itertools.cycle(SCENES):
            self._play(scene)
            if self.stop.wait(self.options.calls_every):
                return

    def _play(self, scene: Scene) -> None:
        wish = {"contact": True, "language": ACCOUNTS[scene.location_id]["language"], **scene.wish}
        call = self.double.place_call(scene.location_id, actions=scene.actions, **wish)
        if scene.mishap == "answer lost":
            self.double.fault("create_note", "do_then_reset", times=1, only=call.contact_id)
        self.untold[scene.location_id, call.call_id] = scene.mishap
        for _ in range(2 if scene.mishap == "announced twice" else 1):
            self.double.notify(call, dialect=scene.dialect, proof=scene.proof, wait=False)

    def _wait_until_ready(self) -> bool:
        while not self.stop.wait(LOOK_SECONDS):
            try:
                if requests.get(f"{self.address}/readyz", timeout=2).ok:
                    return True
            except requests.RequestException:
                continue
        return False

    def _say_where_to_look(self) -> None:
        say(
            "",
            f"  The pages   {self.address}/ops/    user: ops    password: {self.password}",
            f"  Flower      http://127.0.0.1:{self.flower_port}/    the same user and password",
            f"  Logs        {self.folder}/*.log",
            "  Stop        ctrl-C",
            "",
            f"A call every {self.options.calls_every:g} s, in two accounts, announced in many forms. Some mishaps are",
            "on purpose: logs that come late, notifications that come twice, answers that get lost. Only waiting is",
            "shorter than in production: first retry after 1 s, not 5; a lost answer settles in 6 s, not 120.",
            "",
        )

    def _tell_journeys(self) -> None:
        while not self.stop.wait(LOOK_SECONDS):
            for key, mishap in list(self.untold.items()):
                try:
                    with self.database.reading() as connection:
                        call = timeline.known_call(connection, *key)
                        told = None if call is None else timeline.of_call(connection, call)
                except SQLAlchemyError:
                    break
                if told is not None and is_complete(told):
                    del self.untold[key]
                    say(f"{journey(told)}{f'   [on purpose: {mishap}]' if mishap else ''}")


class Logs:
    """Puts each process' lines into a file of its own; shows only errors, and processes that died."""

    def __init__(self, folder: Path, stop: threading.Event) -> None:
        self.folder, self._stop = folder, stop
        self._files: dict[str, TextIO] = {}
        self._stopping = False

    def take(self, name: str, line: str) -> None:
        if name not in self._files:
            self._files[name] = (self.folder / f"{name}.log").open("a")
        self._files[name].write(f"{line}\n")
        self._files[name].flush()
        if name == "system" and line.startswith("stopping"):
            self._stopping = True
            say("Stopping …")
        elif not self._stopping and (told := _worth_showing(name, line)):
            say(f"! {told}")

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def _worth_showing(name: str, line: str) -> str | None:
    if name == "system":
        return None if line.endswith(" started") or line.startswith("REDIS_URL") else line
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    serious = isinstance(entry, dict) and entry.get("level") in ("error", "critical")
    return f"{name}: {entry.get('event')} (more in {name}.log)" if serious else None


def _fresh(folder: Path, stack: ExitStack) -> Path:
    """The folder, emptied, and ours until the end: two demos would take each other's files away."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    lock = stack.enter_context((folder.parent / "demo.lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit(f"A demo is running already in {folder}.") from None
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def _port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        return wanted


def say(*lines: str) -> None:
    print(*(lines or ("",)), sep="\n", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before the system ran, or after it ended
        sys.exit(0)

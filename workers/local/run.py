"""Runs the whole system on one machine: Redis if there is none, the release step, then every line of the Procfile.

Each process is started again a second after it ended. honcho reads the Procfile and prints the lines; its manager is
not used, because it ends everything when one process ends, while Celery relies on a supervisor.
"""

import os
import signal
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer
from sqlalchemy.exc import DBAPIError

from models.accounts.token_encryption import KEY_FILE, make_key_file
from models.database import COMMAND, Database
from models.settings import Settings, SettingsError, read_settings
from models.settings.sources import read_env_file
from workers.local.embedded_redis import EmbeddedRedis, RedisNotAvailableError
from workers.local.supervision import Child, OnLine, finish, supervise
from workers.process.redis_address import redis_address

PROCFILE = Path(__file__).resolve().parents[2] / "Procfile"
REDIS_FOLDER = Path("var/redis")
READY_EVERY_SECONDS = 0.3


def main() -> int:
    """`python -m workers.local.run`: on the real API, from the environment and `.env`."""
    try:
        settings = read_settings()
        redis_address(settings.redis_url)
        missing = missing_settings(settings)
        if not missing and not settings.token_encryption_keys:
            make_key_file()
        environment = environment_with(settings)
    except SettingsError as error:
        sys.stderr.write(f"The system was not started: {error}\n")
        return 2
    except OSError as error:
        told = f"the key file {KEY_FILE} cannot be made ({error.strerror}): set TOKEN_ENCRYPTION_KEYS"
        sys.stderr.write(f"The system was not started: {told}\n")
        return 2
    if missing:
        sys.stderr.write("The system was not started. Missing, in the environment or in the file .env:\n")
        sys.stderr.writelines(f"  {line}\n" for line in missing)
        sys.stderr.write("or add an account with `.venv/bin/leadway-calls accounts add` and start again.\n")
        return 2
    sys.stderr.writelines(f"Not set: {line}\n" for line in closed_doors(settings))
    return run_all(environment, root=root_of(settings), told_when_ready=addresses(settings))


def missing_settings(settings: Settings) -> list[str]:
    """What a first start on the real API needs and has not got: one line each, with what to do. None once the
    database knows an account."""
    needed = {
        "LEADWAY_LOCATION_ID: the location's id, from Settings > Business Profile": settings.leadway_location_id,
        "LEADWAY_API_TOKEN: the location's token, from Settings > Private Integrations": settings.leadway_api_token,
    }
    missing = [line for line, value in needed.items() if value is None]
    return [] if len(missing) == len(needed) and _knows_an_account(settings.database_url) else missing


def closed_doors(settings: Settings) -> list[str]:
    """What runs without, but shuts somebody out."""
    optional = {
        "LEADWAY_INTAKE_SECRET: webhooks of workflows are refused, signed ones of a marketplace app are not. Make one: "
        "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'": settings.leadway_intake_secret,
        "OPS_PASSWORD: the operators' pages and Flower are closed. Choose one; user `ops`": settings.ops_password,
    }
    return [line for line, value in optional.items() if value is None]


def root_of(settings: Settings) -> str:
    """Where this machine reaches the web process."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def addresses(settings: Settings) -> list[str]:
    """What a person opens or pastes once everything runs."""
    root = root_of(settings)
    return [
        f"Ready. Notifications are taken at {root}/webhooks/leadway",
        f"What to paste into Leadway: {root}/ops/setup   calls: {root}/ops/   Flower: http://127.0.0.1:{settings.flower_port}/"
        + ("" if settings.ops_password else "   (closed: OPS_PASSWORD is not set)"),
    ]


def environment_with(settings: Settings) -> dict[str, str]:
    """The environment of this process; what it does not set comes from `.env`, if there is one.

    HOST as it was read: PORT of `.env` is PORT of the environment for the processes that this starts.
    """
    from_file, _ = read_env_file()
    return {**from_file, **os.environ, "HOST": settings.host}


def run_all(
    environment: Mapping[str, str],
    *,
    on_line: OnLine | None = None,
    stop: threading.Event | None = None,
    redis_folder: Path = REDIS_FOLDER,
    root: str = "",
    told_when_ready: Sequence[str] = (),
) -> int:
    """Runs everything until ctrl-C, SIGTERM or `stop`, and returns the exit code when no process is left.

    Without REDIS_URL in `environment` an embedded Redis is started on `redis_folder`. `on_line` gets every line of
    output (default: to standard output), and `told_when_ready` when web at `root` is ready. May run in another thread
    than the main one; then only `stop` ends it.
    """
    commands = parse_procfile(PROCFILE.read_text()).processes
    on_line = on_line or _printer([*commands, "system"])
    stop = stop or threading.Event()
    with _signals_set(stop):
        try:
            with _redis_for(environment, redis_folder, on_line) as (redis, redis_url):
                complete = {**environment, **redis_url, "PATH": _path(environment), "PYTHONUNBUFFERED": "1"}
                release = Child("release", commands.pop("release"), complete)
                if code := finish(release, on_line, stop):
                    on_line("system", f"release ended with {code}: nothing else is started")
                    return code
                if told_when_ready:
                    threading.Thread(
                        target=_tell_when_ready, args=(root, told_when_ready, on_line, stop), daemon=True
                    ).start()
                supervise([Child(name, command, complete) for name, command in commands.items()], redis, on_line, stop)
        except (RedisNotAvailableError, SettingsError) as error:
            on_line("system", str(error))
            return 1
    return 0


def _tell_when_ready(root: str, lines: Sequence[str], on_line: OnLine, stop: threading.Event) -> None:
    while not stop.wait(READY_EVERY_SECONDS):
        try:
            with urllib.request.urlopen(f"{root}/readyz", timeout=2):  # noqa: S310 - http, of ours
                pass
        except OSError:
            continue
        for line in lines:
            on_line("system", line)
        return


@contextmanager
def _redis_for(
    environment: Mapping[str, str], folder: Path, on_line: OnLine
) -> Iterator[tuple[EmbeddedRedis | None, dict[str, str]]]:
    """The Redis that is started, if none is named, and the variable that names it."""
    if any(environment.get(name, "").strip() for name in ("REDIS_URL", "REDIS_URL_FILE")):
        yield None, {}
        return
    with EmbeddedRedis(folder) as redis:
        on_line("system", f"REDIS_URL is not set: embedded Redis started, its data is in {redis.folder}")
        yield redis, {"REDIS_URL": redis.url}


@contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM set `stop`, if this is the main thread (others cannot receive signals)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, lambda *_: stop.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, earlier in before.items():
            signal.signal(each, earlier)


def _knows_an_account(database_url: str) -> bool:
    try:
        with closing(Database(database_url, limits=COMMAND)) as database, database.reading() as connection:
            return connection.execute(sa.text("SELECT 1 FROM accounts LIMIT 1")).first() is not None
    except (DBAPIError, SettingsError):  # not there, or no tables yet; `release` will say so if that is wrong
        return False


def _path(environment: Mapping[str, str]) -> str:
    """PATH with this Python's own folder first: `python` and `leadway-calls` are those of the virtual environment."""
    return f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"


def _printer(names: list[str]) -> OnLine:
    printer = Printer(sys.stdout, width=max(map(len, names)))
    colours = dict(zip(names, get_colours(), strict=False))

    def show(name: str, line: str) -> None:
        now = datetime.now().astimezone()
        printer.write(Message(type="line", data=line, time=now, name=name, colour=colours.get(name)))

    return show


if __name__ == "__main__":
    sys.exit(main())

"""`python -m workers [worker|beat|flower]`: starts one Celery process from the environment alone.

Celery is started from here and not by its own command line, because a command line shows the broker's password and
the pages' password to every user of the machine.
"""

import workers.process.lean_imports  # noqa: F401, I001 - before all that it keeps out

import os
import secrets
import signal
import socket
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

import structlog
from celery.signals import worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from models.database import WORKER, Database, refuse_unusable_database
from models.failpoints import arm_failpoints
from models.settings import Settings, SettingsError, read_settings
from workers.app import QUEUES, app
from workers.process.broker import connect_broker
from workers.process.heartbeat import heartbeating
from workers.telemetry.logs import set_up_logs, tell_notices
from workers.telemetry.metrics_files import share_counters

if TYPE_CHECKING:
    from workers.process.connections import Connections

DISPATCH_PAUSE_SECONDS = 0.005
DISPATCH_RESTS = 2.0
"""Times as long as a dispatch took until the next one, while more is due than may be enqueued: then a third of the time
goes into dispatching at most. While all that is due is enqueued at once, what comes next shall not wait."""
STOP_SECONDS = 28.0
"""A worker that was told to stop is gone after that, whatever its threads hang on; its leases run out by themselves."""

log = structlog.get_logger(__name__)


def main() -> int:
    """Starts what the first argument names (a worker without one); returns the exit code."""
    kinds = {"worker": run_worker, "beat": run_beat, "flower": run_flower}
    kind = sys.argv[1] if len(sys.argv) > 1 else "worker"
    if kind not in kinds or len(sys.argv) > 2:
        raise SystemExit("usage: python -m workers [worker|beat|flower]")
    try:
        settings = read_settings()
        set_up_logs(level=settings.log_level, form=settings.log_format)
        tell_notices(settings.notices)
        share_counters(settings)
        arm_failpoints(settings.failpoints_folder)
        connect_broker(settings)
        return kinds[kind](settings)
    except SettingsError as error:
        raise SystemExit(f"{kind} was not started: {error}") from None


def run_worker(settings: Settings) -> int:
    """Threads, because tasks wait for HTTP. The node's name is its own, so any number may run on one host.

    Each worker ticks by itself, so what is due is found without beat, without a message and without a free thread.
    """
    # Here: beat and Flower need none of it, and it is a third of their memory.
    from models.accounts import accounts
    from models.follow_ups.rules_file import RulesError
    from workers.dispatch_due import dispatch_due
    from workers.heal_pauses import heal_pauses
    from workers.process import celery_patches
    from workers.process.connections import look_at_the_databases_life, open_connections
    from workers.process.draining import draining
    from workers.process.life_watch import LOOK_SECONDS
    from workers.process.ticks import Tick, dispatch_wanted, ticking
    from workers.process.wake_up import WakeUpListener
    from workers.reconciling.open_windows import open_windows
    from workers.take_in import take_in_what_waits

    refuse_unusable_database(settings.database_url)
    name = f"worker-{secrets.token_hex(3)}@{socket.gethostname()}"
    try:
        connections = open_connections(settings, worker=name)
    except RulesError as error:
        raise SettingsError(str(error)) from None
    try:
        connections.database.transact(
            lambda connection: accounts.upsert_from_settings(connection, settings, cipher=connections.cipher)
        )
    except (SQLAlchemyError, accounts.SecretTaken) as error:  # the database may come later than we do
        log.error("account_not_written_at_start", error=type(error).__name__)
    _refuse_changed_rules(connections)
    ticks = (
        Tick(
            take_in_what_waits,
            dispatch_due,
            seconds=1.0,
            pause_seconds=DISPATCH_PAUSE_SECONDS,
            rests=lambda: DISPATCH_RESTS if connections.scan_memory.left_behind else 0.0,
            woken=dispatch_wanted,
        ),
        Tick(
            WakeUpListener(settings.redis_url, woken=dispatch_wanted).wait_for_wake_up,
            seconds=0.0,
            pause_seconds=0.0,
        ),
        Tick(open_windows, seconds=2.0),
        Tick(heal_pauses, seconds=5.0),
        Tick(look_at_the_databases_life, seconds=LOOK_SECONDS),
    )
    worker_shutting_down.connect(_end_in_time)
    celery_patches.refuse_remote_control()
    if settings.log_format == "json":
        celery_patches.tell_signals_in_json()
    worker: Any = None
    queues = celery_patches.ConsumedQueues()

    def consumed() -> str | None:
        return queues.told(worker)

    with (
        heartbeating(
            connections.database,
            name,
            process="worker",
            slots=settings.worker_threads,
            queues=consumed,
            redis_epoch=connections.redis_epoch.told,
        ),
        ticking(*ticks),
        draining(settings.journal_folder, connections.database),
    ):
        worker = app.Worker(
            hostname=name,
            pool_cls=celery_patches.WakingPool,
            consumer_cls=celery_patches.EventsTogether,
            concurrency=settings.worker_threads,
            queues=list(QUEUES),
            loglevel=settings.log_level,
            task_events=True,
            without_gossip=True,
            without_mingle=True,
            quiet=True,
        )
        log.info("worker_started", name=name, threads=settings.worker_threads)
        worker.start()
    connections.close()
    return int(worker.exitcode or 0)


def _refuse_changed_rules(this: "Connections") -> None:
    """Raises SettingsError when what is owed would be worded for one kind of thing and sent as another."""
    from models.follow_ups import follow_ups  # here: as above

    try:
        with this.database.reading() as connection:
            changed = follow_ups.changed_rules(connection, this.rules)
    except SQLAlchemyError:  # the database may come later; each follow-up is compared when it is worded
        return
    if changed:
        raise SettingsError(
            f"the kind of {', '.join(map(repr, changed))} was changed in the rules file while follow-ups of the old"
            " kind are owed: give the changed rule a new id, and keep the old one with enabled = false"
        )


def run_beat(settings: Settings) -> int:
    """Every task is harmless when repeated, so the schedule lives in memory: no file that two beats could share."""
    refuse_unusable_database(settings.database_url)
    database = Database(settings.database_url, limits=WORKER)
    app.conf.include = ()  # it sends tasks by their names, and makes none
    with heartbeating(database, f"beat-{secrets.token_hex(3)}@{socket.gethostname()}", process="beat"):
        log.info("beat_started", entries=sorted(app.conf.beat_schedule))
        app.Beat(scheduler="celery.beat:Scheduler", loglevel=settings.log_level, quiet=True).run()
    return 0


def run_flower(settings: Settings) -> int:
    """Behind the password, on loopback. Flower reads its own FLOWER_… variables: FLOWER_ADDRESS, FLOWER_PORT."""
    from flower.options import options  # here: of the three processes only this one needs Tornado
    from flower.views import BaseHandler

    password = settings.ops_password.get_secret_value() if settings.ops_password else None
    if password is None:
        log.warning("flower_pages_closed", do="set OPS_PASSWORD, then sign in as the user `ops`")
    os.environ["FLOWER_PORT"] = str(settings.flower_port)  # as we read it: Flower would end at a service link
    options.address = "127.0.0.1"
    options.basic_auth = [f"ops:{password or secrets.token_urlsafe(32)}"]
    os.environ.pop("FLOWER_BASIC_AUTH", None)  # one password for all pages
    own_headers = BaseHandler.set_default_headers

    def set_default_headers(handler: BaseHandler) -> None:
        own_headers(handler)
        handler.set_header("Content-Security-Policy", "frame-ancestors 'none'")

    BaseHandler.set_default_headers = set_default_headers  # Flower has no option for it
    signal.signal(signal.SIGTERM, _leave)
    try:
        app.start(["flower"])
    except (OSError, ValueError) as error:  # ValueError: of its own options, whose values it does not check
        reason = error.strerror if isinstance(error, OSError) else "of a variable FLOWER_… that it cannot read"
        raise SettingsError(
            f"Flower cannot start ({reason}): look at FLOWER_ADDRESS, FLOWER_PORT and what else begins with FLOWER_"
        ) from None
    return 0


def _end_in_time(**_: object) -> None:
    """The threads pool waits for its tasks without limit, whatever Celery's time limits say."""
    timer = threading.Timer(STOP_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())

"""The web application: settings, database, logs, blueprints.

Two in one: receipts have theirs from the start, and pages, probes and metrics one of their own when they are first
asked for. To import what they show would be a tenth of the time until the first receipt is answered.
"""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

import structlog
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from models.accounts import accounts
from models.accounts.accounts import SecretTaken
from models.accounts.token_encryption import cipher_for
from models.database import HEARTBEAT, Database, limits_of_web, refuse_unusable_database
from models.intake.journal import Journal
from models.settings import Settings, SettingsError, read_settings
from models.settings.places import make_private
from webhook import authentication, errors, receiver
from webhook.authentication import PublicKeys
from webhook.inbox_writer import InboxWriter
from webhook.known_accounts import KnownAccounts
from webhook.receiver import Receiver
from webhook.rejection_counter import RejectionCounter
from workers.process.draining import draining
from workers.process.heartbeat import heartbeating
from workers.process.wake_up import Waker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

RECEIPT_PATHS = "/webhooks/"
"""What the paths of all receipts begin with."""

log = structlog.get_logger(__name__)


def create_app(settings: Settings | None = None) -> Flask:
    """An application for one process; its threads and connections begin when they are first used.

    Raises SettingsError.
    """
    settings = settings or read_settings()
    app = Flask("webhook", static_folder=None)
    cipher = cipher_for(settings)
    limits = limits_of_web(settings)
    database = Database(settings.database_url, limits=limits)
    known = KnownAccounts(database, threads=settings.web_threads)
    app.extensions[receiver.EXTENSION] = Receiver(
        keys=_public_keys(settings),
        redaction_key=cipher.fingerprint_key,
        known=known,
        writer=InboxWriter(settings, journal=_journal(settings), waker=Waker(settings.redis_url)),
        rejection_counter=RejectionCounter(database),
    )
    errors.answer_for(app)
    app.register_blueprint(receiver.blueprint)
    app.wsgi_app = _WithOthers(app.wsgi_app, make=lambda: _app_of_others(settings, database))  # type: ignore[method-assign]
    try:
        with database.transaction() as connection:
            accounts.upsert_from_settings(connection, settings, cipher=cipher)
        known.read()
    except (SQLAlchemyError, SecretTaken) as error:
        # The release or a worker writes it too; notifications are answered 429 until the database is there.
        log.error("account_not_written_at_start", error=type(error).__name__)
    return app


class _WithOthers:
    """Gives receipts to the application of receipts, and all else to one that is made for the first such request."""

    def __init__(self, receipts: "WSGIApplication", *, make: "Callable[[], WSGIApplication]") -> None:
        self._receipts, self._make = receipts, make
        self._others: WSGIApplication | None = None
        self._making = Lock()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        if environ["PATH_INFO"].startswith(RECEIPT_PATHS):
            return self._receipts(environ, start_response)
        if self._others is None:
            with self._making:
                self._others = self._others or self._make()
        return self._others(environ, start_response)


def _app_of_others(settings: Settings, database: Database) -> Flask:
    from webhook import health
    from webhook.ops import pages
    from webhook.verdict_copy import verdict_copy

    app = Flask("webhook", static_folder=None)
    errors.answer_for(app)
    reader = (
        Database(settings.reader_database_url, limits=limits_of_web(settings)) if settings.reader_database_url else None
    )
    verdict = verdict_copy(database, settings)
    app.register_blueprint(health.blueprint_for(database, settings, verdict))
    app.register_blueprint(pages.blueprint_for(database, settings, verdict, reader=reader))
    return app


def refuse_unusable(settings: Settings) -> None:
    """Raises SettingsError for what no process could start with: before they are forked, once, in a sentence."""
    _public_keys(settings)
    cipher_for(settings)
    refuse_unusable_database(settings.database_url)


def _public_keys(settings: Settings) -> PublicKeys:
    keys = settings.leadway_webhook_public_keys
    try:
        return authentication.load_keys() if keys is None else authentication.load_keys(keys)
    except ValueError as error:
        raise SettingsError(f"LEADWAY_WEBHOOK_PUBLIC_KEYS: {error}") from None


def _journal(settings: Settings) -> Journal | None:
    if settings.journal_folder is None:
        return None
    try:
        make_private(settings.journal_folder.parent)
        return Journal(settings.journal_folder)
    except OSError as error:
        log.warning(
            "no_journal", folder=str(settings.journal_folder), error=error.strerror,
            meanwhile="notifications are answered 429 while the database is away; see LEADWAY_JOURNAL_DIR",
        )  # fmt: skip
        return None


@contextmanager
def alive(settings: Settings) -> Iterator[None]:
    """Writes the heartbeat of one web process while the block runs; entered after the fork.

    The heartbeat has a connection pool and, on SQLite, a place among the writers of its own: it waits for the database
    beside the receipts, not before them.
    """
    database = Database(settings.database_url, limits=HEARTBEAT)
    name = f"web-{secrets.token_hex(3)}@{socket.gethostname()}"
    try:
        with heartbeating(database, name, process="web"), draining(settings.journal_folder, database):
            yield
    finally:
        database.close()

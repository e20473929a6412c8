"""The operators' pages under /ops/: for whoever has signed in, rendered on the server, usable without scripts."""

from pathlib import Path

import sqlalchemy as sa
import structlog
from flask import Blueprint, Response, make_response, render_template
from sqlalchemy.exc import SQLAlchemyError

from models.accounts.token_encryption import cipher_for
from models.database import Database
from models.reports.verdict.findings import SystemVerdict
from models.settings import Settings
from webhook.copies import CopyOf
from webhook.deadline import DeadlinePool
from webhook.ops import acts, audit, call_list, frame, one_call, setup, sign_in, wording
from webhook.ops.access import Access

log = structlog.get_logger(__name__)

HERE = Path(__file__).parent
CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
"""Scripts are files of ours: copy.js for the buttons of the setup page, refresh.js to show what is new."""
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
PAGE_LIMIT_SECONDS = 1.0
"""Deadline of the question whether the database answers, which each page asks first."""


def blueprint_for(
    database: Database, settings: Settings, verdict: CopyOf[SystemVerdict], *, reader: Database | None = None
) -> Blueprint:
    """`reader`: the database that the pages show, if it is another one than that of users and audit."""
    blueprint = Blueprint(
        "ops",
        __name__,
        url_prefix="/ops",
        root_path=str(HERE),
        template_folder="templates",
        static_folder="static",
    )
    shown = reader or database
    pool = DeadlinePool(2, seconds=PAGE_LIMIT_SECONDS, name="page")
    cipher = cipher_for(settings)
    access = Access(database, settings.ops_password, cipher=cipher, pool=pool)
    wording.teach(blueprint)
    sign_in.add_to(blueprint, cipher, access)
    call_list.add_to(blueprint, shown, settings, verdict)
    one_call.add_to(blueprint, shown, access)
    setup.add_to(blueprint, shown, settings)
    acts.add_to(blueprint, database, pool)
    audit.add_to(blueprint, shown)

    @blueprint.before_request
    def check_database() -> None:
        """A page that hangs on a frozen database would occupy a thread that a notification needs."""
        pool.run(lambda: _ping(shown))

    @blueprint.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        response.headers["Content-Security-Policy"] = CONTENT_POLICY
        return response

    @blueprint.errorhandler(SQLAlchemyError)
    @blueprint.errorhandler(TimeoutError)
    def database_away(error: Exception) -> Response:
        log.warning("page_without_database", error=type(error).__name__)
        response = make_response(render_template("away.html", refresh=frame.REFRESH_SECONDS), 503)
        response.headers["Retry-After"] = str(frame.REFRESH_SECONDS)
        return response

    return blueprint


def _ping(database: Database) -> None:
    with database.reading() as connection:
        connection.execute(sa.select(1))

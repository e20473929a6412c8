"""The setup page: what to paste into Leadway, whether notifications arrive, and if not, why not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from flask import Blueprint, render_template, request
from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.accounts.accounts import Account
from models.accounts.pauses import Pause
from models.database import Database, now
from models.intake import inbox, journal, notifications, rejection_counts
from models.intake.inbox import Waiting
from models.intake.notifications import StoredNotification
from models.reconciling import webhook_coverage
from models.reconciling.unresolved import FoundBy, found_by
from models.reports import timeline
from models.reports.timeline import KnownCall
from models.settings import Settings
from webhook.authentication import INTAKE_HEADER
from webhook.ops import frame

REJECTIONS_SHOWN = timedelta(hours=24)
NOTIFICATIONS_SHOWN = 10
BODY = '{"contactId": "{{contact.id}}"}'
"""To paste. No merge tag of Leadway's is a call's id, and the contact is enough."""
NO_HOST = "https://YOUR-HOST"
"""Where the page was opened on the machine itself, which no notification reaches."""
SECRET = "INTAKE-SECRET"  # noqa: S105 - stands where the secret belongs: only its hash is stored


def add_to(blueprint: Blueprint, database: Database, settings: Settings) -> None:
    @blueprint.get("/setup")
    def setup() -> str:
        with database.reading() as connection:
            at = now(connection)
            with_secret = accounts.with_intake_secret(connection)
            served = [
                _setup_of(connection, account, settings, has_secret=account.location_id in with_secret)
                for account in accounts.served(connection)
            ]
            newest = notifications.newest(connection, limit=NOTIFICATIONS_SHOWN)
            waiting = inbox.waiting(connection)
            refused = rejection_counts.by_reason(rejection_counts.since(connection, at - REJECTIONS_SHOWN))
        is_local = frame.loopback_host() is not None
        address = NO_HOST if is_local else frame.address()
        return render_template(
            "setup.html",
            language=settings.leadway_language,
            now=at,
            url=f"{address}/webhooks/leadway",
            url_is_local=is_local,
            header=INTAKE_HEADER,
            body=BODY,
            secret=SECRET,
            served=served,
            newest=newest,
            waiting=waiting,
            journals=journal.waiting(settings.journal_folder),
            refused=refused,
            # Not otherwise: a page that renews itself drops what is selected for copying.
            refresh=frame.REFRESH_SECONDS if "watch" in request.args else None,
        )


@dataclass(frozen=True)
class AccountSetup:
    """Which steps of setting up an account are done. Contains no secret."""

    account: Account
    has_token: bool
    has_secret: bool
    secret_is_from_environment: bool
    notification: StoredNotification | None
    """The newest one of the account that is taken in."""
    waiting: Waiting
    call: KnownCall | None
    """The call of the notification."""
    found_by: FoundBy | None
    """How that call became known."""
    unannounced: int
    """Calls of the last day that only Leadway's list told of."""
    paused: Sequence[Pause]


def _setup_of(connection: Connection, account: Account, settings: Settings, *, has_secret: bool) -> AccountSetup:
    newest = notifications.newest(connection, location_id=account.location_id, limit=1)
    notification = newest[0] if newest else None
    call_id = notification and notification.call_id
    return AccountSetup(
        account=account,
        has_token=account.api_token_encrypted is not None,
        has_secret=has_secret,
        secret_is_from_environment=(
            settings.leadway_location_id == account.location_id and settings.leadway_intake_secret is not None
        ),
        notification=notification,
        waiting=inbox.waiting(connection, account.location_id),
        call=timeline.known_call(connection, account.location_id, call_id) if call_id else None,
        found_by=found_by(notification) if notification else None,
        unannounced=webhook_coverage.of_account(connection, account.location_id).unannounced_in_the_last_day,
        paused=pauses.of_account(connection, account.location_id),
    )

"""The setup page: what to paste into Leadway, whether notifications arrive, and if not, why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Blueprint, render_template
from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.accounts.accounts import Account
from models.accounts.pauses import Pause
from models.database import Database, now
from models.intake import inbox, journal, notifications, rejection_counts
from models.intake.inbox import Waiting
from models.intake.notifications import StoredNotification
from models.intake.rejection_counts import RejectionCount
from models.reports import timeline
from models.reports.timeline import KnownCall
from webhook.authentication import INTAKE_HEADER
from webhook.ops import frame

REJECTIONS_SHOWN = timedelta(hours=24)
NOTIFICATIONS_SHOWN = 10


def add_to(blueprint: Blueprint, database: Database, journal_folder: Path | None) -> None:
    @blueprint.get("/setup")
    def setup() -> str:
        with database.reading() as connection:
            at = now(connection)
            with_secret = accounts.with_intake_secret(connection)
            served = [
                _setup_of(connection, account, has_secret=account.location_id in with_secret)
                for account in accounts.served(connection)
            ]
            newest = notifications.newest(connection, limit=NOTIFICATIONS_SHOWN)
            waiting = inbox.waiting(connection)
            refused = by_reason(rejection_counts.since(connection, at - REJECTIONS_SHOWN))
        address = frame.address()
        return render_template(
            "setup.html",
            now=at,
            url=f"{address}/webhooks/leadway",
            url_is_local=frame.loopback_host() is not None,
            header=INTAKE_HEADER,
            served=served,
            newest=newest,
            waiting=waiting,
            journals=journal.waiting(journal_folder),
            refused=refused,
            refresh=frame.REFRESH_SECONDS,
        )


@dataclass(frozen=True)
class AccountSetup:
    """Which steps of setting up an account are done. Contains no secret."""

    account: Account
    has_token: bool
    has_secret: bool
    notification: StoredNotification | None
    """The newest one of the account that is taken in."""
    waiting: Waiting
    call: KnownCall | None
    """The call that the notification named."""
    paused: Sequence[Pause]


@dataclass(frozen=True)
class RejectionSummary:
    """The rejections of one reason. `trace`: what the last one carried (`RejectionCounter.count`)."""

    reason: str
    number: int
    last_at: datetime
    trace: Mapping[str, Any]


def by_reason(counts: Sequence[RejectionCount]) -> list[RejectionSummary]:
    """Sums up each reason, the latest rejection first. `counts`: newest hour first."""
    found: dict[str, RejectionSummary] = {}
    for each in counts:
        newest = found.get(each.reason) or RejectionSummary(each.reason, 0, each.last_at, each.trace or {})
        found[each.reason] = replace(newest, number=newest.number + each.number)
    return sorted(found.values(), key=lambda each: each.last_at, reverse=True)


def _setup_of(connection: Connection, account: Account, *, has_secret: bool) -> AccountSetup:
    newest = notifications.newest(connection, location_id=account.location_id, limit=1)
    notification = newest[0] if newest else None
    call_id = notification and notification.call_id
    return AccountSetup(
        account=account,
        has_token=account.api_token_encrypted is not None,
        has_secret=has_secret,
        notification=notification,
        waiting=inbox.waiting(connection, account.location_id),
        call=timeline.known_call(connection, account.location_id, call_id) if call_id else None,
        paused=pauses.of_account(connection, account.location_id),
    )

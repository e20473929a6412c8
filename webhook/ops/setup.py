"""The setup page: what to paste into Leadway, whether it works, and if not, why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from flask import Blueprint, render_template, request
from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.accounts.accounts import Account
from models.calls import calls
from models.database import Database
from models.intake import notifications, rejection_counts
from models.reports import overview
from webhook.authentication import INTAKE_HEADER
from webhook.ops.call_list import LOOPBACK

REFRESH_SECONDS = 5
REFUSALS_SINCE = timedelta(hours=24)
NEWEST_SHOWN = 10


def add_to(blueprint: Blueprint, database: Database) -> None:
    @blueprint.get("/setup")
    def setup() -> str:
        with database.reading() as connection:
            now = overview.now(connection)
            doors = accounts.with_intake_secret(connection)
            served = [
                _look_at(connection, account, has_secret=account.location_id in doors)
                for account in accounts.served(connection)
            ]
            newest = notifications.newest(connection, limit=NEWEST_SHOWN)
            refused = refused_by_reason(rejection_counts.since(connection, now - REFUSALS_SINCE))
        address = _address()
        return render_template(
            "setup.html",
            now=now,
            url=f"{address}/webhooks/leadway",
            url_is_local=(urlsplit(address).hostname or "") in LOOPBACK,
            header=INTAKE_HEADER,
            served=served,
            newest=newest,
            refused=refused,
            refresh=REFRESH_SECONDS,
        )


@dataclass(frozen=True)
class AccountSetup:
    """Whether each step of setting up an account has been taken. Secrets themselves are nowhere in it."""

    account: Account
    has_token: bool
    has_secret: bool
    notification: sa.RowMapping | None
    """The newest that came for it."""
    call: sa.RowMapping | None
    """The call that it told of."""
    paused: list[Any]


@dataclass(frozen=True)
class RejectionSummary:
    reason: str
    number: int
    last_at: datetime
    trace: Mapping[str, Any]


def refused_by_reason(rows: list[sa.RowMapping]) -> list[RejectionSummary]:
    """One for each reason, the latest first. `rows`: newest hour first."""
    found: dict[str, RejectionSummary] = {}
    for row in rows:
        known = found.get(row["reason"])
        found[row["reason"]] = RejectionSummary(
            row["reason"],
            row["number"] + (known.number if known else 0),
            known.last_at if known else row["last_at"],
            known.trace if known else row["trace"] or {},
        )
    return sorted(found.values(), key=lambda each: each.last_at, reverse=True)


def _look_at(connection: Connection, account: Account, *, has_secret: bool) -> AccountSetup:
    newest = notifications.newest(connection, location_id=account.location_id, limit=1)
    notification = newest[0] if newest else None
    call_id = notification["call_id"] if notification else None
    return AccountSetup(
        account=account,
        has_token=account.api_token_encrypted is not None,
        has_secret=has_secret,
        notification=notification,
        call=calls.get(connection, account.location_id, call_id) if call_id else None,
        paused=pauses.of_account(connection, account.location_id),
    )


def _address() -> str:
    """Under which address this page was opened, as a proxy in front of us tells it: the webhook is beside it."""
    forwarded = request.headers.get("X-Forwarded-Proto", "")
    scheme = forwarded if forwarded in ("http", "https") else request.scheme
    return f"{scheme}://{request.host}"

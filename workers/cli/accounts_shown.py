"""`leadway-calls accounts list` and `accounts show`: everything about an account but its token and secrets."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
from sqlalchemy import Connection

from models.accounts import accounts, circuit_breaker, pauses
from models.accounts.accounts import Account
from models.accounts.circuit_breaker import BreakerState
from models.accounts.pauses import Pause
from models.accounts.token_encryption import TokenUnreadable
from models.database import now
from workers.cli.acting import json_option, show_json
from workers.cli.opened import Opened, opened
from workers.cli.screen import NOTHING, heading, known, say, show_facts, show_table, when
from workers.cli.selecting import known_location


@click.command("list", short_help="One line for each account.")
@json_option
def list_accounts(in_json: bool) -> None:
    """One line for each account that is served.

    \b
    Example:
      leadway-calls accounts list
    """
    with opened(reads_only=True) as this, this.database.reading() as connection:
        if in_json:
            show_json({"accounts": [_as_json(connection, each) for each in accounts.served(connection)]})
            return
        rows = [
            (each.location_id, each.name or NOTHING, each.language, each.time_zone, _state(connection, each))
            for each in accounts.served(connection)
        ]
    if rows:
        show_table(("location", "name", "notes", "time zone", "state"), rows)
    else:
        say("No account is served yet: add one with `leadway-calls accounts add LOCATION`.")


@click.command("show", short_help="Everything about one account but its secrets.")
@click.argument("location")
@json_option
def show_account(location: str, in_json: bool) -> None:
    """Everything about one account: whether it has credentials, how far it is complete, why it stands still.

    \b
    Example:
      leadway-calls accounts show ve9EPM428h8vShlRW1KT
    """
    with opened(reads_only=True) as this, this.database.reading() as connection:
        account = accounts.get(connection, known_location(connection, location))
        if in_json:
            show_json(_as_json(connection, account))
            return
        facts = _facts(this, connection, account)
        paused = pauses.of_account(connection, account.location_id)
    heading(f"{account.location_id}  {account.name}".rstrip())
    show_facts(facts)
    for pause in paused:
        heading(f"Paused by {pause.cause} since {when(pause.paused_at)}, {_stands_still(pause)}", wrong=True)
        say(f"  {pause.detail}")
        if pause.next_probe_at is not None:
            say(f"  The system probes it again at {when(pause.next_probe_at)}.")


def _as_json(connection: Connection, account: Account) -> dict[str, Any]:
    """The contract of `--json`: every key is always there, null where nothing is known. No secret, no token."""
    names = (
        "location_id", "name", "language", "time_zone", "follow_up_age_hours", "added_at", "removed_at",
        "complete_from", "complete_until", "outages_in_a_row",
    )  # fmt: skip
    current, previous = accounts.has_intake_secrets(connection, account.location_id)
    return {
        **{name: getattr(account, name) for name in names},
        "state": _state(connection, account), "has_token": account.api_token_encrypted is not None,
        "has_intake_secret": current, "has_previous_intake_secret": previous,
        "breaker": circuit_breaker.state_of(account, now(connection)),
        "paused": [
            {"cause": each.cause, "work": each.work, "since": each.paused_at, "detail": each.detail}
            for each in pauses.of_account(connection, account.location_id)
        ],
    }  # fmt: skip


def _facts(this: Opened, connection: Connection, account: Account) -> Sequence[tuple[str, str | None]]:
    current, previous = accounts.has_intake_secrets(connection, account.location_id)
    return (
        ("notes", f"language {account.language}, time zone {account.time_zone}"),
        ("follow-up age", f"{account.follow_up_age_hours} h: calls that ended longer ago get no notes"),
        ("API token", _token(this, account)),
        ("intake secret", ("set" if current else "none") + (", the previous one is still valid" if previous else "")),
        ("added", when(account.added_at)),
        ("removed", known(account.removed_at, ": not served; `accounts add` takes it back")),
        ("complete", f"from {when(account.complete_from)} until {when(account.complete_until)}"),
        ("API outages", api_outages(account, now(connection))),
    )


def api_outages(account: Account, at: datetime) -> str | None:
    """The outages in a row and the state of the circuit breaker at `at`, by the database's clock. None: no outage."""
    if not account.outages_in_a_row:
        return None
    number = f"{account.outages_in_a_row} in a row"
    match circuit_breaker.state_of(account, at):
        case BreakerState.OPEN:
            return f"{number}; circuit breaker open until {when(account.open_until)}"
        case BreakerState.HALF_OPEN:
            return f"{number}; circuit breaker half-open: one attempt tests the API"
        case BreakerState.CLOSED:
            return number


def _token(this: Opened, account: Account) -> str:
    if account.api_token_encrypted is None:
        return f"none: set it with `leadway-calls accounts set-token {account.location_id}`"
    try:
        this.cipher().decrypt(account.api_token_encrypted)
    except TokenUnreadable as error:
        return str(error)
    return "set"


def _state(connection: Connection, account: Account) -> str:
    causes = sorted({each.cause for each in pauses.of_account(connection, account.location_id)})
    if causes:
        return f"paused by {', '.join(causes)}"
    return "served" if account.api_token_encrypted else "no API token"


def _stands_still(pause: Pause) -> str:
    return {"all": "nothing is fetched or written", "call": "no call is fetched"}.get(pause.work, "no note is written")

"""`leadway-calls reconcile`: compares Leadway's list with the stored calls now, and takes in what is missing."""

from datetime import datetime

import click
from sqlalchemy import Connection

from models.accounts import accounts
from models.database import now
from models.reconciling import runs, schedule, windows
from models.reconciling.runs import RunTotals
from models.reconciling.windows import WindowKind
from workers.cli.acting import dry_run_option
from workers.cli.listing import Time, connected
from workers.cli.opened import Failure, opened
from workers.cli.screen import count, say, when
from workers.process.connections import Connections
from workers.read_page import AccountStandsStill, read_to_end


@click.command
@click.argument("location", required=False)
@click.option("--since", type=Time(), metavar="TIME", help="From this time on instead of from the account's watermark.")
@dry_run_option
def reconcile(location: str | None, since: datetime | None, dry_run: bool) -> None:
    """Lists the calls of one account, or of all, until now; stores those that are missing or newer; returns when done.

    The same happens by itself every few minutes. It works with or without workers running. Calls that end up here
    late get their notes if they ended within the account's follow-up age (72 hours).

    \b
    Examples:
      leadway-calls reconcile
      leadway-calls reconcile ve9EPM428h8vShlRW1KT --since 2026-03-01
    """
    with opened() as this:
        with this.database.reading() as connection:
            if location is not None:
                accounts.get(connection, location)
            served = [account.location_id for account in accounts.served(connection)]
            if since is not None and since >= now(connection):
                raise click.UsageError("--since has to be in the past")
        if location is not None and location not in served:
            raise Failure(
                f"{location} is not served any more: take it back with `leadway-calls accounts add {location}`"
            )
        if dry_run:
            with this.database.reading() as connection:
                for each in (one for one in accounts.served(connection) if location in (None, one.location_id)):
                    begin = since or each.complete_until or each.added_at
                    say(f"{each.location_id}: the calls since {when(begin)} would be listed. Nothing was changed.")
            return
        with connected(this) as connections:
            failed = [each for each in served if location in (None, each) and not _reconcile(connections, each, since)]
        if failed:
            raise Failure(f"not reconciled: {', '.join(failed)}")


def _reconcile(this: Connections, location_id: str, since: datetime | None) -> bool:
    slot = WindowKind.REGULAR if since is None else WindowKind.SINCE
    try:
        # A run that is open already ends at an earlier time than now: it is read to its end first.
        read_to_end(this, location_id, slot)
        first_id = this.database.transact(lambda connection: _open(connection, location_id, since))
        read_to_end(this, location_id, slot)
    except AccountStandsStill as reason:
        say(f"{location_id}: {reason}")
        return False
    with this.database.reading() as connection:
        _show_summary(location_id, runs.totals(connection, location_id, slot, first_id=first_id))
        say(f"  complete until {when(accounts.get(connection, location_id).complete_until)}")
    return True


def _open(connection: Connection, location_id: str, since: datetime | None) -> int:
    until = now(connection)
    if since is None:
        schedule.open_regular(connection, location_id, until=until)
        return runs.first_of_run(connection, location_id, WindowKind.REGULAR)
    windows.open_run(connection, location_id, kind=WindowKind.SINCE, since=since, until=until)
    return runs.first_of_run(connection, location_id, WindowKind.SINCE)


def _show_summary(location_id: str, done: RunTotals) -> None:
    say(
        f"{location_id}: {count(done.listed, 'call')} listed, {done.held} here; {done.unannounced} had not been"
        f" announced, {done.changed} brought up to date; {count(done.requests, 'request')}"
    )

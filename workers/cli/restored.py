"""`leadway-calls restored`: tells the system that its database was restored, or lost its last commits."""

from datetime import datetime

import click
from sqlalchemy import Connection

from models.accounts import accounts
from models.database import now
from models.reconciling import windows
from models.reconciling.windows import WindowKind
from models.work import life
from models.work.life import Cause
from workers.cli.acting import dry_run_option
from workers.cli.listing import Time
from workers.cli.opened import Failure, opened
from workers.cli.screen import count, say, when


@click.command
@click.option(
    "--since", type=Time(), required=True, metavar="TIME",
    help="From when on the database has forgotten: the time of the backup, or a little earlier.",
)  # fmt: skip
@dry_run_option
def restored(since: datetime, dry_run: bool) -> None:
    """Begins a new life of the database, as the workers do by themselves when they notice that it was restored.

    Every follow-up that is not written yet and whose call ended before now is looked for in the CRM before it is
    written: after the settle window, twice. The calls of every account that began since TIME are listed again, and
    those that are missing are stored and get their follow-ups. Run it when the restored database is in place, best
    before the workers start; it is harmless when the workers have noticed already.

    \b
    Example:
      leadway-calls restored --since 2026-03-01T03:17
    """
    with opened() as this:
        with this.database.reading() as connection:
            at = now(connection)
        if since >= at:
            raise click.UsageError("--since has to be in the past")
        if dry_run:  # no rehearsal: a sequence that has jumped does not come back
            with this.database.reading() as connection:
                number = len(accounts.served(connection))
            say(
                f"Only told, nothing was changed: a new life would begin, and the calls since {when(since)} of"
                f" {count(number, 'account')} would be listed again."
            )
            return
        began = this.database.transact(_begin)
        if not began:
            raise Failure("a new life of the database began in this moment; run it again if the restore came later")
        this.database.transact(life.move_fences)
        listed = this.database.transact(lambda connection: _list_again(connection, since, until=at))
        say(
            f"From {when(at)} on, follow-ups of earlier calls are looked for before they are written. The calls since"
            f" {when(since)} of {count(listed, 'account')} are listed again; `leadway-calls status` tells how far."
        )


def _begin(connection: Connection) -> bool:
    return life.begin(connection, life.current(connection), Cause.PERSON)


def _list_again(connection: Connection, since: datetime, *, until: datetime) -> int:
    served = accounts.served(connection)
    for account in served:
        windows.open_run(connection, account.location_id, kind=WindowKind.SINCE, since=since, until=until)
    return len(served)

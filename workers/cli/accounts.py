"""`leadway-calls accounts …`: which Leadway locations are served, with which credentials; pausing and resuming them."""

from typing import Any

import click
from sqlalchemy import Connection

from models.accounts import accounts as served_accounts
from models.accounts import pauses
from models.accounts.intake_secrets import new_secret
from models.accounts.pauses import PauseCause
from models.follow_ups.languages import Language
from workers.cli.accounts_shown import list_accounts, show_account
from workers.cli.acting import dry_run_option
from workers.cli.connect import connect, set_budget
from workers.cli.credentials import (
    checked_location,
    checked_secret,
    checked_time_zone,
    checked_token,
    line_from_stdin,
    prompted,
    show_made_secret,
    show_where_to_send,
)
from workers.cli.opened import Failure, Opened, opened, served_account
from workers.cli.screen import say


@click.group
def accounts() -> None:
    """The Leadway accounts (locations) that are served.

    LOCATION is Leadway's id of a location: Settings > Business Profile in the portal, or the part after /location/ in
    its address. Tokens and secrets come from standard input or a hidden prompt, never from an argument.
    """


accounts.add_command(list_accounts)
accounts.add_command(show_account)
accounts.add_command(connect)
accounts.add_command(set_budget)


@accounts.command(short_help="Serves an account from now on.")
@click.argument("location")
@click.option("--token-stdin", is_flag=True, help="Read the API token as a line from standard input.")
@click.option(
    "--intake-secret-stdin", is_flag=True,
    help="Read the intake secret as a line from standard input: with --token-stdin the second line.",
)  # fmt: skip
@click.option("--name", help="What you call it; shown beside the id.")
@click.option("--language", type=click.Choice([each.value for each in Language]), help="Of its notes. [default: en]")
@click.option("--time-zone", metavar="ZONE", help="For the times in its notes, like Europe/Madrid. [default: UTC]")
@click.option(
    "--follow-up-age-hours", type=click.IntRange(1, 8760), metavar="HOURS",
    help="Calls that ended longer ago get no notes. [default: 72]",
)  # fmt: skip
@dry_run_option
def add(location: str, token_stdin: bool, intake_secret_stdin: bool, dry_run: bool, **options: Any) -> None:
    """Serves an account from now on, or takes a removed one back.

    Without the two flags it asks for the API token and the intake secret, hidden. Left empty, or not given, a new
    intake secret is made and shown once, with the URL to paste. For an account that is served already, what is given
    replaces what it has.

    \b
    Examples:
      leadway-calls accounts add ve9EPM428h8vShlRW1KT --language es --time-zone Europe/Madrid
      printf '%s\\n%s\\n' "$TOKEN" "$SECRET" |
        leadway-calls accounts add ve9EPM428h8vShlRW1KT --token-stdin --intake-secret-stdin
    """
    checked_location(location)
    if options["time_zone"] is not None:
        checked_time_zone(options["time_zone"])
    values = {name: value for name, value in options.items() if value is not None}
    with opened(dry_run=dry_run) as this:
        with this.database.reading() as connection:
            known = served_accounts.is_served(connection, location)
            has_secret, _ = served_accounts.has_intake_secrets(connection, location)
        if token_stdin or intake_secret_stdin:
            token = line_from_stdin("API token") if token_stdin else ""
            secret = line_from_stdin("intake secret") if intake_secret_stdin else ""
        else:
            if known:
                say(f"{location} is served already: what you enter replaces what it has.")
            token = prompted("API token")
            secret = prompted("Intake secret (empty: " + ("keep it)" if has_secret else "a new one is made)"))
        made = new_secret() if not secret and not has_secret else None
        _write(this, location, token=token, secret=secret or made, values=values)
        say(f"{location} {'was served already and is updated' if known else 'is served from now on'}.")
        if not dry_run:
            _warn_about_token(this, location, given=bool(token))
    if dry_run:
        return
    show_made_secret(made) if made else show_where_to_send()


@accounts.command(short_help="Writes a new API token; paused work goes on.")
@click.argument("location")
@click.option("--token-stdin", is_flag=True, help="Read the API token as a line from standard input.")
@dry_run_option
def set_token(location: str, token_stdin: bool, dry_run: bool) -> None:
    """Writes a new API token; what stood still because of the old one goes on at once, without a restart.

    \b
    Example:
      printf '%s\\n' "$TOKEN" | leadway-calls accounts set-token ve9EPM428h8vShlRW1KT --token-stdin
    """
    with opened(dry_run=dry_run) as this:
        with this.database.reading() as connection:
            served_account(connection, location)
        token = line_from_stdin("API token") if token_stdin else prompted("API token")
        if not token:
            raise Failure("no token was given; the old one is kept")
        _write(this, location, token=token, secret=None, values=None)
        say(f"The API token of {location} is replaced.")
        _warn_that_environment_wins(this, location, "LEADWAY_API_TOKEN", this.settings.leadway_api_token)


@accounts.command(short_help="Gives it a new intake secret; the old one stays valid.")
@click.argument("location")
@click.option("--secret-stdin", is_flag=True, help="Read the new secret from standard input instead of making one.")
@click.option("--drop-old", is_flag=True, help="The old secret ends at once: for one that has leaked.")
@dry_run_option
def rotate_secret(location: str, secret_stdin: bool, drop_old: bool, dry_run: bool) -> None:
    """Gives an account a new intake secret, made here and shown once.

    The old one stays valid until the next rotation, so that no notification is refused while you change the URL or
    header in Leadway.

    \b
    Examples:
      leadway-calls accounts rotate-secret ve9EPM428h8vShlRW1KT
      leadway-calls accounts rotate-secret ve9EPM428h8vShlRW1KT --drop-old
    """
    with opened(dry_run=dry_run) as this:
        secret = checked_secret(line_from_stdin("intake secret"), this.settings) if secret_stdin else new_secret()
        this.change(location, served_accounts.set_secret, secret, keep_previous=not drop_old)
        say(f"The intake secret of {location} is replaced.")
        say("The old one is refused from now on." if drop_old else "The old one stays valid until the next rotation.")
        _warn_that_environment_wins(this, location, "LEADWAY_INTAKE_SECRET", this.settings.leadway_intake_secret)
    if not dry_run:
        show_where_to_send() if secret_stdin else show_made_secret(secret)


@accounts.command(short_help="Stops fetching and writing; still takes notifications in.")
@click.argument("location")
@click.option("--reason", default="", help="For whoever reads it later.")
@dry_run_option
def pause(location: str, reason: str, dry_run: bool) -> None:
    """Stops asking Leadway about an account: no fetches, no notes. Its notifications are still taken in.

    \b
    Example:
      leadway-calls accounts pause ve9EPM428h8vShlRW1KT --reason "customer cleans up the CRM until Monday"
    """
    detail = f"{reason or 'Paused by a person.'} Ends with `leadway-calls accounts resume {location}`."
    with opened(dry_run=dry_run) as this:
        paused = this.change(location, pauses.pause, cause=PauseCause.PERSON, detail=detail)
    say(f"{location} {'is paused' if paused else 'was paused by a person already'}.")


@accounts.command(short_help="Ends every pause of an account.")
@click.argument("location")
@dry_run_option
def resume(location: str, dry_run: bool) -> None:
    """Ends every pause of an account, whatever its cause. A cause that still holds pauses it again by itself.

    \b
    Example:
      leadway-calls accounts resume ve9EPM428h8vShlRW1KT
    """
    with opened(dry_run=dry_run) as this:
        resumed = this.change(location, pauses.resume)
    say(f"{location} {'goes on' if resumed else 'was not paused'}.")


@accounts.command(short_help="Stops serving an account; its calls are kept.")
@click.argument("location")
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run_option
def remove(location: str, yes: bool, dry_run: bool) -> None:
    """Stops serving an account and forgets its token and secrets. Its calls stay in the database.

    \b
    Example:
      leadway-calls accounts remove ve9EPM428h8vShlRW1KT --yes
    """
    with opened(dry_run=dry_run) as this:
        with this.database.reading() as connection:
            served_account(connection, location)
        if not (yes or dry_run):
            click.confirm(f"Stop serving {location} and forget its token and secrets?", abort=True, err=True)
        this.change(location, served_accounts.remove)
        say(f"{location} is no longer served. Its calls are kept; `accounts add` takes it back.")
        _warn_that_environment_wins(this, location, "LEADWAY_LOCATION_ID", location)


def _write(this: Opened, location: str, *, token: str, secret: str | None, values: dict[str, Any] | None) -> None:
    """Writes everything that was given in one transaction. `values` None: the account is not added."""
    if token:
        checked_token(token)
    if secret:
        checked_secret(secret, this.settings)
    cipher = this.cipher() if token else None

    def write(connection: Connection) -> None:
        if values is not None:
            served_accounts.add(connection, location, **values)
        if cipher is not None:
            served_accounts.set_token(connection, location, token, cipher=cipher)
        if secret:
            served_accounts.set_secret(connection, location, secret)

    this.database.transact(write)


def _warn_about_token(this: Opened, location: str, *, given: bool) -> None:
    with this.database.reading() as connection:
        if served_accounts.get(connection, location).api_token_encrypted is None:
            click.echo(
                f"Warning: it has no API token yet: set it with `leadway-calls accounts set-token {location}`", err=True
            )
    if given:
        _warn_that_environment_wins(this, location, "LEADWAY_API_TOKEN", this.settings.leadway_api_token)


def _warn_that_environment_wins(this: Opened, location: str, name: str, value: object) -> None:
    if this.settings.leadway_location_id == location and value is not None:
        click.echo(f"Warning: {name} is set and wins at the next start: change it there too", err=True)

"""`leadway-calls accounts connect` and `accounts set-budget`: an OAuth grant, and what Leadway allows an account."""

import click

from models.accounts import accounts as served_accounts
from workers.cli.acting import dry_run_option
from workers.cli.credentials import checked_location, checked_token, line_from_stdin, prompted
from workers.cli.opened import opened, served_account
from workers.cli.screen import say
from workers.leadway import credentials

MOST_PER_10_SECONDS = 10_000


@click.command()
@click.argument("location")
@click.option("--client-id", required=True, help="Of your Marketplace app.")
@click.option(
    "--stdin", "from_stdin", is_flag=True,
    help="Read the client secret and the refresh token as two lines from standard input.",
)  # fmt: skip
@dry_run_option
def connect(location: str, client_id: str, from_stdin: bool, dry_run: bool) -> None:
    """Gives an account tokens of your Marketplace app, in place of a static API token.

    They are renewed by themselves from now on, and each renewal uses up the refresh token: do not use it elsewhere.
    Without --stdin it asks for both, hidden. What stood still because of the old token goes on at once.

    \b
    Example:
      printf '%s\\n%s\\n' "$CLIENT_SECRET" "$REFRESH_TOKEN" |
        leadway-calls accounts connect ve9EPM428h8vShlRW1KT --client-id 65f0-app --stdin
    """
    checked_location(location)
    with opened(dry_run=dry_run) as this:
        with this.database.reading() as connection:
            served_account(connection, location)
        names = ("client secret", "refresh token")
        client_secret, refresh_token = (line_from_stdin(name) if from_stdin else prompted(name) for name in names)
        for name, value in zip(names, (client_secret, refresh_token), strict=True):
            checked_token(value, source=f"the {name}")
        this.change(
            location, credentials.set_grant, client_id=client_id, client_secret=client_secret,
            refresh_token=refresh_token, cipher=this.cipher(),
        )  # fmt: skip
        say(f"{location} is connected. `leadway-calls doctor {location}` tries it.")
        if this.settings.leadway_location_id == location and this.settings.leadway_api_token is not None:
            click.echo("Warning: LEADWAY_API_TOKEN is set and wins at the next start: remove it there", err=True)


@click.command()
@click.argument("location")
@click.option(
    "--per-10-seconds", "requests_per_10_seconds", type=click.IntRange(1, MOST_PER_10_SECONDS), metavar="NUMBER",
    help="Requests in any 10 s. [default: LEADWAY_REQUESTS_PER_10_SECONDS, 100]",
)  # fmt: skip
@click.option(
    "--burst", "request_burst", type=click.IntRange(1, 50), metavar="NUMBER",
    help="Requests that may go out at once after a quiet time; the steady pace becomes slower by them. [default: 1]",
)  # fmt: skip
@click.option(
    "--per-day", "requests_per_day", type=click.IntRange(1), metavar="NUMBER",
    help="Requests a day, UTC. [default: 200000]",
)  # fmt: skip
@dry_run_option
def set_budget(location: str, dry_run: bool, **numbers: int | None) -> None:
    """Sets what Leadway allows this account, if it differs. A number that is not given becomes the default again.

    It counts from the next attempt on. What Leadway's answers say lowers it by itself. The day is shared by all private
    tokens of a location, so leave room for its other integrations.

    \b
    Examples:
      leadway-calls accounts set-budget ve9EPM428h8vShlRW1KT --per-10-seconds 50
      leadway-calls accounts set-budget ve9EPM428h8vShlRW1KT
    """
    per_10_seconds, burst = numbers["requests_per_10_seconds"], numbers["request_burst"]
    with opened(dry_run=dry_run) as this:
        if (burst or 1) > (per_10_seconds or this.settings.leadway_requests_per_10_seconds) / 2:
            raise click.UsageError("--burst: at most half of what is allowed in 10 s")
        this.change(location, served_accounts.set_budget, **numbers)
    given = {name: number for name, number in numbers.items() if number is not None}
    shown = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in given.items())
    say(f"The budget of {location}: {shown or 'the default'}.")

"""Tokens and secrets as people enter them: from standard input or a hidden prompt, checked, and never shown again."""

import re
import sys
from collections.abc import Callable

import click

from models.settings import Settings, is_loopback, values
from workers.cli.opened import WRONG_USAGE, Failure
from workers.cli.screen import say

SHORT_SECRET = 24
"""Characters: a shorter secret is taken with a warning."""
_IN_A_PATH = re.compile(r"[A-Za-z0-9._~-]+")


def line_from_stdin(what: str) -> str:
    """The next line of standard input. Raises UsageError when there is none or it is empty."""
    line = sys.stdin.buffer.readline().strip()
    if not line:
        raise click.UsageError(f"the {what} was expected as a line on standard input, which was empty")
    return line.decode(errors="replace")


def prompted(question: str) -> str:
    """What a person types, hidden, at a prompt; may be empty."""
    answer: str = click.prompt(question, hide_input=True, default="", show_default=False, err=True)
    return answer.strip()


def checked_token(token: str, *, source: str = "the API token") -> str:
    """Raises Failure when no header can carry the token."""
    return _checked(values.in_a_header, token, source=source)


def checked_secret(secret: str, settings: Settings, *, source: str = "the intake secret") -> str:
    """Raises Failure for a secret that cannot be used; warns about one that could be guessed or that no URL carries."""
    _checked(values.intake_secret, secret, source=source)
    if len(secret) < values.SHORTEST_SECRET and not is_loopback(settings.leadway_api_url):
        raise Failure(f"{source} {values.TOO_SHORT}", exit_code=WRONG_USAGE)
    if len(secret) < SHORT_SECRET:
        _warn(f"{source} is short ({len(secret)} characters): whoever guesses it can send false notifications")
    if not _IN_A_PATH.fullmatch(secret):
        _warn(f"{source} has signs that a URL cannot carry as they are: send it in the header")
    return secret


def checked_time_zone(name: str) -> str:
    """Raises Failure for what is no IANA name in its own spelling."""
    return _checked(values.time_zone, name, source="--time-zone")


def checked_location(location_id: str) -> str:
    """Raises Failure for what cannot be an id of Leadway's."""
    return _checked(values.location_id, location_id, source="LOCATION")


def show_made_secret(secret: str) -> None:
    say("Its new intake secret, shown only now:")
    click.echo(f"\n  {secret}\n")
    _show_where(secret)


def show_where_to_send() -> None:
    _show_where("INTAKE-SECRET")


def _show_where(secret: str) -> None:
    say("The URL for the webhook of a Leadway workflow (your own host in place of YOUR-HOST):")
    click.echo(f"\n  https://YOUR-HOST/webhooks/leadway/{secret}\n")
    say("or, with the secret out of the URL, this one and a header:")
    click.echo(f"\n  https://YOUR-HOST/webhooks/leadway\n  X-Intake-Secret: {secret}\n")


def _checked(read: Callable[[str], str], text: str, *, source: str) -> str:
    try:
        return read(text)
    except ValueError as error:
        raise Failure(f"{source}: {error}", exit_code=WRONG_USAGE) from None


def _warn(text: str) -> None:
    click.echo(f"Warning: {text}", err=True)

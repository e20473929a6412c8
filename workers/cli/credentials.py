"""Tokens and secrets as people enter them: from standard input or a hidden prompt, checked, and never shown again."""

import re
import sys
import zoneinfo

import click

from models.calls.call_log import LEADWAY_ID
from workers.cli.opened import WRONG_USAGE, Failure
from workers.cli.screen import say

LONGEST_SECRET = 256
"""Characters: the web process reads no more of a secret."""
SHORT_SECRET = 24
"""Characters: a shorter secret is taken with a warning."""
_IN_A_HEADER = re.compile(r"[\x21-\x7e]+")
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
    if not _IN_A_HEADER.fullmatch(token):
        raise Failure(f"{source}: only ASCII letters, digits and signs, no spaces", exit_code=WRONG_USAGE)
    return token


def checked_secret(secret: str, *, source: str = "the intake secret") -> str:
    """Raises Failure for a secret that cannot be used; warns about one that could be guessed or that no URL carries."""
    if not _IN_A_HEADER.fullmatch(secret):
        raise Failure(f"{source}: only ASCII letters, digits and signs, no spaces", exit_code=WRONG_USAGE)
    if len(secret) > LONGEST_SECRET:
        raise Failure(f"{source}: at most {LONGEST_SECRET} characters", exit_code=WRONG_USAGE)
    if len(secret) < SHORT_SECRET:
        _warn(f"{source} is short ({len(secret)} characters): whoever guesses it can send false notifications")
    if not _IN_A_PATH.fullmatch(secret):
        _warn(f"{source} has signs that a URL cannot carry as they are: send it in the header")
    return secret


def checked_time_zone(name: str, *, source: str = "--time-zone") -> str:
    """Raises Failure for what is no IANA name in its own spelling; a path below the zone folder is no zone either."""
    if name not in zoneinfo.available_timezones():
        raise Failure(f"{source}: {name!r} is no IANA time zone; write one like Europe/Madrid", exit_code=WRONG_USAGE)
    return name


def checked_location(location_id: str) -> str:
    """Raises Failure for what cannot be an id of Leadway's."""
    if not LEADWAY_ID.fullmatch(location_id):
        raise Failure(
            "LOCATION is the id of a Leadway location, from Settings > Business Profile: letters and digits, like"
            " ve9EPM428h8vShlRW1KT",
            exit_code=WRONG_USAGE,
        )
    return location_id


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


def _warn(text: str) -> None:
    click.echo(f"Warning: {text}", err=True)

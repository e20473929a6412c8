"""`leadway-calls users`: who may sign in to the operators' pages, beside `ops` with OPS_PASSWORD."""

import re

import click

from models.reports import users as known_users
from models.reports.users import USER_OF_THE_ENVIRONMENT, Role
from models.settings.values import SHORTEST_SECRET
from workers.cli.acting import dry_run_option, json_option, show_json
from workers.cli.credentials import line_from_stdin, prompted
from workers.cli.opened import WRONG_USAGE, Failure, opened
from workers.cli.screen import say, show_table, when

USER_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")

_password = click.option("--password-stdin", is_flag=True, help="Read the password as a line from standard input.")


@click.group()
def users() -> None:
    """Who may sign in to the operators' pages, beside `ops` with OPS_PASSWORD."""


@users.command()
@click.argument("name")
@click.option(
    "--role", type=click.Choice([str(each) for each in Role]), required=True, help="viewer: sees; operator: also acts."
)
@_password
@dry_run_option
def add(name: str, role: str, password_stdin: bool, dry_run: bool) -> None:
    """Adds the user NAME; the password is asked for, and kept as a scrypt hash.

    \b
    Examples:
      leadway-calls users add maria --role operator
      pass show leadway/maria | leadway-calls users add maria --role viewer --password-stdin
    """
    if not USER_NAME.fullmatch(name) or name == USER_OF_THE_ENVIRONMENT:
        raise Failure(
            f"NAME: small letters, digits and . _ @ -, at most 64, and not {USER_OF_THE_ENVIRONMENT!r}, whose password"
            " is OPS_PASSWORD",
            exit_code=WRONG_USAGE,
        )
    with opened(dry_run=dry_run) as this:
        password = _checked_password(from_stdin=password_stdin)
        if not this.database.transact(
            lambda connection: known_users.add(connection, name, Role(role), password=password)
        ):
            raise Failure(f"there is a user {name!r}: `leadway-calls users set-password {name}`, or remove it first")
        say(f"{name} may sign in as {role}.")


@users.command("list")
@json_option
def list_users(in_json: bool) -> None:
    """Shows who may sign in.

    \b
    Example:
      leadway-calls users list
    """
    with opened() as this:
        with this.database.reading() as connection:
            found = known_users.every(connection)
        by_setting = this.settings.ops_password is not None
        if in_json:
            told = [{"name": each.name, "role": each.role, "added_at": each.added_at} for each in found]
            show_json({"users": told, "ops_by_setting": by_setting})
            return
        rows = [(each.name, str(each.role), when(each.added_at)) for each in found]
        if by_setting:
            rows.insert(0, (USER_OF_THE_ENVIRONMENT, str(Role.OPERATOR), "by OPS_PASSWORD"))
        if not rows:
            say("Nobody may sign in. Add somebody: `leadway-calls users add NAME --role viewer`.")
            return
        show_table(("name", "role", "added"), rows)


@users.command("set-password")
@click.argument("name")
@_password
@dry_run_option
def set_password(name: str, password_stdin: bool, dry_run: bool) -> None:
    """Gives NAME another password; whoever is signed in with the old one has to sign in again.

    \b
    Example:
      leadway-calls users set-password maria
    """
    with opened(dry_run=dry_run) as this:
        password = _checked_password(from_stdin=password_stdin)
        if not this.database.transact(lambda connection: known_users.set_password(connection, name, password)):
            raise _unknown(name)
        say(f"{name} has another password; its sessions have ended.")


@users.command()
@click.argument("name")
@dry_run_option
def remove(name: str, dry_run: bool) -> None:
    """Removes NAME, and ends its sessions. What it did stays in the audit.

    \b
    Example:
      leadway-calls users remove maria
    """
    with opened(dry_run=dry_run) as this:
        if not this.database.transact(lambda connection: known_users.remove(connection, name)):
            raise _unknown(name)
        say(f"{name} is removed.")


def _checked_password(*, from_stdin: bool) -> str:
    password = line_from_stdin("password") if from_stdin else prompted("Password")
    if len(password) < SHORTEST_SECRET:
        raise Failure(f"the password needs at least {SHORTEST_SECRET} characters", exit_code=WRONG_USAGE)
    return password


def _unknown(name: str) -> Failure:
    return Failure(f"no user {name!r}: `leadway-calls users list` names them")

"""What a command works with, and how it reports an expected failure: what is wrong, what to do, an exit status."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import click
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from migrations import is_current
from models.accounts import accounts
from models.accounts.accounts import Account, SecretTaken, UnknownAccount
from models.accounts.token_encryption import TokenCipher, TokenUnreadable, cipher_for
from models.database import COMMAND, Database
from models.follow_ups.rules_file import RulesError
from models.settings import Settings, SettingsError, read_settings
from workers.cli.screen import when
from workers.process.redis_address import redis_address

T = TypeVar("T")

WRONG_USAGE = 2


class Failure(click.ClickException):
    """An expected failure; the message says what to do. Exit status 1: refused, not found; 2: usage, settings."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance


@dataclass(frozen=True)
class Opened:
    """What every command has: the settings and a connected database."""

    settings: Settings
    database: Database

    def cipher(self) -> TokenCipher:
        """The cipher of the stored tokens. Raises SettingsError when TOKEN_ENCRYPTION_KEYS cannot be used."""
        return cipher_for(self.settings)

    def change(self, location: str, write: Callable[..., T], *values: object, **named: object) -> T:
        """Calls a function of the models for an account, in a transaction. Raises UnknownAccount, also if removed."""

        def write_if_served(connection: Connection) -> T:
            served_account(connection, location)
            return write(connection, location, *values, **named)

        return self.database.transact(write_if_served)


class _Rehearsal(Database):
    """Takes every transaction back at its end: a command runs as it is, with all its checks, and changes nothing."""

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self.unprepared() as connection:
            transaction = connection.begin()
            try:
                yield connection
            finally:
                transaction.rollback()


@contextmanager
def opened(*, schema: bool = True, reads_only: bool = False, dry_run: bool = False) -> Iterator[Opened]:
    """Settings and database for the block. `schema`: whether the database must have this version's schema.
    `reads_only`: the database of READER_DATABASE_URL, if there is one. `dry_run`: every transaction is taken back.

    Raises Failure for settings, database or schema that cannot be used, and for expected errors of the block.
    """
    with expected_errors():
        settings = read_checked_settings()
        for notice in settings.notices:
            click.echo(notice, err=True)
        url = (reads_only and settings.reader_database_url) or settings.database_url
        database = (_Rehearsal if dry_run else Database)(url, limits=COMMAND)
        try:
            if schema and not is_current(database):
                raise Failure(
                    "the database does not have the schema that this version needs: run `leadway-calls migrate`"
                )
            yield Opened(settings, database)
            if dry_run:
                click.echo("That was --dry-run: nothing was changed.", err=True)
        finally:
            database.close()


def read_checked_settings() -> Settings:
    """The settings. Raises SettingsError, also for a REDIS_URL that is none: models know nothing of Redis."""
    settings = read_settings()
    redis_address(settings.redis_url)
    return settings


@contextmanager
def expected_errors() -> Iterator[None]:
    """Raises Failure for errors of the block that a person can put right."""
    try:
        yield
    except (SettingsError, RulesError) as error:
        raise Failure(str(error), exit_code=WRONG_USAGE) from None
    except (UnknownAccount, SecretTaken, TokenUnreadable) as error:
        raise Failure(str(error)) from None
    except SQLAlchemyError as error:
        raise Failure(f"the database cannot be used ({why(error)}): check that it runs and DATABASE_URL") from None


def served_account(connection: Connection, location: str) -> Account:
    """The account. Raises UnknownAccount, also for a removed one: commands change nothing of it."""
    account = accounts.get(connection, location)
    if account.removed_at is not None:
        raise UnknownAccount(
            f"the account {location!r} was removed at {when(account.removed_at)}: take it back with"
            f" `leadway-calls accounts add {location}`"
        )
    return account


def why(error: SQLAlchemyError) -> str:
    """The driver's first line; the type of the error alone where that line could quote a row."""
    if isinstance(error, sa.exc.OperationalError) and str(error.orig).strip():
        return str(error.orig).strip().splitlines()[0]
    return type(error.orig if isinstance(error, DBAPIError) else error).__name__

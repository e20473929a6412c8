"""The checks that a person would make, each with a verdict and the next step: does all of it work, and if not, why.

Nothing is changed: rows are read, and Leadway is asked by harmless GET requests only, within the account's budget.
"""

import shlex
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import requests
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from migrations import is_current
from models.accounts import accounts
from models.accounts.token_encryption import KEY_FILE, cipher_for
from models.database import (
    COMMAND,
    Database,
    connections_needed,
    inbox_file,
    is_behind_pooler,
    now,
    on_postgresql,
    problem_of,
)
from models.follow_ups.rules_file import RulesError, load_rules
from models.reports.verdict import findings, judging
from models.settings import Settings, SettingsError
from models.settings.places import open_to_others
from models.settings.sources import ENV_FILE
from models.work import heartbeats, life
from workers.cli.doctor.account import of_account
from workers.cli.doctor.checks import Check, Verdict, failed, fine, warning
from workers.cli.standing import look_around
from workers.process.connections import open_connections

ANSWER_SECONDS = 2.0
BEHIND_SECONDS = 30.0


def examine(settings: Settings, *, location_id: str | None = None, address: str | None = None) -> Iterator[Check]:
    """Check by check, in the order in which one depends on the other. `location_id` None: every account that is served.

    `address`: where Leadway reaches us, as `https://host`. Raises nothing for what a person can put right.
    """
    yield from _of_settings(settings)
    around = look_around(settings)
    yield from _of_redis(around.redis)
    database = _opened(settings)
    if isinstance(database, Check):
        yield database
        yield from _told(judging.of_surroundings(around))
        return
    try:
        schema = _of_schema(database)
        yield schema
        if schema.verdict is Verdict.FAILED:
            yield from _told(judging.of_surroundings(around))
            return
        with database.reading() as connection:
            verdict = judging.judge(connection, around)
        yield from _of_verdict(verdict)
        yield from _of_connections(settings, database)
        yield from _of_reader(settings, database)
        yield _of_clock(database)
        yield from _of_address(settings, address)
        yield from _of_accounts(settings, database, verdict, location_id)
    finally:
        database.close()


def _of_redis(seen: findings.RedisSeen | None) -> Iterator[Check]:
    """What is well about it; the rest is the verdict's."""
    if seen is None:
        yield fine("Redis", "REDIS_URL is not set here, so it was not looked at: with `make run` it is embedded")
    elif seen.trouble is None and not seen.loses_messages:
        yield fine("Redis", "it answers" if seen.policy else "it answers; we could not look at its memory policy")


def _of_verdict(verdict: findings.SystemVerdict) -> Iterator[Check]:
    """The state of the system, by the rules that page, `status` and metrics read too, but for that of accounts."""
    if not verdict.findings:
        yield fine("verdict", f"{len(verdict.asked)} rules were asked, and none found anything")
    yield from _told(each for each in verdict.findings if each.location_id is None)


def _told(found: Iterable[findings.Finding], *, language: str | None = None) -> Iterator[Check]:
    for each in found:
        yield Check(each.rule, _VERDICTS[each.severity], each.told, each.do, each.location_id, language)


_VERDICTS = {
    findings.Severity.CRITICAL: Verdict.FAILED,
    findings.Severity.WARNING: Verdict.WARNING,
    findings.Severity.INFO: Verdict.NOTE,
}


def _lacks_keys(settings: Settings) -> bool:
    """Then a process that starts makes a key file; looking must not."""
    return not settings.token_encryption_keys and not KEY_FILE.exists()


def _of_settings(settings: Settings) -> Iterator[Check]:
    try:
        if _lacks_keys(settings):
            told = f"TOKEN_ENCRYPTION_KEYS is not set, and there is no {KEY_FILE} here: no token can be read"
            yield warning("encryption keys", told, "run this where the system runs, with its settings")
        else:
            cipher_for(settings)
    except SettingsError as error:
        yield failed("encryption keys", str(error), "set TOKEN_ENCRYPTION_KEYS to Fernet keys, the first one writes")
    try:
        load_rules(settings.leadway_rules_file)
    except RulesError as error:
        yield failed("rules file", str(error), "correct LEADWAY_RULES_FILE, or unset it for the built-in rules")
    for notice in settings.notices:
        yield warning("settings", notice, "look at the environment and at .env")
    if open_files := open_to_others(_ours(settings)):
        paths = " ".join(map(shlex.quote, map(str, open_files)))
        told = f"other users of this machine may read or write {paths}"
        yield warning("private files", told, f"close them: chmod go-rw {paths}")


def _ours(settings: Settings) -> Iterator[Path]:
    yield from (ENV_FILE, Path("var"), KEY_FILE)
    url = sa.make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        yield from (Path(str(url.database)), inbox_file(url))
    if settings.journal_folder is not None:
        yield settings.journal_folder


def _opened(settings: Settings) -> Database | Check:
    name, do = "database", "check that it runs, and DATABASE_URL"
    try:
        url = sa.make_url(settings.database_url)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
            return failed("database schema", f"there is no file {url.database}", "run `leadway-calls migrate`")
        database = Database(settings.database_url, limits=COMMAND)
    except SettingsError as error:
        return failed(name, str(error), "correct DATABASE_URL")
    try:
        with database.reading() as connection:
            problem = problem_of(connection)
    except SQLAlchemyError as error:
        database.close()
        told = f"it does not answer ({type(error).__name__}): Leadway is asked to repeat each notification later"
        return failed(name, told, do)
    if problem is not None:
        database.close()
        what, _, to_do = problem.partition(": ")
        return failed(name, what, to_do)
    return database


def _of_schema(database: Database) -> Check:
    if is_current(database):
        return fine("database", "it answers and has the schema of this version")
    return failed("database schema", "it is not the one that this version needs", "run `leadway-calls migrate`")


def _of_connections(settings: Settings, database: Database) -> Iterator[Check]:
    """Whether the server lets all processes connect that are alive; those of other hosts are taken to be like ours."""
    with database.reading() as connection:
        if not on_postgresql(connection):
            return
        if is_behind_pooler(connection):
            yield fine("connections", "a pooler in transaction mode shares them out")
            return
        allowed = int(connection.execute(_CONNECTIONS_ALLOWED).scalar_one())
        alive = [each.process for each in heartbeats.all_of(connection) if each.is_alive]
    needs = connections_needed(settings)
    web = needs["web"] // settings.web_processes  # each of them has a heartbeat
    need = sum({**needs, "web": web}.get(process, 0) for process in alive) or sum(needs.values())
    told = f"at most {need} are wanted at once, and {allowed} are allowed"
    if need <= allowed:
        yield fine("connections", told)
    else:
        do = "set DATABASE_POOL_SIZE lower, or allow more connections; else processes wait for each other"
        yield warning("connections", told, do)


_CONNECTIONS_ALLOWED = sa.text(
    """SELECT least(current_setting('max_connections')::integer
                    - current_setting('superuser_reserved_connections')::integer,
                    nullif(rolconnlimit, -1), nullif(datconnlimit, -1))
       FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()"""
)


def _of_reader(settings: Settings, database: Database) -> Iterator[Check]:
    """Whether READER_DATABASE_URL is a copy of the database, and how far behind it is."""
    if settings.reader_database_url is None:
        return
    name, do = "reader", "correct READER_DATABASE_URL, or unset it: pages and commands then read DATABASE_URL"
    try:
        with closing(Database(settings.reader_database_url, limits=COMMAND)) as reader, reader.reading() as connection:
            there = life.current(connection).database_id
            behind = _seconds_behind(connection)
        with database.reading() as connection:
            here = life.current(connection).database_id
    except SettingsError as error:
        yield failed(name, str(error).replace("DATABASE_URL", "READER_DATABASE_URL"), do)
    except SQLAlchemyError as error:
        yield failed(name, f"it cannot be read ({type(error).__name__}): the pages are closed", do)
    else:
        if there != here:
            yield failed(name, "it is no copy of the database", do)
        elif behind > BEHIND_SECONDS:
            yield warning(name, f"it is {behind:.0f} s behind", "look at the replication; pages tell what was then")
        else:
            yield fine(name, "it is a copy of the database and keeps up")


def _seconds_behind(connection: sa.Connection) -> float:
    if not on_postgresql(connection):
        return 0.0
    return float(connection.execute(_BEHIND).scalar_one() or 0.0)


_BEHIND = sa.text(
    """SELECT CASE WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn()
              THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END"""
)
"""A replica that has replayed all that it was sent is not behind, however long nothing was written."""


def _of_clock(database: Database) -> Check:
    with database.reading() as connection:
        skew = abs((now(connection) - datetime.now(UTC)).total_seconds())
    if skew <= heartbeats.SKEW_SECONDS:
        return fine("clock", "this machine and the database agree")
    return warning("clock", f"this machine and the database are {skew:.1f} s apart", "let both keep time by NTP")


def _of_address(settings: Settings, address: str | None) -> Iterator[Check]:
    """Whether web answers where it listens, and where Leadway is to reach it."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "", "::") else settings.host  # noqa: S104 - where it listens
    asked = [("webhook", f"http://{host}:{settings.port}", "start web here, or look at HOST and PORT")]
    if address:
        asked.append(("webhook from outside", address.rstrip("/"), "look at the name, the certificate and the proxy"))
    for name, base, do in asked:
        problem = _problem_of(base)
        if problem is None:
            yield fine(name, f"{base}/webhooks/leadway is reachable and ready")
        else:
            yield (failed if name != "webhook" else warning)(name, f"{base} {problem}", do)


def _problem_of(base: str) -> str | None:
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{base}/readyz", timeout=ANSWER_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        return f"cannot be reached ({type(error).__name__})"
    if answer.status_code == 200:
        return None
    return f"answers {answer.status_code} to /readyz: " + (
        "not ready" if answer.status_code == 503 else "not this system"
    )


def _of_accounts(
    settings: Settings, database: Database, verdict: findings.SystemVerdict, location_id: str | None
) -> Iterator[Check]:
    with database.reading() as connection:
        served = accounts.served(connection)
    chosen = [each for each in served if location_id in (None, each.location_id)]
    if served and not chosen:
        known = ", ".join(each.location_id for each in served[:5])
        do = f"compare the id, or add it: `leadway-calls accounts add {location_id}`"
        yield failed("accounts", f"{location_id} is not served; served are {known}", do)
    this = None
    if chosen and not _lacks_keys(settings):
        with suppress(RulesError, SettingsError):  # told above: the rules file or the encryption keys
            this = open_connections(settings, worker="doctor", limits=COMMAND)
    try:
        for account in chosen:
            found = [each for each in verdict.findings if each.location_id == account.location_id]
            yield from _told(found, language=account.language)
            if this is not None:
                yield from of_account(this, account)
    finally:
        if this is not None:
            this.close()

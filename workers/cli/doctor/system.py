"""The checks that a person would make, each with a verdict and the next step: does all of it work, and if not, why.

Nothing is changed: rows are read, and Leadway is asked by harmless GET requests only, within the account's budget.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import requests
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from migrations import is_current
from models.accounts import accounts
from models.accounts.token_encryption import KEY_FILE, cipher_for
from models.database import COMMAND, Database, now
from models.follow_ups.rules_file import RulesError, load_rules
from models.reports.verdict import findings, judging
from models.settings import Settings
from models.work import heartbeats
from workers.cli.doctor.account import of_account
from workers.cli.doctor.checks import Check, Verdict, failed, fine, warning
from workers.cli.standing import look_around
from workers.process.connections import open_connections

ANSWER_SECONDS = 2.0


def examine(settings: Settings, *, location_id: str | None = None, address: str | None = None) -> Iterator[Check]:
    """Check by check, in the order in which one depends on the other. `location_id` None: every account that is served.

    `address`: where Leadway reaches us, as `https://host`. Raises nothing for what a person can put right.
    """
    yield from _of_settings(settings)
    around = look_around(settings)
    if around.redis is None:
        yield fine("Redis", "REDIS_URL is not set here, so it was not looked at: with `make run` it is embedded")
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
        yield from _of_verdict(verdict, location_id)
        yield _of_clock(database)
        yield from _of_address(settings, address)
        yield from _of_accounts(settings, database, location_id)
    finally:
        database.close()


def _of_verdict(verdict: findings.SystemVerdict, location_id: str | None) -> Iterator[Check]:
    """The state of the system, by the rules that page, `status` and metrics read too."""
    found = [each for each in verdict.findings if location_id in (None, each.location_id) or each.location_id is None]
    if not found:
        yield fine("verdict", f"{len(verdict.asked)} rules were asked, and none found anything")
    yield from _told(found)


def _told(found: Sequence[findings.Finding]) -> Iterator[Check]:
    for each in found:
        yield Check(each.rule, _VERDICTS[each.severity], each.told, each.do, each.location_id)


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
            cipher_for([key.get_secret_value() for key in settings.token_encryption_keys])
    except (ValueError, OSError):
        yield failed("encryption keys", "TOKEN_ENCRYPTION_KEYS cannot be used", "set Fernet keys, the first one writes")
    try:
        load_rules(settings.leadway_rules_file)
    except RulesError as error:
        yield failed("rules file", str(error), "correct LEADWAY_RULES_FILE, or unset it for the built-in rules")
    if not settings.leadway_api_url.startswith("https://"):
        local = settings.leadway_api_url.startswith(("http://127.0.0.1", "http://localhost"))
        if not local:
            told = f"LEADWAY_API_URL is {settings.leadway_api_url}: tokens would travel unencrypted"
            yield failed("Leadway's address", told, "write https://, as in the default")


def _opened(settings: Settings) -> Database | Check:
    name, do = "database", "check that it runs, and DATABASE_URL"
    try:
        url = sa.make_url(settings.database_url)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
            return failed("database schema", f"there is no file {url.database}", "run `leadway-calls migrate`")
        database = Database(settings.database_url, limits=COMMAND)
    except (sa.exc.ArgumentError, ImportError, OSError) as error:
        return failed(name, f"DATABASE_URL cannot be used ({type(error).__name__})", do)
    try:
        with database.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except SQLAlchemyError as error:
        database.close()
        told = f"it does not answer ({type(error).__name__}): Leadway is asked to repeat each notification later"
        return failed(name, told, do)
    return database


def _of_schema(database: Database) -> Check:
    if is_current(database):
        return fine("database", "it answers and has the schema of this version")
    return failed("database schema", "it is not the one that this version needs", "run `leadway-calls migrate`")


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


def _of_accounts(settings: Settings, database: Database, location_id: str | None) -> Iterator[Check]:
    with database.reading() as connection:
        served = accounts.served(connection)
    chosen = [each for each in served if location_id in (None, each.location_id)]
    if served and not chosen:
        known = ", ".join(each.location_id for each in served[:5])
        do = f"compare the id, or add it: `leadway-calls accounts add {location_id}`"
        yield failed("accounts", f"{location_id} is not served; served are {known}", do)
    if not chosen or _lacks_keys(settings):
        return
    try:
        this = open_connections(settings, worker="doctor", limits=COMMAND)
    except (ValueError, OSError):
        return  # told above: the rules file or the encryption keys
    try:
        for account in chosen:
            yield from of_account(this, account)
    finally:
        this.close()

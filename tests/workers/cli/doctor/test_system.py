"""The doctor finds each thing that is wrong, says what to do about it, and changes nothing."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from models.accounts import accounts, oauth_grants, pauses
from models.accounts.pauses import PauseCause
from models.database import Database, moment
from models.follow_ups.languages import Language
from models.intake import inbox, notifications, rejection_counts
from models.settings import Secret, read_settings
from models.work import heartbeats
from models.work.heartbeats import heartbeats_table
from tests.support.hearts import beating
from tests.support.rows import notify, on_sqlite, receive
from tests.support.worker import AtWork
from workers.cli import main
from workers.cli.doctor.checks import Check, Verdict
from workers.cli.doctor.system import examine
from workers.local.embedded_redis import free_port

SCOPES = ("voice-ai-dashboard.readonly", "contacts.readonly", "calendars/events.readonly")


def checks(at_work: AtWork, **changed: object) -> list[Check]:
    settings = replace(at_work.settings, **changed)
    return list(examine(settings))


def not_well(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found if check.verdict is not Verdict.OK}


End = dict[str, Callable[[], None]]


@pytest.fixture
def end(at_work: AtWork) -> Iterator[End]:
    """Ends the heartbeat of a process."""
    with beating(at_work.database) as end:
        yield end


@pytest.fixture
def well(at_work: AtWork, end: End) -> AtWork:
    """Everything alive, a notification came; only web does not listen where the settings say."""
    notify(at_work.database, "call-1", location_id=at_work.location_id)
    at_work.settings.port = free_port()
    return at_work


def test_where_everything_is_well_nothing_fails_and_only_harmless_questions_are_asked(well: AtWork) -> None:
    found = checks(well)
    assert set(not_well(found)) == {"webhook"}
    assert not_well(found)["webhook"].verdict is Verdict.WARNING
    [limits] = [check for check in found if check.name == "limits"]
    assert "are left today for all private integrations of the location" in limits.told
    told = {check.name for check in found}
    assert {"verdict", "database", "API token", "limits", "notifications", "clock"} <= told
    assert {f"scope {scope}" for scope in (*SCOPES, "contacts.write")} <= told
    assert {request.method for request in well.requests()} == {"GET"}
    assert well.double.truth.notes() == []
    assert all(well.double.token not in f"{check.told} {check.do}" for check in found)
    assert english_left(found) == []


def no_database(at_work: AtWork) -> dict[str, object]:
    return {"database_url": f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing"}


def no_schema(at_work: AtWork) -> dict[str, object]:
    return {"database_url": f"sqlite:///{Path.cwd() / 'empty.db'}"}


def no_redis(at_work: AtWork) -> dict[str, object]:
    return {"redis_url": f"redis://127.0.0.1:{free_port()}/0"}


def no_account(at_work: AtWork) -> None:
    _write(at_work, lambda connection: accounts.remove(connection, at_work.location_id))


def no_token(at_work: AtWork) -> None:
    _write(
        at_work,
        lambda connection: connection.execute(sa.update(accounts.accounts_table).values(api_token_encrypted=None)),
    )


def token_revoked(at_work: AtWork) -> None:
    at_work.double.revoke_token()


def token_of_another_location(at_work: AtWork) -> None:
    token = at_work.double.add_location("loc_other")
    _write(
        at_work,
        lambda connection: accounts.set_token(connection, at_work.location_id, token, cipher=at_work.this.cipher),
    )


def token_written_with_another_key(at_work: AtWork) -> dict[str, object]:
    return {"token_encryption_keys": (Secret("A" * 43 + "="),)}


def key_that_is_none(at_work: AtWork) -> dict[str, object]:
    return {"token_encryption_keys": (Secret("no key"),)}


def grant_that_ended(at_work: AtWork) -> None:
    at_work.double.install_app(at_work.location_id).removed = True
    _write(
        at_work,
        lambda connection: oauth_grants.set_grant(
            connection, at_work.location_id, client_id="app-of-the-double", client_secret="secret-of-the-app",
            refresh_token="first-refresh-token", cipher=at_work.this.cipher,
        ),
    )  # fmt: skip


def wrong_version(at_work: AtWork) -> dict[str, object]:
    return {"leadway_api_version": "2020-01-01"}


def leadway_away(at_work: AtWork) -> None:
    at_work.double.go_away()


def clock_ahead(at_work: AtWork) -> None:
    at_work.double.set_clock(-600)


def lower_limit(at_work: AtWork) -> None:
    at_work.double.set_rate_limit(per_window=None, announced=50)


def secret_that_nobody_has(at_work: AtWork) -> None:
    _write(at_work, lambda connection: rejection_counts.count(connection, "intake_secret_unknown", number=3, trace={}))


def signature_that_fits_no_key(at_work: AtWork) -> None:
    _write(at_work, lambda connection: rejection_counts.count(connection, "signature_invalid", number=1, trace={}))


def no_notification(at_work: AtWork) -> None:
    _write(at_work, lambda connection: connection.execute(sa.delete(notifications.notifications_table)))


def nobody_takes_in(at_work: AtWork) -> None:
    receive(at_work.database, "two", location_id=at_work.location_id)
    with at_work.database.inbox.transaction() as connection:
        connection.execute(sa.update(inbox.inbox_table).values(received_at=moment(-61)))


def unresolved_notification(at_work: AtWork) -> None:
    reason = "call_id_of_another_kind"
    _write(
        at_work,
        lambda connection: notifications.become_unresolved(connection, at_work.location_id, "call-1", reason=reason),
    )


def paused_by_a_person(at_work: AtWork) -> None:
    _write(
        at_work,
        lambda connection: pauses.pause(
            connection, at_work.location_id, cause=PauseCause.PERSON, detail="Until Monday."
        ),
    )


def older_worker(at_work: AtWork) -> None:
    _write(
        at_work,
        lambda connection: heartbeats.beat(connection, "worker-2@there", process="worker", version="0.0.9+0003"),
    )


def misspelt_setting(_at_work: AtWork) -> dict[str, object]:
    return {"notices": read_settings({"LEADWAY_INTAKE_SECRETS": "x"}).notices}


def open_file(_at_work: AtWork) -> None:
    Path(".env").write_text("")
    Path(".env").chmod(0o644)


MISTAKES = [
    (misspelt_setting, "settings", "did you mean LEADWAY_INTAKE_SECRET?"),
    (open_file, "private files", "chmod go-rw .env"),
    (no_database, "database", "DATABASE_URL"),
    (no_schema, "database schema", "migrate"),
    (no_redis, "redis_unreachable", "REDIS_URL"),
    (no_account, "no_account", "accounts add"),
    (no_token, "account_without_token", "set-token"),
    (token_revoked, "API token", "set-token"),
    (token_of_another_location, "location", "location"),
    (token_written_with_another_key, "API token", "TOKEN_ENCRYPTION_KEYS"),
    (key_that_is_none, "encryption keys", "Fernet"),
    (grant_that_ended, "API token", "accounts connect"),
    (wrong_version, "Version header", "LEADWAY_API_VERSION"),
    (leadway_away, "API", "LEADWAY_API_URL"),
    (clock_ahead, "clock and Leadway's", "NTP"),
    (lower_limit, "limits", "set-budget"),
    (secret_that_nobody_has, "notifications_refused", "rotate-secret"),
    (signature_that_fits_no_key, "notifications_refused", "LEADWAY_WEBHOOK_PUBLIC_KEYS"),
    (no_notification, "notifications", "/ops/setup"),
    (nobody_takes_in, "notifications_not_taken_in", "worker"),
    (unresolved_notification, "notifications", "/ops/setup"),
    (paused_by_a_person, "paused_by_person", "Until Monday."),
    (older_worker, "versions_mixed", "0.0.9+0003: worker-2@there"),
]
A_WARNING = {
    "settings", "private files", "clock and Leadway's", "limits", "notifications", "no_account",
    "account_without_token",
}  # fmt: skip
A_NOTE = {"notifications_refused", "paused_by_person", "versions_mixed"}


@on_sqlite
@pytest.mark.parametrize(("mistake", "name", "do"), MISTAKES, ids=[each.__name__ for each, _, _ in MISTAKES])
def test_each_mistake_is_named_with_the_next_step(
    well: AtWork, mistake: Callable[[AtWork], dict[str, object] | None], name: str, do: str
) -> None:
    found = not_well(checks(well, **(mistake(well) or {})))
    assert set(found) == {"webhook", name} or name in ("database", "database schema")
    assert do in f"{found[name].told} {found[name].do}"
    assert found[name].do
    expected = Verdict.WARNING if name in A_WARNING else Verdict.NOTE if name in A_NOTE else Verdict.FAILED
    assert found[name].verdict is expected
    assert english_left(found.values()) == []


@on_sqlite
@pytest.mark.parametrize(
    ("process", "do"),
    [("web", "python -m webhook"), ("worker", "python -m workers"), ("beat", "python -m workers beat")],
)
def test_each_process_that_is_not_alive_is_named_with_how_it_is_started(
    well: AtWork, end: End, process: str, do: str
) -> None:
    end[process]()
    found = not_well(checks(well))
    name = f"{process}_missing"
    assert set(found) == {"webhook", name}
    assert found[name].verdict is (Verdict.WARNING if process == "beat" else Verdict.FAILED)
    assert f"`{do}`" in found[name].do
    assert english_left(found.values()) == []


@on_sqlite
@pytest.mark.parametrize("scope", SCOPES)
def test_each_scope_that_is_missing_is_named(well: AtWork, scope: str) -> None:
    well.double.remove_scope(scope)
    found = not_well(checks(well))
    assert set(found) == {"webhook", f"scope {scope}"}
    assert scope in found[f"scope {scope}"].do
    assert english_left(found.values()) == []
    failed = found[f"scope {scope}"].verdict is Verdict.FAILED
    assert failed == (scope != "calendars/events.readonly"), "without booked times, notes are worded differently"


def test_a_missing_scope_for_writing_is_known_from_the_note_that_was_refused(well: AtWork) -> None:
    follow_up_id = well.owed()
    well.double.remove_scope("contacts.write")
    well.send(follow_up_id)
    found = not_well(checks(well))
    assert found["scope contacts.write"].verdict is Verdict.FAILED
    assert found["account_paused"].verdict is Verdict.FAILED


def test_an_unknown_location_is_named_with_those_that_are_served(well: AtWork) -> None:
    [found] = [each for each in examine(well.settings, location_id="elsewhere") if each.name == "accounts"]
    assert found.verdict is Verdict.FAILED
    assert well.location_id in found.told


def test_the_address_from_outside_is_tried(well: AtWork) -> None:
    found = {each.name: each for each in examine(well.settings, address=f"http://127.0.0.1:{free_port()}/")}
    assert found["webhook from outside"].verdict is Verdict.FAILED
    assert "proxy" in found["webhook from outside"].do


def test_nothing_of_ours_is_changed_in_the_database_or_on_disk(well: AtWork, tmp_path: Path) -> None:
    before, files = _everything(well.database), sorted(tmp_path.rglob("*"))
    checks(well)
    checks(well, token_encryption_keys=())
    checks(well, database_url="sqlite:///var/nothing.db")
    run = CliRunner(env={"DATABASE_URL": well.settings.database_url, "REDIS_URL": well.settings.redis_url})
    assert "check" in run.invoke(main, ["doctor"]).output
    assert (_everything(well.database), sorted(tmp_path.rglob("*"))) == (before, files)


BY_A_PERSON = "Until Monday."


def english_left(found: Iterable[Check]) -> list[str]:
    """Sentences that `doctor` does not say in Spanish. A name of one word may be a name in both."""
    pairs = [(getattr(check, part), getattr(check.in_language(Language.ES), part)) for check in found for part in TOLD]
    return [english for english, spanish in pairs if english == spanish and " " in english and english != BY_A_PERSON]


TOLD = ("name", "told", "do")


def _everything(database: Database) -> dict[str, list[object]]:
    tables = (
        accounts.accounts_table,
        notifications.notifications_table,
        pauses.pauses_table,
        rejection_counts.rejection_counts_table,
    )
    with database.reading() as connection:
        held = {table.name: [tuple(row) for row in connection.execute(sa.select(table))] for table in tables}
        names = connection.execute(sa.select(heartbeats_table.c.name).order_by(heartbeats_table.c.name)).all()
        return held | {"heartbeats": [tuple(row) for row in names]}  # theirs beat on meanwhile


def _write(at_work: AtWork, write: Callable[..., object]) -> None:
    with at_work.database.transaction() as connection:
        write(connection)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_more_connections_than_the_server_allows_are_named_with_what_makes_them_fewer(well: AtWork) -> None:
    [enough] = [check for check in checks(well) if check.name == "connections"]
    assert enough.verdict is Verdict.OK
    assert "at most 20 are wanted at once" in enough.told, "one web process, one worker, beat"
    found = not_well(checks(well, database_pool_size=500))
    assert "and 29" in found["connections"].told
    assert "DATABASE_POOL_SIZE" in found["connections"].do


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_reader_is_compared_with_the_database(well: AtWork, sqlite_url: str) -> None:
    here = well.settings.database_url
    [copy] = [check for check in checks(well, reader_database_url=here) if check.name == "reader"]
    assert copy.verdict is Verdict.OK
    assert "it is no copy" in not_well(checks(well, reader_database_url=sqlite_url))["reader"].told
    away = not_well(checks(well, reader_database_url=f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing"))
    assert "cannot be read" in away["reader"].told

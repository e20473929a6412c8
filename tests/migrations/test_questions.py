"""docs/data/questions.md: each question has the same answer on both databases, in any session's time zone."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from models.accounts import accounts
from models.accounts.accounts import accounts_table
from models.calls.call_log import Action
from models.database import WORKER, Database
from models.reconciling import local_days
from tests.support.processes import ROOT
from tests.support.rows import (
    LOCATION,
    add_account,
    announce,
    call_log,
    dead_call,
    dead_follow_up,
    done_follow_up,
    fetch,
    store,
)

QUESTIONS = re.findall(
    r"^## (.+?)$.*?^```sql\n(.+?)^```$", (ROOT / "docs/data/questions.md").read_text(), re.MULTILINE | re.DOTALL
)
ZONES = ("UTC", "America/New_York", "Asia/Tokyo")
EMPTY = ("Appointments that notes tell of", "Calls that no notification told of", "Days that are not complete, and why")
"""What is asked for comes from Leadway only: an appointment, a listing."""


def fill(database: Database) -> None:
    """Two days of calls of every sort, of an account in Madrid, proven to be complete but for one."""
    add_account(database, name="Clínica", time_zone="Europe/Madrid")
    at = datetime(2026, 3, 1, 9, tzinfo=UTC)

    def action(kind: str, name: str = "Do it") -> Action:
        return Action(kind, action_id=f"{kind}-{name}", name=name, executed_at=at)

    booking, transfer = action("APPOINTMENT_BOOKING"), action("CALL_TRANSFER")
    for number in range(12):
        started_at = at + timedelta(hours=3 * number)
        doing = [(), (booking,), (transfer,), (action("CUSTOM_ACTION", f"Look up {number % 2}"),)][number % 4]
        store(database, call_log(
            f"call-{number:02}", started_at=started_at, duration_seconds=[4.0, 61.0, 125.5, 60.0][number % 4],
            agent_id=f"agent-{number % 2}", agent_name=f"Agent {number % 2}", agent_handoff=False,
            contact_id=None if number == 5 else f"contact-{number % 5}", from_number=f"+3460000000{number % 6}",
            trial_call=number == 7, direction=["inbound", None][number % 2], actions=doing,
            summary=f"Summary {number}", transcript="bot: Would you like an appointment?\nhuman: ¡Sí!",
            extracted_data={"reason": ["pain", "", "check-up"][number % 3], "guests": number},
        ))  # fmt: skip
    dead_follow_up(database, "call-01")
    done_follow_up(database, "call-09")
    dead_call(database, "given-up", cause="refused")
    announce(database, "not-final")
    fetch(database, call_log("not-final", started_at=at + timedelta(hours=30), duration_seconds=5.0))
    announce(database, "not-read")
    with database.transaction() as connection:
        until = at + timedelta(days=4)
        known = {"complete_from": at - timedelta(days=2), "complete_until": until}
        connection.execute(sa.update(accounts_table).values(**known))
        local_days.write(connection, accounts.get(connection, LOCATION), until=until)


def ask(database: Database, query: str, zone: str) -> list[tuple[Any, ...]]:
    is_sqlite = database.engine.dialect.name == "sqlite"
    with database.reading() as connection:
        if is_sqlite:
            query = query.replace("leadway_v1.", "v1_")
        else:
            connection.exec_driver_sql(f"SET timezone TO '{zone}'")
        found = connection.exec_driver_sql(query.replace("%", "%%") if not is_sqlite else query)
        rows = [tuple(map(_plain, row)) for row in found]
        if not is_sqlite:
            connection.exec_driver_sql("RESET timezone")
    return rows


def _plain(value: Any) -> Any:
    """Both drivers' values in one form: booleans as numbers, numbers rounded, days and instants as text in UTC."""
    match value:
        case bool() | int() | float() | Decimal():
            return round(float(value), 6)
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        case date():
            return value.isoformat()
    return value


def test_there_are_more_than_thirty() -> None:
    assert len(QUESTIONS) > 30
    assert len(dict(QUESTIONS)) == len(QUESTIONS)


def test_each_question_has_the_same_answer_on_both_databases_and_in_every_sessions_time_zone(
    sqlite_url: str, postgresql_url: str
) -> None:
    opened = {
        name: Database(url, limits=WORKER) for name, url in (("SQLite", sqlite_url), ("PostgreSQL", postgresql_url))
    }
    for database in opened.values():
        fill(database)
    for title, query in QUESTIONS:
        expected = ask(opened["SQLite"], query, "UTC")
        assert expected or title in EMPTY, f"{title}: no row would tell a wrong query from a right one"
        for zone in ZONES:
            assert ask(opened["PostgreSQL"], query, zone) == expected, (title, zone)
    for database in opened.values():
        database.close()

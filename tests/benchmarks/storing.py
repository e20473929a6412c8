"""Benchmark `storing`: the CPU of storing a call with 8 actions, beside SQLAlchemy's ORM storing the same columns.

In this process, one call a transaction, on both databases. Rounds take turns; the ratio is the median of the rounds'.
"""

import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Session, relationship

from migrations.upgrading import migrate
from models.accounts import accounts
from models.calls import storing
from models.calls.call_log import Action, CallLog, Source
from models.calls.calls import Origin, call_actions_table, calls_table
from models.calls.storing import ReadByClaim, Reading
from models.database import WORKER, Database, metadata, now
from models.work.work_rows import Request
from tests.support.services import PostgresServer

LOCATION = "location"
ACTIONS = 8
MUST = 0.35


class Base(DeclarativeBase):
    metadata = metadata


class OrmAction(Base):
    __table__ = call_actions_table


class OrmCall(Base):
    __table__ = calls_table
    actions = relationship(
        OrmAction,
        primaryjoin=sa.and_(
            calls_table.c.location_id == sa.orm.foreign(call_actions_table.c.location_id),
            calls_table.c.call_id == sa.orm.foreign(call_actions_table.c.call_id),
        ),
    )


def run(*, rounds: int = 7, number: int = 150) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, PostgresServer(durable=True) as postgres:
        urls = {"sqlite": f"sqlite:///{folder}/calls.db", "postgresql": postgres.create_database("storing")}
        for name, url in urls.items():
            migrate(url)
            database = Database(url.replace("postgresql://", "postgresql+psycopg://"), limits=WORKER)
            with database.transaction() as connection:
                accounts.add(connection, LOCATION)
            ways = {"ours": _ours, "orm": _by_orm}
            spent: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(rounds + 1):
                for way, store in ways.items():
                    spent[way].append(_cpu(database, store, [f"{way}-{turn}-{each}" for each in range(number)]))
            database.close()
            of_ours, of_orm = spent["ours"][1:], spent["orm"][1:]  # the first round compiles
            result[name] = {
                "ours_us": round(1e6 * median(of_ours) / number),
                "orm_us": round(1e6 * median(of_orm) / number),
                "ours ÷ orm": round(median(a / b for a, b in zip(of_ours, of_orm, strict=True)), 2),
            }
    return {**result, "good": all(each["ours ÷ orm"] <= MUST for each in result.values())}


def _cpu(database: Database, store: Callable[[Database, str, datetime], None], call_ids: list[str]) -> float:
    with database.reading() as connection:
        at = now(connection)
    began = time.process_time()
    for call_id in call_ids:
        store(database, call_id, at)
    return time.process_time() - began


def _log(call_id: str, at: datetime) -> CallLog:
    began = at - timedelta(hours=1)
    actions = tuple(
        Action(
            action_id=f"action-{number}", action_type="SMS", name="Sms", parameters={"note": "new"}, executed_at=began,
            trigger_received_at=began,
        )
        for number in range(ACTIONS)
    )  # fmt: skip
    return CallLog(
        call_id=call_id, source=Source.FETCH, started_at=began, duration_seconds=61, summary="Wants an appointment.",
        transcript="bot:Hello.\nhuman:I would like an appointment.\n" * 60, contact_id="contact", agent_id="agent",
        extracted_data={"name": "A caller"}, actions=actions, document={"id": call_id, "fields": {"a": 1}},
    )  # fmt: skip


def _ours(database: Database, call_id: str, at: datetime) -> None:
    request = Request(at, at, Origin.NOTIFICATION, wants_follow_ups=True)
    read = ReadByClaim(LOCATION, [Reading(_log(call_id, at), request)], fence=1, read_at=at, time_zone="UTC")
    database.transact(lambda connection: storing.store(connection, [read]))


def _by_orm(database: Database, call_id: str, at: datetime) -> None:
    log = _log(call_id, at)
    columns = {**storing.log_columns(log), "local_day": at.date(), "local_hour": at.hour, "actions_from": "fetch"}
    with Session(database.engine) as session:
        call = OrmCall(
            location_id=LOCATION, call_id=call_id, **columns, origin="notification", wants_follow_ups=True,
            first_heard_at=at, announced_at=at, stored_at=at, settled_at=at, read_from="fetch", read_at=at,
            reading_fence=1,
        )  # fmt: skip
        for position, each in enumerate(log.actions):
            call.actions.append(
                OrmAction(
                    action_key=f"id-{position}",
                    position=position,
                    action_id=each.action_id,
                    action_type=each.action_type,
                    action_name=each.name,
                    parameters=dict(each.parameters),
                    executed_at=each.executed_at,
                    trigger_received_at=each.trigger_received_at,
                )
            )
        session.add(call)
        session.commit()

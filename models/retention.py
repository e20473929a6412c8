"""The one registry of the columns that hold a person's words, and how rows are emptied after the retention time.

A row is emptied, never deleted: a listing that shows its call again finds the row and brings no words back.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.calls import CALL, call_actions_table, calls_table
from models.database import moment
from models.follow_ups.follow_ups import FollowUpState, follow_ups_table
from models.intake.inbox import inbox_table
from models.intake.notifications import notifications_table
from models.intake.quarantine import quarantine_table
from models.work.work_rows import IS_DEAD, work_table

EMPTIED_AT_ONCE = 500
"""Calls or notifications that one transaction empties."""

WORDS: Mapping[sa.Table, Mapping[str, object]] = {
    calls_table: {
        "summary": None, "transcript": None, "translation": None, "extracted_data": None, "document": None,
        "from_number": None, "to_number": None,
    },
    call_actions_table: {"parameters": {}},
    follow_ups_table: {"title": None, "body": None},
    notifications_table: {"document": None, "from_number": None},
    inbox_table: {"document": None, "from_number": None},
    quarantine_table: {"document": None, "from_number": None, "raw": None},
}  # fmt: skip
"""By table: the columns that hold a person's words or telephone number, each with its value once it is emptied.

`call_actions.action_name` is not one of them: it is the name that the account's owner gave to the agent's configured
action, no word of a caller.
"""


def empty_calls(connection: Connection, *, days: int) -> int:
    """Empties a batch of stored calls that began more than `days` ago and that nothing is done about or owed for any
    more, with their actions, follow-ups and notifications. Returns how many calls."""
    old = moment(-86_400.0 * days)
    c, w = calls_table.c, work_table.c
    is_worked_on = sa.exists().where(
        w.kind == CALL.name, w.location_id == c.location_id, w.subject == c.call_id, ~IS_DEAD
    )
    f = follow_ups_table.c
    is_owed = sa.exists().where(
        f.location_id == c.location_id, f.call_id == c.call_id,
        f.status.in_([FollowUpState.PENDING, FollowUpState.UNCLEAR]),
    )  # fmt: skip
    keys = connection.execute(
        sa.select(c.location_id, c.call_id)
        .where(
            c.first_heard_at < old,
            sa.func.coalesce(c.started_at, c.first_heard_at) < old,
            c.emptied_at.is_(None),
            ~is_worked_on,
            ~is_owed,
        )
        .limit(EMPTIED_AT_ONCE)
    ).all()
    for location_id, call_id in sorted((key.location_id, key.call_id) for key in keys):
        for table, emptied in WORDS.items():
            if table is inbox_table:
                continue  # nobody updates it: its rows are about to become notifications
            of_call = sa.and_(table.c.location_id == location_id, table.c.call_id == call_id)
            connection.execute(sa.update(table).where(of_call).values(emptied))
        this = sa.and_(c.location_id == location_id, c.call_id == call_id)
        connection.execute(sa.update(calls_table).where(this).values(emptied_at=moment()))
    return len(keys)


def empty_notifications(connection: Connection, *, days: int) -> int:
    """Empties a batch of notifications that came last more than `days` ago, whatever their status, and of quarantined
    ones. Returns how many.

    `empty_calls` has emptied those of old calls that are done or dead. This reaches the others: ignored and unresolved
    ones, those of a call that never had a log, and those of a call that is still open.
    """
    return _empty_older(connection, notifications_table.c.last_received_at, days=days) + _empty_older(
        connection, quarantine_table.c.received_at, days=days
    )


def _empty_older(connection: Connection, since: sa.Column[Any], *, days: int) -> int:
    table = since.table
    [key] = table.primary_key
    emptied = WORDS[table]
    old = sa.select(key).where(
        since < moment(-86_400.0 * days), sa.or_(*(table.c[name].is_not(None) for name in emptied))
    )
    keys = list(connection.execute(old.limit(EMPTIED_AT_ONCE)).scalars())
    connection.execute(sa.update(table).where(key.in_(keys)).values(emptied))
    return len(keys)

"""The seen ids: which calls the list of an open window has shown so far.

A reader that was killed loses nothing of them, and a list is proven complete by counting distinct calls, not pages
(docs/decisions/0030).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.calls import CALL, calls_table
from models.database import insert, metadata
from models.reconciling.windows import Window
from models.work.work_rows import work_table

seen_ids_table = sa.Table(
    "seen_ids",
    metadata,
    sa.Column(
        "reconciliation_id",
        sa.Integer().with_variant(sa.BigInteger, "postgresql"),
        sa.ForeignKey("reconciliations.reconciliation_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("call_type", sa.Text, primary_key=True),
    sa.Column("call_id", sa.Text, primary_key=True),
    sa.Column(
        "inside", sa.Boolean, nullable=False, comment="it started within the window, which no list is trusted for"
    ),
    sa.Column("first_pass", sa.Integer, nullable=False),
    sa.Column("last_pass", sa.Integer, nullable=False),
    comment="the calls that the list of an open window has shown so far; deleted when the window ends",
)


@dataclass(frozen=True)
class SeenCounts:
    """Numbers of calls that one list has shown. `new` and `gone` compare the pass with the one before."""

    calls: int
    """In this pass."""
    ever: int
    """In all passes: where calls of one moment change their order, no single pass need show them all."""
    inside: int
    """Of those, calls that began in the window."""
    held: int
    """Of those inside: calls that are stored, or whose reading is open work."""
    new: int
    gone: int


def record(connection: Connection, window: Window, *, inside: Iterable[str], outside: Iterable[str]) -> None:
    """Records the ids of a page, by whether the call started inside the window. Pages that shift show a call twice."""
    rows = {
        call_id: {
            "reconciliation_id": window.reconciliation_id, "call_type": window.call_type, "call_id": call_id,
            "inside": is_inside, "first_pass": window.pass_number, "last_pass": window.pass_number,
        }
        for ids, is_inside in ((outside, False), (inside, True))
        for call_id in ids
    }  # fmt: skip
    if rows:
        statement = insert(connection, seen_ids_table)
        news = {"last_pass": statement.excluded.last_pass, "inside": statement.excluded.inside}
        keys = ["reconciliation_id", "call_type", "call_id"]
        statement = statement.on_conflict_do_update(index_elements=keys, set_=news)
        connection.execute(statement, list(rows.values()))


def count_seen(connection: Connection, window: Window) -> SeenCounts:
    """Counts what the window's current list has shown."""
    c = seen_ids_table.c
    this_list = sa.and_(c.reconciliation_id == window.reconciliation_id, c.call_type == window.call_type)
    in_this_pass = c.last_pass == window.pass_number

    is_held = calls_table.c.call_id.is_not(None) | work_table.c.subject.is_not(None)

    def number_of(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)

    row = connection.execute(
        sa.select(
            number_of(in_this_pass),
            sa.func.count(),
            number_of(c.inside),
            number_of(c.inside & is_held),
            number_of(c.first_pass == window.pass_number),
            number_of(c.last_pass == window.pass_number - 1),
        )
        .select_from(
            seen_ids_table.outerjoin(
                calls_table,
                sa.and_(calls_table.c.location_id == window.location_id, calls_table.c.call_id == c.call_id),
            ).outerjoin(
                work_table,
                sa.and_(
                    work_table.c.kind == CALL.name,
                    work_table.c.location_id == window.location_id,
                    work_table.c.subject == c.call_id,
                ),
            )
        )
        .where(this_list)
    ).one()
    return SeenCounts(*(int(number) for number in row))


def count_in_pass(connection: Connection, window: Window) -> int:
    """How many distinct calls the current pass over the window's current list has shown."""
    c = seen_ids_table.c
    in_this_pass = sa.and_(
        c.reconciliation_id == window.reconciliation_id, c.call_type == window.call_type,
        c.last_pass == window.pass_number,
    )  # fmt: skip
    return int(connection.execute(sa.select(sa.func.count()).where(in_this_pass)).scalar_one())


def forget(connection: Connection, window: Window) -> None:
    """Deletes the seen ids of the window, of both lists."""
    connection.execute(sa.delete(seen_ids_table).where(seen_ids_table.c.reconciliation_id == window.reconciliation_id))

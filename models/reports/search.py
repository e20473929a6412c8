"""What somebody types to find a call: its id, the caller's number, the contact's id, the reference in a note."""

import re
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import accounts_table
from models.calls.calls import CALL, calls_table
from models.follow_ups.follow_ups import follow_ups_table
from models.work.work_rows import work_table

MOST_FOUND = 50
"""Calls, the newest."""
_REFERENCE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"[+\d\s().\-/]{5,30}")

_Key = tuple[str, str]


def matching(connection: Connection, text: str) -> list[_Key]:
    """Account and id of the calls that are meant, at most MOST_FOUND. Looks into indexes only."""
    text = text.strip()
    if not text or not text.isprintable():
        return []
    found = [*_by_reference(connection, text), *_by_call_id(connection, text), *_by_contact(connection, text)]
    return list(dict.fromkeys(found + _by_number(connection, text)))[:MOST_FOUND]


def _by_reference(connection: Connection, text: str) -> list[_Key]:
    """The whole line may be pasted, as it stands at the end of a note."""
    references = [each.lower() for each in _REFERENCE.findall(text)]
    table = follow_ups_table.c
    rows = connection.execute(
        sa.select(table.location_id, table.call_id).where(table.follow_up_id.in_(references[:MOST_FOUND]))
    )
    return [(row.location_id, row.call_id) for row in rows]


def _by_call_id(connection: Connection, text: str) -> list[_Key]:
    """Stored or not, of whatever account: a person knows only the id."""
    known, table = _known_accounts(connection), calls_table.c
    stored = sa.select(table.location_id).where(table.location_id.in_(known), table.call_id == text)
    unread = sa.select(work_table.c.location_id).where(
        work_table.c.kind == CALL.name, work_table.c.location_id.in_(known), work_table.c.subject == text
    )
    return [(location_id, text) for location_id in connection.execute(stored.union(unread)).scalars()]


def _by_contact(connection: Connection, text: str) -> list[_Key]:
    known = _known_accounts(connection)
    return _newest(connection, calls_table.c.location_id.in_(known), calls_table.c.contact_id == text)


def _known_accounts(connection: Connection) -> Sequence[str]:
    """Indexes of calls begin with the account."""
    return connection.execute(sa.select(accounts_table.c.location_id)).scalars().all()


def _by_number(connection: Connection, text: str) -> list[_Key]:
    """However it is written: `+34 600 111 222`, `0034600111222`, `600-111-222` as Leadway stores it."""
    if not _NUMBER.fullmatch(text):
        return []
    digits = re.sub(r"\D", "", text)
    spellings = {digits, f"+{digits}", f"+{digits.removeprefix('00')}", text}
    return _newest(connection, calls_table.c.from_number.in_(sorted(spellings)))


def _newest(connection: Connection, *conditions: sa.ColumnElement[bool]) -> list[_Key]:
    table = calls_table.c
    rows = connection.execute(
        sa.select(table.location_id, table.call_id)
        .where(*conditions)
        .order_by(table.first_heard_at.desc())
        .limit(MOST_FOUND)
    )
    return [(row.location_id, row.call_id) for row in rows]

"""What somebody types to find a call: its id, the caller's number, the contact's id, the reference in a note, or words
of its summary."""

import re
from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import accounts_table
from models.calls.calls import CALL, calls_table
from models.follow_ups.follow_ups import follow_ups_table
from models.reports import call_list
from models.reports.call_filter import CallFilter
from models.reports.call_list import CallPage, Cursor, Key
from models.work.work_rows import work_table

MOST_FOUND = 50
"""Calls, the newest."""
SHORTEST = 6
"""Characters, of an id that is not written to its end."""
_REFERENCE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"[+\d\s().\-/]{5,30}")
_BEGINNING = re.compile(rf"[\w-]{{{SHORTEST},64}}", re.ASCII)
_LAST = "z" * 64
"""Sorts behind what may follow in an id, whichever collation the database has."""


def calls(
    connection: Connection, text: str, wanted: CallFilter, *, limit: int, after: Cursor | None = None
) -> CallPage:
    """The calls that are meant by `text`, newest first: by an id, a number, a reference, else by words of the summary.

    What indexes find is told at once. For words a page looks through a bounded number of calls, as with any filter.
    """
    keys = matching(connection, text)
    if keys:
        return CallPage(call_list.these(connection, keys, wanted), None)
    words = text.strip()
    if not words or not words.isprintable() or len(words) > MOST_CHARACTERS:
        return CallPage([], None)
    return call_list.newest(connection, replace(wanted, words=words), limit=limit, after=after)


MOST_CHARACTERS = 200
"""Of words to look for."""


def matching(connection: Connection, text: str) -> list[Key]:
    """Account and id of the calls that are meant, at most MOST_FOUND. Looks into indexes only."""
    text = text.strip()
    if not text or not text.isprintable():
        return []
    found = [*_by_reference(connection, text), *_by_call_id(connection, text), *_by_contact(connection, text)]
    found += _by_number(connection, text)
    if not found:  # an id of which only the beginning is known
        found = [*of_call_id(connection, text), *_of_follow_ups(connection, of_follow_up_id(connection, text))]
    return list(dict.fromkeys(found))[:MOST_FOUND]


def of_call_id(connection: Connection, text: str) -> list[Key]:
    """The calls with this id, stored or not, of whatever account; else those, a few, whose id begins like this."""
    found = _by_call_id(connection, text)
    if found or not _BEGINNING.fullmatch(text):
        return found
    known = known_accounts(connection)
    places: tuple[tuple[sa.Column[str], sa.Column[str], list[sa.ColumnElement[bool]]], ...] = (
        (calls_table.c.location_id, calls_table.c.call_id, []),
        (work_table.c.location_id, work_table.c.subject, [work_table.c.kind == CALL.name]),
    )
    for location_id, call_id, conditions in places:
        for each in known:  # one look into the index for each
            query = sa.select(location_id, call_id).where(location_id == each, *conditions, *_begins(call_id, text))
            found += [(row[0], row[1]) for row in connection.execute(query.limit(MOST_FOUND))]
    return list(dict.fromkeys(found))


def of_follow_up_id(connection: Connection, text: str) -> list[str]:
    """The id of the follow-up with this reference; else those, a few, whose reference begins like this."""
    column = follow_ups_table.c.follow_up_id
    exact = connection.execute(sa.select(column).where(column == text)).scalars().all()
    if exact or not _BEGINNING.fullmatch(text):
        return [*exact]
    begins = _begins(column, text.lower())
    return [*connection.execute(sa.select(column).where(*begins).limit(MOST_FOUND)).scalars()]


def _begins(column: sa.Column[str], text: str) -> tuple[sa.ColumnElement[bool], ...]:
    """The range is for the index, the comparison for the meaning: a collation may pass over signs and case."""
    return column >= text, column <= text + _LAST, sa.func.substr(column, 1, len(text)) == text


def _of_follow_ups(connection: Connection, follow_up_ids: Sequence[str]) -> list[Key]:
    table = follow_ups_table.c
    rows = connection.execute(
        sa.select(table.location_id, table.call_id).where(table.follow_up_id.in_(follow_up_ids[:MOST_FOUND]))
    )
    return [(row.location_id, row.call_id) for row in rows]


def _by_reference(connection: Connection, text: str) -> list[Key]:
    """The whole line may be pasted, as it stands at the end of a note."""
    return _of_follow_ups(connection, [each.lower() for each in _REFERENCE.findall(text)])


def _by_call_id(connection: Connection, text: str) -> list[Key]:
    """Stored or not, of whatever account: a person knows only the id."""
    known, table = known_accounts(connection), calls_table.c
    stored = sa.select(table.location_id).where(table.location_id.in_(known), table.call_id == text)
    unread = sa.select(work_table.c.location_id).where(
        work_table.c.kind == CALL.name, work_table.c.location_id.in_(known), work_table.c.subject == text
    )
    return [(location_id, text) for location_id in connection.execute(stored.union(unread)).scalars()]


def _by_contact(connection: Connection, text: str) -> list[Key]:
    known = known_accounts(connection)
    return _newest(connection, calls_table.c.location_id.in_(known), calls_table.c.contact_id == text)


def known_accounts(connection: Connection) -> Sequence[str]:
    """Indexes of calls begin with the account."""
    return connection.execute(sa.select(accounts_table.c.location_id)).scalars().all()


def _by_number(connection: Connection, text: str) -> list[Key]:
    """However it is written: `+34 600 111 222`, `0034600111222`, `600-111-222` as Leadway stores it."""
    if not _NUMBER.fullmatch(text):
        return []
    digits = re.sub(r"\D", "", text)
    spellings = {digits, f"+{digits}", f"+{digits.removeprefix('00')}", text}
    return _newest(connection, calls_table.c.from_number.in_(sorted(spellings)))


def _newest(connection: Connection, *conditions: sa.ColumnElement[bool]) -> list[Key]:
    table = calls_table.c
    rows = connection.execute(
        sa.select(table.location_id, table.call_id)
        .where(*conditions)
        .order_by(table.first_heard_at.desc())
        .limit(MOST_FOUND)
    )
    return [(row.location_id, row.call_id) for row in rows]

"""Signed notifications that name calls which Leadway does not know: how many an account may have in a day.

One key signs for all customers of the vendor, so whoever gets it to sign an event for an account of ours could spend
that account's requests on ids of nothing (docs/decisions/0074). Notifications with an intake secret are not counted.
"""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.calls import CALL, calls_table
from models.database import moment
from models.intake.notifications import SIGNATURES, notifications_table
from models.reconciling.unresolved import IS_UNRESOLVED
from models.work.work_rows import NOT_FOUND, work_table

CEILING = 100
"""Signed notifications of an account and day, repeats too, that named no call which Leadway knows."""
TURNED_OUT_AFTER = timedelta(minutes=10)
"""Until then the log of a call may be on its way."""
TOO_MANY = "too_many_unknown_calls"
"""Reason of what came beyond the ceiling."""


def are_too_many(connection: Connection, location_id: str) -> bool:
    """Whether the account is beyond its ceiling."""
    return int(connection.execute(_NUMBER, {"this_location": location_id}).scalar_one()) >= CEILING


def is_one(connection: Connection, location_id: str, call_id: str | None) -> bool:
    """Whether a signed notification with this call id names no call that anybody knows: it is neither stored, nor does
    its work wait for anything else than being found."""
    if call_id is None:
        return True
    return connection.execute(_KNOWN, {"this_location": location_id, "this_call": call_id}).first() is None


def is_only_signed(connection: Connection, location_id: str, call_id: str) -> bool:
    """Whether signed notifications name the call, and none that came with an intake secret."""
    methods = sa.select(_N.authenticated_by).where(_N.location_id == location_id, _N.call_id == call_id)
    found = set(connection.execute(methods.distinct()).scalars())
    return bool(found) and found <= set(SIGNATURES)


_N, _W = notifications_table.c, work_table.c
_THIS_LOCATION = sa.bindparam("this_location", type_=sa.Text)
_THIS_CALL = sa.bindparam("this_call", type_=sa.Text)
_SIGNED_TODAY = sa.and_(
    _N.location_id == _THIS_LOCATION, _N.authenticated_by.in_(SIGNATURES), _N.last_received_at > moment(-86_400)
)
_IS_OF_THIS_ACCOUNT = sa.and_(_W.kind == CALL.name, _W.location_id == _THIS_LOCATION)
_NOT_FOUND_YET = sa.and_(
    _W.last_error == sa.literal_column(f"'{NOT_FOUND}'"),  # as the index says it
    _W.first_heard_at < moment(-TURNED_OUT_AFTER.total_seconds()),
)
_ARRIVALS = sa.select(sa.func.coalesce(sa.func.sum(1 + _N.repeats), 0)).where(_SIGNED_TODAY)
_OF_THE_CALL = _ARRIVALS.where(_N.call_id == _W.subject).correlate(work_table).scalar_subquery()
"""A subquery, so that the few rows of work are read first and the many notifications never."""
_OF_UNKNOWN_CALLS = sa.select(sa.func.coalesce(sa.func.sum(_OF_THE_CALL), 0)).where(_IS_OF_THIS_ACCOUNT, _NOT_FOUND_YET)
_NUMBER = sa.select(_OF_UNKNOWN_CALLS.scalar_subquery() + _ARRIVALS.where(IS_UNRESOLVED).scalar_subquery())
_KNOWN = sa.union_all(
    sa.select(sa.literal(1)).where(calls_table.c.location_id == _THIS_LOCATION, calls_table.c.call_id == _THIS_CALL),
    sa.select(sa.literal(1)).where(
        _IS_OF_THIS_ACCOUNT, _W.subject == _THIS_CALL, _W.last_error.is_distinct_from(NOT_FOUND)
    ),
)

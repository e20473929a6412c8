"""Which calls a person means: one filter for the pages and the commands, and the one place that turns it into SQL.

A filter has one of two costs, neither of which grows with the history. States of open work and of owed follow-ups are
read from `work`, whose size is the backlog. Everything else walks the calls newest first by an index, a bounded number
of rows for each page (models/reports/call_list.py, docs/decisions/0103).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from models.calls.calls import call_actions_table, calls_table
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState, follow_ups_table
from models.work.work_rows import IS_DEAD, IS_LEASED, work_table

COMPLETE = "complete"
"""The state of a call without open work."""


class CallState(StrEnum):
    """The state of a call: that of its work, or complete without work."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = COMPLETE
    DEAD = "dead"


class FollowUpFilter(StrEnum):
    """The calls that have a follow-up in a state."""

    ANY = "any"
    NONE = "none"
    """The calls without any."""
    OPEN = "open"
    """Pending or unclear."""
    PENDING = "pending"
    UNCLEAR = "unclear"
    DONE = "done"
    DEAD = "dead"
    SKIPPED = "skipped"

    @property
    def states(self) -> frozenset[FollowUpState]:
        """The states that are meant; none of them for `NONE`."""
        match self:
            case FollowUpFilter.ANY:
                return frozenset(FollowUpState)
            case FollowUpFilter.NONE:
                return frozenset()
            case FollowUpFilter.OPEN:
                return frozenset({FollowUpState.PENDING, FollowUpState.UNCLEAR})
            case state:
                return frozenset({FollowUpState(state.value)})

    @property
    def has_work(self) -> bool:
        """Whether each follow-up that is meant has a row of work: there are few of them."""
        return bool(self.states) and self.states <= _WITH_WORK


_WITH_WORK = {FollowUpState.PENDING, FollowUpState.UNCLEAR, FollowUpState.DEAD}


@dataclass(frozen=True)
class CallFilter:
    """Which calls are meant: those for which everything holds that is given."""

    location_id: str | None = None
    state: CallState | None = None
    follow_up: FollowUpFilter | None = None
    action: str | None = None
    """The type of an action, as Leadway names it: APPOINTMENT_BOOKING."""
    agent: str | None = None
    """The id or the whole name of the agent."""
    direction: str | None = None
    trial: bool | None = None
    since: datetime | None = None
    """Calls that became known at this time or later."""
    until: datetime | None = None
    """Calls that became known before this time."""
    words: str | None = None
    """Words that all stand in the summary, in any order."""

    @property
    def is_by_work(self) -> bool:
        """Whether the calls are found by rows of work."""
        by_state = self.state not in (None, CallState.COMPLETE)
        return by_state or (self.follow_up is not None and self.follow_up.has_work)

    @property
    def asks_the_log(self) -> bool:
        """Whether only a stored log can answer."""
        of_log = (self.action, self.agent, self.direction, self.trial, self.words)
        return any(each is not None for each in of_log) or self.follow_up not in (None, FollowUpFilter.NONE)

    @property
    def looks_at_each_call(self) -> bool:
        """Whether calls are walked through that are not meant."""
        if self.is_by_work:
            return False
        return self.asks_the_log or self.state is not None or self.follow_up is not None


EVERYTHING = CallFilter()
_c, _w, _a, _f = calls_table.c, work_table.c, call_actions_table.c, follow_ups_table.c


def of_place(wanted: CallFilter, key: tuple[sa.Column[datetime], sa.Column[str]]) -> list[sa.ColumnElement[bool]]:
    """What an index of calls answers: the account, and when the call became known. `key`: time and account."""
    first_heard_at, location_id = key
    conditions = []
    if wanted.location_id is not None:
        conditions.append(location_id == wanted.location_id)
    if wanted.since is not None:
        conditions.append(first_heard_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(first_heard_at < wanted.until)
    return conditions


def of_stored(wanted: CallFilter) -> list[sa.ColumnElement[bool]]:
    """The rest, of a stored call that is joined with its work."""
    conditions = [*of_state(wanted)]
    if wanted.direction is not None:
        conditions.append(_c.direction == wanted.direction)
    if wanted.trial is not None:
        conditions.append(sa.func.coalesce(_c.trial_call, sa.false()).is_(sa.true() if wanted.trial else sa.false()))
    if wanted.agent is not None:
        conditions.append((_c.agent_id == wanted.agent) | (_c.agent_name == wanted.agent))
    if wanted.action is not None:
        its_action = (_a.location_id == _c.location_id) & (_a.call_id == _c.call_id)
        # As an expression: by the index of types SQLite would read every action of that type for each call.
        conditions.append(sa.exists().where(its_action, _a.action_type.concat("") == wanted.action))
    conditions += [_says(word) for word in (wanted.words or "").split()]
    if wanted.follow_up is not None:
        conditions.append(_has_follow_up(wanted.follow_up))
    return conditions


def of_state(wanted: CallFilter) -> list[sa.ColumnElement[bool]]:
    """The state, of a call that is joined with its work."""
    match wanted.state:
        case None:
            return []
        case CallState.COMPLETE:
            return [_w.kind.is_(None)]
        case CallState.DEAD:
            return [IS_DEAD]
        case CallState.RUNNING:
            return [IS_LEASED, ~IS_DEAD]
        case CallState.PENDING:
            return [_w.kind.is_not(None), ~IS_LEASED, ~IS_DEAD]


def _has_follow_up(wanted: FollowUpFilter) -> sa.ColumnElement[bool]:
    its_own = (_f.location_id == _c.location_id) & (_f.call_id == _c.call_id)
    if wanted is FollowUpFilter.NONE:
        return ~sa.exists().where(its_own)
    states = sorted(wanted.states)
    if not wanted.has_work:
        return sa.exists().where(its_own, _f.status.in_(states))
    owed = work_table.alias("owed")
    keys = (
        sa.select(_f.location_id, _f.call_id)
        .join(owed, owed.c.subject == _f.follow_up_id)
        .where(owed.c.kind == FOLLOW_UP.name, _f.status.in_(states))
    )
    return sa.tuple_(_c.location_id, _c.call_id).in_(keys)


def _says(word: str) -> sa.ColumnElement[bool]:
    """Whatever its case; databases differ in whether they know the case of letters such as Á, so each is tried."""
    spellings = sorted({word, word.lower(), word.upper(), word.capitalize()})
    return sa.or_(*(_c.summary.icontains(each, autoescape=True) for each in spellings))

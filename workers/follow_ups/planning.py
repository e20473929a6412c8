"""When a note is written: which follow-ups a reading of a call asks for, and from when on they may be sent."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from models.accounts.accounts import Account
from models.calls.call_log import Action, CallLog
from models.follow_ups import follow_ups
from models.follow_ups.rules import CALL_KEY, PlannedFollowUp, Rules, follow_ups_for, is_too_old
from models.work.work_rows import Lane

SUMMARY_PATIENCE_SECONDS = 120.0
"""Follow-ups of a log without a summary wait for one until the call has been stored for this long."""


def plan_follow_ups(
    connection: Connection,
    rules: Rules,
    call_log: CallLog,
    keyed_actions: Sequence[tuple[str, Action]],
    *,
    account: Account,
    lane: Lane,
    read_at: datetime,
    stored_at: datetime | None,
    is_newest: bool,
) -> None:
    """Writes the follow-ups that the reading asks for, in the caller's transaction, which also stores the reading.

    `keyed_actions`: the call's actions, each with its stored action key. `lane`: the call's own. `read_at`: the
    database's time just before the request. `stored_at`: when the call was first stored; None: by this transaction.
    `is_newest`: whether the reading is what is stored now; then unwritten follow-ups move to its contact.
    """
    planned = follow_ups_asked_for(
        connection, rules, call_log, keyed_actions, account=account, now=read_at, first_reading=stored_at is None
    )
    stored_seconds = 0.0 if stored_at is None else (read_at - stored_at).total_seconds()
    has_summary = bool(call_log.summary.strip()) or not call_log.duration_seconds
    follow_ups.plan(
        connection,
        account.location_id,
        call_log.call_id,
        planned,
        delay_seconds=0.0 if has_summary else max(0.0, SUMMARY_PATIENCE_SECONDS - stored_seconds),
        lane=lane if lane.is_background else Lane.FOLLOW_UP,
        move=is_newest and stored_at is not None,
    )


def follow_ups_asked_for(
    connection: Connection,
    rules: Rules,
    call_log: CallLog,
    keyed_actions: Sequence[tuple[str, Action]],
    *,
    account: Account,
    now: datetime,
    even_if_old: bool = False,
    first_reading: bool = False,
) -> tuple[PlannedFollowUp, ...]:
    """The follow-ups that these rules ask for, skipped ones with their reason. Writes nothing.

    `even_if_old`: the account's follow-up age is not applied. `first_reading`: nothing was planned for this call yet,
    so the database is not asked.
    """
    planned_as_call = not first_reading and follow_ups.has_action_key(
        connection, account.location_id, call_log.call_id, CALL_KEY
    )
    return follow_ups_for(
        call_log,
        keyed_actions,
        rules,
        location_id=account.location_id,
        too_old=not even_if_old and is_too_old(call_log, now=now, age_hours=account.follow_up_age_hours),
        planned_as_call=planned_as_call,
    )

"""one kind of work, in one small table

Needs a stop: the schedule leaves `calls`, `follow_ups`, `reconciliations` and `oauth_grants`, so that a process from
before this migration can claim and finish nothing. Every open row goes on as work: with its lease, its intent, its
counters and its cause of death. `calls` is written anew, once: until it ends that takes about as much disk again as
the table has, on SQLite half as much more.

It cannot be undone: restore the backup that was made before it.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NEEDS_A_STOP = True
REWRITES_A_LARGE_TABLE = True
statement_timeout_seconds = 0  # no limit: everything is stopped, so nobody waits

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(sa.dialects.postgresql.JSONB(none_as_null=True), "postgresql")

LOCKED = ("attempts", "oauth_grants", "reconciliations", "seen_ids", "call_actions", "follow_ups", "accounts", "calls")
"""Each receipt uses the last two, so they are locked last."""
GREATEST_NUMBER = 2**40 - 1
OPEN_LANES = {"regular": 3, "daily": 4, "since": 3, "burst": 0, "backfill": 4}
"""The lanes of windows by kind."""
REFRESH_BEFORE_SECONDS = 60
"""A token is refreshed this long before it expires."""


def on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def upgrade() -> None:
    if on_postgresql():
        op.execute(f"LOCK TABLE {', '.join(LOCKED)} IN ACCESS EXCLUSIVE MODE")
    create_work()
    start_fences()
    end_narrow_windows()
    carry_over()
    rewrite_calls()
    drop_schedules()
    rewrite_attempts()
    if on_postgresql():
        name_constraints("calls", "attempts", "reconciliations")
        op.execute("ANALYZE calls, work, follow_ups, attempts")


def downgrade() -> None:
    raise NotImplementedError("this migration cannot be undone: restore the backup that was made before it")


def create_work() -> None:
    op.create_table(
        "work",
        sa.Column("kind", sa.Text, nullable=False, comment="call, follow_up, window, backfill, grant"),
        sa.Column("location_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False, comment="call id, follow-up id, slot of the window"),
        sa.Column("lane", sa.SmallInteger, nullable=False),
        sa.Column("due_at", TIME, nullable=True, comment="or the end of its lease; null: nothing happens by itself"),
        sa.Column("attempts", sa.Integer, nullable=False, comment="tries with an answer or a failure"),
        sa.Column("failures", sa.Integer, nullable=False, comment="of those, what counts towards dead-lettering"),
        sa.Column("fence", sa.BigInteger, nullable=False, comment="of its last claim; from one sequence for all rows"),
        sa.Column("lease_until", TIME, nullable=True, comment="null: no attempt is under way"),
        sa.Column("lease_lost_at", TIME, nullable=True, comment="end of the run-out lease that the claim took over"),
        sa.Column("claimed_at", TIME, nullable=True),
        sa.Column("running_on", sa.Text, nullable=True, comment="the worker that holds the lease"),
        sa.Column("lost_leases", sa.Integer, nullable=False, comment="in a row; reset by any outcome"),
        sa.Column("lost_isolated", sa.Integer, nullable=False, comment="of those, lost in isolation"),
        sa.Column("isolated", sa.Boolean, nullable=False),
        sa.Column("requested", sa.Integer, nullable=False, comment="raised each time it is requested"),
        sa.Column("enqueued_at", TIME, nullable=True, comment="enqueue mark: when its message was put into Redis"),
        sa.Column("enqueued_epoch", sa.Text, nullable=True, comment="the epoch of Redis that the message went into"),
        sa.Column("last_error", sa.Text, nullable=True),
        sa.Column("dead_cause", sa.Text, nullable=True, comment="why it was given up; null: it was not"),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("first_heard_at", TIME, nullable=True, comment="of a call that is not stored yet"),
        sa.Column("announced_at", TIME, nullable=True, comment="likewise: when its notification came"),
        sa.Column("origin", sa.Text, nullable=True, comment="likewise: notification, reconcile, backfill"),
        sa.Column("wants_follow_ups", sa.Boolean, nullable=True, comment="likewise"),
        sa.PrimaryKeyConstraint("kind", "location_id", "subject", name="pk_work"),
        postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
    )
    has_due_time, in_flight = (
        sa.text("due_at IS NOT NULL"),
        sa.text("enqueued_at IS NOT NULL OR lease_until IS NOT NULL"),
    )
    for name, columns, where in (
        ("ix_work_due_at", ["due_at"], has_due_time),
        ("ix_work_lane", ["location_id", "lane", "due_at"], has_due_time),
        ("ix_work_in_flight", ["location_id"], in_flight),
    ):
        op.create_index(name, "work", columns, postgresql_where=where, sqlite_where=where)


def start_fences() -> None:
    """Above every fence of the tables' own counters."""
    counters = {"calls": "fence", "follow_ups": "fence", "reconciliations": "fence", "oauth_grants": "refreshing"}
    greatest = " UNION ALL ".join(
        f"SELECT coalesce(max({column}), 0) AS n FROM {table}" for table, column in counters.items()
    )
    last = op.get_bind().execute(sa.text(f"SELECT max(n) FROM ({greatest}) AS fences")).scalar_one()
    if on_postgresql():
        op.execute(f"CREATE SEQUENCE fence_numbers AS bigint MAXVALUE {GREATEST_NUMBER} START {last + 1}")
    else:
        op.execute("CREATE TABLE fence_counter (number BIGINT NOT NULL)")
        op.execute(f"INSERT INTO fence_counter VALUES ({last})")


def now(seconds: int = 0) -> str:
    return moved("statement_timestamp()" if on_postgresql() else "'now'", seconds)


def moved(time: str, seconds: int) -> str:
    if on_postgresql():
        return f"({time} + interval '{seconds} seconds')"
    return f"strftime('%Y-%m-%d %H:%M:%f000', {time}, '{seconds:+} seconds')"


def end_narrow_windows() -> None:
    """An account's regular window looks for the calls of notifications without a call id from now on."""
    narrow = "kind = 'narrow' AND finished_at IS NULL"
    op.execute(
        f"UPDATE accounts SET next_reconcile_at = {now()}"
        f" WHERE location_id IN (SELECT location_id FROM reconciliations WHERE {narrow})"
    )
    ids = f"SELECT reconciliation_id FROM reconciliations WHERE {narrow}"
    op.execute(f"DELETE FROM seen_ids WHERE reconciliation_id IN ({ids})")
    op.execute(f"UPDATE reconciliations SET finished_at = {now()}, error = 'left_to_the_regular_window' WHERE {narrow}")


def carry_over() -> None:
    """Every open row becomes work. So does a call that counts as done and was never stored or settled: no process
    leaves one, and it would never be read again."""
    schedule = """
        lane, CASE WHEN status = 'dead' THEN NULL {due} END, attempts, failures, fence,
        CASE WHEN status = 'running' THEN lease_until END, claimed_at, running_on, lost_leases, lost_isolated, isolated,
        requested, last_error, CASE WHEN status = 'dead' THEN coalesce(dead_cause, last_error, 'unknown') END"""
    columns = """
        lane, due_at, attempts, failures, fence, lease_until, claimed_at, running_on, lost_leases, lost_isolated,
        isolated, requested, last_error, dead_cause"""
    op.execute(
        f"""INSERT INTO work (kind, location_id, subject, {columns}, created_at, first_heard_at, announced_at, origin,
                              wants_follow_ups)
            SELECT 'call', location_id, call_id, {schedule.format(due=f"ELSE coalesce(next_attempt_at, {now()})")},
                   created_at,
                   CASE WHEN stored_at IS NULL THEN created_at END, CASE WHEN stored_at IS NULL THEN announced_at END,
                   CASE WHEN stored_at IS NULL THEN origin END, CASE WHEN stored_at IS NULL THEN plans_follow_ups END
            FROM calls WHERE status <> 'done' OR stored_at IS NULL OR settled_at IS NULL"""
    )
    op.execute(
        f"""INSERT INTO work (kind, location_id, subject, {columns}, created_at)
            SELECT 'follow_up', location_id, follow_up_id, {schedule.format(due="ELSE next_attempt_at")}, planned_at
            FROM follow_ups WHERE status NOT IN ('done', 'skipped')"""
    )
    lanes = " ".join(f"WHEN '{kind}' THEN {lane}" for kind, lane in OPEN_LANES.items())
    no = "false" if on_postgresql() else "0"
    op.execute(
        f"""INSERT INTO work (kind, location_id, subject, lane, due_at, attempts, failures, fence, lease_until,
                              claimed_at, lost_leases, lost_isolated, isolated, requested, last_error, created_at)
            SELECT CASE WHEN kind = 'backfill' THEN 'backfill' ELSE 'window' END, location_id, slot,
                   CASE kind {lanes} END, coalesce(next_attempt_at, {now()}), failures, failures, fence, lease_until,
                   claimed_at, 0, 0, {no}, 1, error, started_at
            FROM reconciliations WHERE finished_at IS NULL"""
    )
    due = f"coalesce(g.refreshing_until, {moved('a.token_expires_at', -REFRESH_BEFORE_SECONDS)}, {now()})"
    op.execute(
        f"""INSERT INTO work (kind, location_id, subject, lane, due_at, attempts, failures, fence, lease_until,
                              lost_leases, lost_isolated, isolated, requested, created_at)
            SELECT 'grant', g.location_id, '', 0, {due}, 0, 0, g.refreshing, g.refreshing_until, 0, 0, {no}, 1, {now()}
            FROM oauth_grants g JOIN accounts a ON a.location_id = g.location_id"""
    )
    op.execute(
        """UPDATE follow_ups SET status = CASE WHEN unclear_since IS NULL THEN 'pending' ELSE 'unclear' END
           WHERE status IN ('pending', 'running')"""
    )


CALLS: tuple[tuple[str, Any, bool, str | None, str], ...] = (
    ("location_id", sa.Text(), False, None, "c.location_id"),
    ("call_id", sa.Text(), False, "Leadway's", "c.call_id"),
    ("started_at", TIME, True, "Leadway's createdAt", "c.started_at"),
    ("local_day", sa.Date(), True, "of started_at, in the account's time zone", "{local_day}"),
    ("local_hour", sa.SmallInteger(), True, "likewise, 0 to 23", "{local_hour}"),
    ("duration_seconds", sa.Float(), True, None, "c.duration_seconds"),
    ("direction", sa.Text(), True, "inbound or outbound, where the log tells", "{direction}"),
    ("call_status", sa.Text(), True, "in Leadway's words, where the log tells", "{callStatus}"),
    ("contact_id", sa.Text(), True, None, "c.contact_id"),
    ("from_number", sa.Text(), True, None, "c.from_number"),
    ("to_number", sa.Text(), True, "the dialled number, where the log tells", "{toNumber}"),
    ("agent_id", sa.Text(), True, None, "c.agent_id"),
    ("agent_deleted", sa.Boolean(), True, None, "c.agent_deleted"),
    ("agent_handoff", sa.Boolean(), True, "agentTransferOccurred", "c.transferred"),
    ("message_id", sa.Text(), True, None, "c.message_id"),
    ("trial_call", sa.Boolean(), True, None, "c.trial_call"),
    ("summary", sa.Text(), True, None, "nullif(c.summary, '')"),
    ("transcript", sa.Text(), True, None, "nullif(c.transcript, '')"),
    ("translation", JSON, True, None, "c.translation"),
    ("extracted_data", JSON, True, None, "c.extracted_data"),
    ("document", JSON, True, "what the log has beside all these columns, secrets replaced", "{rest}"),
    ("words_from", sa.Text(), True, "fetch or list; null: nobody looked for them yet", "c.read_from"),
    ("actions_from", sa.Text(), True, "likewise", "c.read_from"),
    (
        "extracted_data_from", sa.Text(), True, "likewise; a list does not carry them",
        "CASE WHEN c.read_from = 'fetch' OR c.extracted_data IS NOT NULL THEN 'fetch' END",
    ),
    ("origin", sa.Text(), False, "what made it known: notification, reconcile, backfill", "c.origin"),
    ("wants_follow_ups", sa.Boolean(), False, None, "c.plans_follow_ups"),
    ("first_heard_at", TIME, False, "when we first heard of it", "c.created_at"),
    ("announced_at", TIME, True, "when its notification came; null: none came", "c.announced_at"),
    ("stored_at", TIME, False, "when its log was first stored", "c.stored_at"),
    ("settled_at", TIME, True, "when its log was settled; null: it is read again", "c.settled_at"),
    (
        "read_at", TIME, False, "just before the request that brought the stored log",
        "coalesce(c.read_at, c.stored_at)",
    ),
    ("read_from", sa.Text(), False, "fetch or list", "coalesce(c.read_from, 'fetch')"),
    ("reading_fence", sa.BigInteger(), False, "of the claim whose reading is stored", "0"),
    (
        "emptied_at", TIME, True, "when its words were deleted after the retention time",
        "CASE WHEN c.document IS NULL THEN {now} END",
    ),
    ("erased_at", TIME, True, "when it was erased because a person asked for it", "NULL"),
)  # fmt: skip
"""Each column with its type, whether it may be null, its comment, and what it gets from the row `c` of before."""
INDEXES = {
    "ix_calls_started_at": ["location_id", "started_at"],
    "ix_calls_contact_id": ["location_id", "contact_id"],
    "ix_calls_first_heard_at": ["first_heard_at", "location_id", "call_id"],
    "ix_calls_location_id_first_heard_at": ["location_id", "first_heard_at", "call_id"],
}
CARRIED = {
    "id": "call_id", "contactId": "contact_id", "agentId": "agent_id", "messageId": "message_id",
    "isAgentDeleted": "agent_deleted", "fromNumber": "from_number", "createdAt": "started_at",
    "duration": "duration_seconds", "agentTransferOccurred": "transferred", "trialCall": "trial_call",
}  # fmt: skip
"""The document's fields with a column of their own that texts, numbers and booleans are read into. A value of another
type could not be read: it stays in the document, also where the column has the value of an earlier reading."""
CARRIED_TEXTS = {"summary": "summary", "transcript": "transcript"}
CARRIED_OBJECTS = {"translation": "translation", "extractedData": "extracted_data"}
"""Those whose column has the very same value, unless it is an earlier reading's."""
TOLD = ("direction", "callStatus", "toNumber")
"""Those that get their column here: texts, or whole numbers."""
READ_OF_ACTIONS = (
    "actionId", "_id", "actionType", "actionName", "actionParameters", "executedAt", "triggerReceivedAt",
)  # fmt: skip
"""An action's fields that have a column of `call_actions`. The document leaves out actions that have no others."""


def rewrite_calls() -> None:
    """A call has a row when its log is stored. Old and new table stand side by side until all rows are copied."""
    columns = [sa.Column(name, kind, nullable=null, comment=comment) for name, kind, null, comment, _ in CALLS]
    if on_postgresql():
        before, new, known = "calls_before", "calls", _from_postgresql()
        op.rename_table("calls", before)
        op.create_table(new, *columns)
    else:
        before, new, known = "calls", "calls_after", _from_sqlite()
        op.create_table(new, *columns, sa.PrimaryKeyConstraint("location_id", "call_id", name="pk_calls"))
    values = ", ".join(value.format(**known, now=now()) for *_, value in CALLS)
    op.execute(
        f"INSERT INTO {new} ({', '.join(name for name, *_ in CALLS)}) SELECT {values} FROM {before} c {known['joined']}"
        " WHERE c.stored_at IS NOT NULL"
    )
    if on_postgresql():
        keys = {child: f"fk_{child}_location_id_call_id_calls" for child in ("call_actions", "follow_ups")}
        for child, name in keys.items():
            op.drop_constraint(name, child, type_="foreignkey")
        op.drop_table(before)
        key = ["location_id", "call_id"]
        op.create_primary_key("pk_calls", new, key)
        for child, name in keys.items():
            op.create_foreign_key(name, child, new, key, key, ondelete="CASCADE")
    else:  # foreign keys are off, and those of the children go on meaning the name
        op.drop_table(before)
        op.rename_table(new, "calls")
    for name, names in INDEXES.items():
        op.create_index(name, "calls", names)


def _from_postgresql() -> dict[str, str]:
    """Each row's document is read from its storage once, by the lateral join, and not for each of its fields."""

    def told(field: str) -> str:
        whole_number = f"d.log ->> '{field}' ~ '^-?[0-9]+$'"
        return f"""CASE WHEN jsonb_typeof(d.log -> '{field}') = 'string'
            OR (jsonb_typeof(d.log -> '{field}') = 'number' AND {whole_number})
            THEN nullif(btrim(d.log ->> '{field}', E' \\t\\r\\n'), '') END"""

    unread = " && ".join(f'@.key != "{name}"' for name in READ_OF_ACTIONS)
    unread_actions = f"""strict $.executedCallActions[*] ? (@.type() != "object" || exists(@.keyvalue() ? ({unread}))
        || @.actionParameters.type() != "object" && exists(@.actionParameters))"""
    conditions = {
        field: f"c.{column} IS NOT NULL AND jsonb_typeof(d.log -> '{field}') IN ('string', 'number', 'boolean')"
        for field, column in CARRIED.items()
    }
    conditions |= {field: f"d.log ->> '{field}' = c.{column}" for field, column in CARRIED_TEXTS.items()}
    conditions |= {field: f"d.log -> '{field}' = c.{column}" for field, column in CARRIED_OBJECTS.items()}
    conditions |= {field: f"{told(field)} IS NOT NULL" for field in TOLD}
    conditions["executedCallActions"] = f"""jsonb_typeof(d.log -> 'executedCallActions') = 'array'
        AND d.log -> 'executedCallActions' <> '[]' AND NOT jsonb_path_exists(d.log, '{unread_actions}', '{{}}', true)"""
    removed = ", ".join(f"CASE WHEN {when} THEN '{field}' END" for field, when in conditions.items())
    local = "(c.started_at AT TIME ZONE coalesce(z.zone, 'UTC'))"
    return {
        "joined": """LEFT JOIN LATERAL (SELECT c.document || '{}' AS log OFFSET 0) d ON true
            LEFT JOIN (SELECT a.location_id, n.name AS zone FROM accounts a JOIN pg_timezone_names n
                       ON n.name = a.time_zone OFFSET 0) z ON z.location_id = c.location_id""",
        "local_day": f"{local}::date", "local_hour": f"extract(hour FROM {local})",
        "rest": f"d.log - ARRAY[{removed}]",
        **{field: told(field) for field in TOLD}, "direction": f"lower({told('direction')})",
    }  # fmt: skip


def _from_sqlite() -> dict[str, str]:
    driver: Any = op.get_bind().connection.driver_connection
    driver.create_function("local_time", 3, _local_time, deterministic=True)

    def told(field: str) -> str:
        text = f"nullif(trim(json_extract(c.document, '$.{field}'), char(32, 9, 13, 10)), '')"
        return f"CASE WHEN json_type(c.document, '$.{field}') IN ('text', 'integer') THEN {text} END"

    scalar = "'text', 'integer', 'real', 'true', 'false'"
    conditions = {
        field: f"c.{column} IS NOT NULL AND json_type(c.document, '$.{field}') IN ({scalar})"
        for field, column in CARRIED.items()
    }
    conditions |= {f: f"json_extract(c.document, '$.{f}') = c.{column}" for f, column in CARRIED_TEXTS.items()}
    conditions |= {f: f"json_extract(c.document, '$.{f}') = json(c.{column})" for f, column in CARRIED_OBJECTS.items()}
    conditions |= {field: f"{told(field)} IS NOT NULL" for field in TOLD}
    conditions["executedCallActions"] = f"""json_type(c.document, '$.executedCallActions') = 'array'
        AND json_array_length(c.document, '$.executedCallActions') > 0
        AND NOT EXISTS (SELECT 1 FROM json_each(c.document, '$.executedCallActions') e
            WHERE CASE WHEN e.type <> 'object' THEN 1 ELSE EXISTS (SELECT 1 FROM json_each(e.value) f
                WHERE f.key NOT IN ({_quoted(READ_OF_ACTIONS)}) OR (f.key = 'actionParameters' AND f.type <> 'object'))
            END)"""
    nothing = "$[0]"  # an object has no such part
    removed = ", ".join(f"CASE WHEN {when} THEN '$.{field}' ELSE '{nothing}' END" for field, when in conditions.items())
    return {
        "joined": "LEFT JOIN accounts a ON a.location_id = c.location_id",
        "local_day": "local_time(c.started_at, a.time_zone, '%Y-%m-%d')",
        "local_hour": "CAST(local_time(c.started_at, a.time_zone, '%H') AS INTEGER)",
        "rest": f"json_remove(c.document, {removed})",
        **{field: told(field) for field in TOLD}, "direction": f"lower({told('direction')})",
    }  # fmt: skip


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _local_time(started_at: str | None, time_zone: str | None, form: str) -> str | None:
    return None if started_at is None else _local(started_at, time_zone).strftime(form)


@lru_cache(maxsize=1)
def _local(started_at: str, time_zone: str | None) -> datetime:
    try:
        zone = ZoneInfo(time_zone or "UTC")
    except (ValueError, KeyError):
        zone = ZoneInfo("UTC")
    return datetime.fromisoformat(started_at).replace(tzinfo=UTC).astimezone(zone)


SCHEDULE = (
    "lane", "next_attempt_at", "attempts", "failures", "fence", "lease_until", "lost_leases", "lost_isolated",
    "isolated", "requested", "replayed", "claimed_at", "running_on", "enqueued_at", "enqueued_epoch", "last_error",
    "dead_cause",
)  # fmt: skip


def drop_schedules() -> None:
    for name in ("due", "in_flight", "not_done"):
        op.drop_index(f"ix_follow_ups_{name}", "follow_ups")
    with op.batch_alter_table("follow_ups") as batch:
        for column in SCHEDULE:
            batch.drop_column(column)
        batch.alter_column(
            "status", existing_type=sa.Text(), existing_nullable=False, comment="pending, unclear, done, dead, skipped"
        )
    op.drop_index("ix_reconciliations_notification_id", "reconciliations")
    with op.batch_alter_table("reconciliations") as batch:
        for column in (
            "contact_id", "notification_id", "looks", "next_attempt_at", "failures", "fence", "lease_until",
            "claimed_at",
        ):  # fmt: skip
            batch.drop_column(column)
        batch.alter_column(
            "plans_follow_ups", new_column_name="wants_follow_ups", existing_type=sa.Boolean(), existing_nullable=False
        )
        batch.alter_column(
            "kind", existing_type=sa.Text(), existing_nullable=False, comment="regular, daily, since, burst, backfill"
        )
    with op.batch_alter_table("oauth_grants") as batch:
        batch.drop_column("refreshing_until")
        batch.drop_column("refreshing")


def rewrite_attempts() -> None:
    """The subject of the work takes the place of call id and follow-up id."""
    for name in ("call", "follow_up"):
        op.drop_index(f"ix_attempts_{name}", "attempts")
    if on_postgresql():
        op.execute(
            "ALTER TABLE attempts ALTER COLUMN fence TYPE bigint, ALTER COLUMN fence DROP NOT NULL,"
            " ALTER COLUMN call_id TYPE text USING coalesce(follow_up_id, call_id)"
        )
    else:
        op.execute("UPDATE attempts SET call_id = follow_up_id WHERE follow_up_id IS NOT NULL")
    with op.batch_alter_table("attempts") as batch:
        batch.drop_column("follow_up_id")
        subject, kinds = (
            "of the work: call id, follow-up id, slot of the window",
            "call, follow_up, window, backfill, grant",
        )
        text: dict[str, Any] = {"existing_type": sa.Text(), "existing_nullable": False}
        batch.alter_column("call_id", new_column_name="subject", comment=subject, **text)
        batch.alter_column("work", new_column_name="kind", comment=f"of the work: {kinds}", **text)
        batch.alter_column(
            "fence", existing_type=sa.Integer(), type_=sa.BigInteger(), nullable=True, comment="null for lease_lost"
        )
    op.create_index("ix_attempts_subject", "attempts", ["subject"])


def name_constraints(*tables: str) -> None:
    """PostgreSQL names NOT NULL constraints from version 18 on; they keep their names when a column is renamed."""
    wrong = sa.text(
        """SELECT c.conname, c.conrelid::regclass || '_' || a.attname || '_not_null'
           FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
           WHERE c.contype = 'n' AND c.conrelid = to_regclass(:table)
             AND c.conname <> c.conrelid::regclass || '_' || a.attname || '_not_null'"""
    )
    for table in tables:
        for name, right in op.get_bind().execute(wrong, {"table": table}).all():
            op.execute(f'ALTER TABLE {table} RENAME CONSTRAINT "{name}" TO "{right}"')

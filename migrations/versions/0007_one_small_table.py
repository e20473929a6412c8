"""one kind of work, in one small table

Needs a stop: the schedule leaves `calls`, `follow_ups`, `reconciliations` and `oauth_grants`, so that a process from
before this migration can claim and finish nothing. Every open row goes on as work: with its lease, its intent, its
counters and its cause of death. `calls` is written anew, once; that takes about as much disk as the table has.

It cannot be undone: restore the backup that was made before it.
"""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NEEDS_A_STOP = True

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(sa.dialects.postgresql.JSONB(none_as_null=True), "postgresql")

LOCKED = ("attempts", "oauth_grants", "reconciliations", "seen_ids", "call_actions", "follow_ups", "accounts", "calls")
"""Each receipt uses the last two, so they are locked last."""
GREATEST_NUMBER = 2**40 - 1
OPEN_LANES = {"regular": 3, "daily": 4, "since": 3, "burst": 0, "backfill": 4}
"""The lanes of windows by kind."""


def on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def upgrade() -> None:
    if on_postgresql():
        op.execute("SET LOCAL statement_timeout = 0")  # everything is stopped, so nobody waits
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


def now() -> str:
    return "statement_timestamp()" if on_postgresql() else "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def end_narrow_windows() -> None:
    """An account's regular window looks for the calls of notifications without a call id from now on."""
    narrow = "kind = 'narrow' AND finished_at IS NULL"
    op.execute(
        f"UPDATE accounts SET next_reconcile_at = {now()}"
        f" WHERE location_id IN (SELECT location_id FROM reconciliations WHERE {narrow})"
    )
    op.execute(f"UPDATE reconciliations SET finished_at = {now()}, error = 'left_to_the_regular_window' WHERE {narrow}")


def carry_over() -> None:
    """Every open row becomes work."""
    schedule = """
        lane, CASE WHEN status = 'dead' THEN NULL ELSE next_attempt_at END, attempts, failures, fence,
        CASE WHEN status = 'running' THEN lease_until END, claimed_at, running_on, lost_leases, lost_isolated, isolated,
        requested, last_error, CASE WHEN status = 'dead' THEN coalesce(dead_cause, last_error, 'unknown') END"""
    columns = """
        lane, due_at, attempts, failures, fence, lease_until, claimed_at, running_on, lost_leases, lost_isolated,
        isolated, requested, last_error, dead_cause"""
    op.execute(
        f"""INSERT INTO work (kind, location_id, subject, {columns}, created_at, first_heard_at, announced_at, origin,
                              wants_follow_ups)
            SELECT 'call', location_id, call_id, {schedule}, created_at,
                   CASE WHEN stored_at IS NULL THEN created_at END, CASE WHEN stored_at IS NULL THEN announced_at END,
                   CASE WHEN stored_at IS NULL THEN origin END, CASE WHEN stored_at IS NULL THEN plans_follow_ups END
            FROM calls WHERE status IN ('pending', 'running', 'dead')"""
    )
    op.execute(
        f"""INSERT INTO work (kind, location_id, subject, {columns}, created_at)
            SELECT 'follow_up', location_id, follow_up_id, {schedule}, planned_at
            FROM follow_ups WHERE status IN ('pending', 'running', 'unclear', 'dead')"""
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
    op.execute(
        f"""INSERT INTO work (kind, location_id, subject, lane, due_at, attempts, failures, fence, lost_leases,
                              lost_isolated, isolated, requested, created_at)
            SELECT 'grant', g.location_id, '', 0, coalesce(a.token_expires_at, {now()}), 0, 0, g.refreshing, 0, 0, {no},
                   1, {now()}
            FROM oauth_grants g JOIN accounts a ON a.location_id = g.location_id"""
    )
    op.execute(
        """UPDATE follow_ups SET status = CASE WHEN unclear_since IS NULL THEN 'pending' ELSE 'unclear' END
           WHERE status = 'running'"""
    )


CALLS: tuple[tuple[str, Any, bool, str | None, str], ...] = (
    ("location_id", sa.Text(), False, None, "c.location_id"),
    ("call_id", sa.Text(), False, "Leadway's", "c.call_id"),
    ("started_at", TIME, True, "Leadway's createdAt", "c.started_at"),
    ("local_day", sa.Date(), True, "of started_at, in the account's time zone", "{local_day}"),
    ("local_hour", sa.SmallInteger(), True, "likewise, 0 to 23", "{local_hour}"),
    ("duration_seconds", sa.Float(), True, None, "c.duration_seconds"),
    ("direction", sa.Text(), True, "inbound or outbound, where the log tells", "lower({direction})"),
    ("call_status", sa.Text(), True, "in Leadway's words, where the log tells", "{callStatus}"),
    ("contact_id", sa.Text(), True, None, "c.contact_id"),
    ("from_number", sa.Text(), True, None, "c.from_number"),
    ("to_number", sa.Text(), True, "the dialled number, where the log tells", "{toNumber}"),
    ("agent_id", sa.Text(), True, None, "c.agent_id"),
    ("agent_deleted", sa.Boolean(), True, None, "c.agent_deleted"),
    ("agent_handoff", sa.Boolean(), True, "agentTransferOccurred", "c.transferred"),
    ("message_id", sa.Text(), True, None, "c.message_id"),
    ("trial_call", sa.Boolean(), True, None, "c.trial_call"),
    ("summary", sa.Text(), True, None, "c.summary"),
    ("transcript", sa.Text(), True, None, "c.transcript"),
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
    "id": "c.call_id", "contactId": "c.contact_id", "agentId": "c.agent_id", "messageId": "c.message_id",
    "isAgentDeleted": "c.agent_deleted", "fromNumber": "c.from_number", "createdAt": "c.started_at",
    "duration": "c.duration_seconds", "agentTransferOccurred": "c.transferred", "summary": "nullif(c.summary, '')",
    "transcript": "nullif(c.transcript, '')", "translation": "c.translation", "extractedData": "c.extracted_data",
    "trialCall": "CASE WHEN c.trial_call THEN 1 END",
}  # fmt: skip
"""Fields of the document that have a column of their own; a value that was not read stays in the document."""


def rewrite_calls() -> None:
    """A call has a row when its log is stored. Old and new table stand side by side until all rows are copied."""
    key = [] if on_postgresql() else [sa.PrimaryKeyConstraint("location_id", "call_id", name="pk_calls")]
    columns = [sa.Column(name, kind, nullable=null, comment=comment) for name, kind, null, comment, _ in CALLS]
    if on_postgresql():
        op.rename_table("calls", "calls_before")
        op.create_table("calls", *columns)
        before, new = "calls_before", "calls"
    else:
        op.create_table("calls_after", *columns, *key)
        before, new = "calls", "calls_after"
    known = _from_postgresql() if on_postgresql() else _from_sqlite()
    values = ", ".join(value.format(**known, now=now()) for *_, value in CALLS)
    op.execute(
        f"INSERT INTO {new} ({', '.join(name for name, *_ in CALLS)}) SELECT {values} FROM {before} c"
        f" LEFT JOIN accounts a ON a.location_id = c.location_id {known['join']} WHERE c.stored_at IS NOT NULL"
    )
    children = ("call_actions", "follow_ups")
    if on_postgresql():
        for child in children:
            op.drop_constraint(f"fk_{child}_location_id_call_id_calls", child, type_="foreignkey")
        op.drop_table("calls_before")
        op.create_primary_key("pk_calls", "calls", ["location_id", "call_id"])
        for child in children:
            ours, theirs = ["location_id", "call_id"], ["location_id", "call_id"]
            name = f"fk_{child}_location_id_call_id_calls"
            op.create_foreign_key(name, child, "calls", ours, theirs, ondelete="CASCADE")
    else:  # foreign keys are off, and those of the children go on meaning the name
        op.drop_table("calls")
        op.rename_table("calls_after", "calls")
    for name, names in INDEXES.items():
        op.create_index(name, "calls", names)


def _from_postgresql() -> dict[str, str]:
    rest = "c.document" + "".join(
        f" - CASE WHEN {column} IS NOT NULL THEN '{field}' ELSE '' END" for field, column in CARRIED.items()
    )
    local = "(c.started_at AT TIME ZONE coalesce(z.name, 'UTC'))"
    return {
        "join": "LEFT JOIN pg_timezone_names z ON z.name = a.time_zone",
        "local_day": f"{local}::date", "local_hour": f"extract(hour FROM {local})", "rest": rest,
        **{field: f"nullif(c.document ->> '{field}', '')" for field in ("direction", "callStatus", "toNumber")},
    }  # fmt: skip


def _from_sqlite() -> dict[str, str]:
    driver: Any = op.get_bind().connection.driver_connection
    driver.create_function("local_time", 3, _local_time)
    removed = ", ".join(
        f"CASE WHEN {column} IS NOT NULL THEN '$.{field}' ELSE '$.\"\"' END" for field, column in CARRIED.items()
    )
    return {
        "join": "", "local_day": "local_time(c.started_at, a.time_zone, '%Y-%m-%d')",
        "local_hour": "CAST(local_time(c.started_at, a.time_zone, '%H') AS INTEGER)",
        "rest": f"json_remove(c.document, {removed})",
        **{
            field: f"nullif(json_extract(c.document, '$.{field}'), '')"
            for field in ("direction", "callStatus", "toNumber")
        },
    }  # fmt: skip


def _local_time(started_at: str | None, time_zone: str | None, form: str) -> str | None:
    if started_at is None:
        return None
    try:
        zone = ZoneInfo(time_zone or "UTC")
    except (ValueError, KeyError):
        zone = ZoneInfo("UTC")
    return datetime.fromisoformat(started_at).replace(tzinfo=UTC).astimezone(zone).strftime(form)


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

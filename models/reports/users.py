"""Who may see the operators' pages, and who may also act on them; what each of them looked at and did.

Beside these there is the user `ops`, whose password is OPS_PASSWORD and stands in no table.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Connection
from werkzeug.security import check_password_hash, generate_password_hash

from models.database import UtcDateTime, insert, metadata, moment

USER_OF_THE_ENVIRONMENT = "ops"
OPENED_AGAIN_SECONDS = 600.0


class Role(StrEnum):
    VIEWER = "viewer"
    """Sees the pages."""
    OPERATOR = "operator"
    """Also acts: sends again, pauses, settles."""


users_table = sa.Table(
    "users",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False, comment="viewer or operator"),
    sa.Column("password_hash", sa.Text, nullable=False, comment="scrypt, with its salt"),
    sa.Column("added_at", UtcDateTime, nullable=False),
    sa.Column("password_set_at", UtcDateTime, nullable=False, comment="sessions from before it have ended"),
    comment="who may sign in to the operators' pages",
)

audit_table = sa.Table(
    "audit",
    metadata,
    sa.Column("audit_id", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("by_user", sa.Text, nullable=False, comment="the name with which the person was signed in"),
    sa.Column("what", sa.Text, nullable=False, comment="signed_in, signed_out, call_opened, or an act"),
    sa.Column("location_id", sa.Text, nullable=True),
    sa.Column("subject", sa.Text, nullable=True, comment="the id of the call or follow-up"),
    sa.Index("ix_audit_at", "at"),
    comment="what people did on the operators' pages; no words of calls",
)


@dataclass(frozen=True)
class User:
    """Somebody who is signed in, or could be."""

    name: str
    role: Role
    added_at: datetime | None = None

    @property
    def may_act(self) -> bool:
        return self.role is Role.OPERATOR


@dataclass(frozen=True)
class Login:
    """A user and what proves it."""

    user: User
    password_hash: str
    password_set_at: datetime

    def has_password(self, password: str) -> bool:
        """Takes a tenth of a second of CPU and 32 MiB, on purpose."""
        return check_password_hash(self.password_hash, password)


_UNKNOWN = "scrypt:32768:8:1$nobody$" + "0" * 128


def check_for_nobody(password: str) -> None:
    """Takes as long as for a user who exists, so that the time taken reveals no names."""
    check_password_hash(_UNKNOWN, password)


def get(connection: Connection, name: str) -> Login | None:
    row = connection.execute(sa.select(users_table).where(users_table.c.name == name)).first()
    if row is None:
        return None
    return Login(User(row.name, Role(row.role), row.added_at), row.password_hash, row.password_set_at)


def every(connection: Connection) -> list[User]:
    rows = connection.execute(sa.select(users_table).order_by(users_table.c.name))
    return [User(row.name, Role(row.role), row.added_at) for row in rows]


def add(connection: Connection, name: str, role: Role, *, password: str) -> bool:
    """Returns False, and changes nothing, when there is a user of this name."""
    row = {"name": name, "role": role, "password_hash": generate_password_hash(password)}
    statement = insert(connection, users_table).values(**row, added_at=moment(), password_set_at=moment())
    return connection.execute(statement.on_conflict_do_nothing().returning(users_table.c.name)).first() is not None


def set_password(connection: Connection, name: str, password: str) -> bool:
    """Ends the user's sessions. Returns False when there is no such user."""
    values = {"password_hash": generate_password_hash(password), "password_set_at": moment()}
    return bool(connection.execute(sa.update(users_table).where(users_table.c.name == name).values(values)).rowcount)


def remove(connection: Connection, name: str) -> bool:
    return bool(connection.execute(sa.delete(users_table).where(users_table.c.name == name)).rowcount)


def write_audit(
    connection: Connection, by: User, what: str, *, location_id: str | None = None, subject: str | None = None
) -> None:
    row = {"by_user": by.name, "what": what, "location_id": location_id, "subject": subject}
    connection.execute(sa.insert(audit_table).values(**row, at=moment()))


def write_call_opened(connection: Connection, by: User, location_id: str, call_id: str) -> None:
    """Once in OPENED_AGAIN_SECONDS: a page that is open renews itself every few seconds."""
    table = audit_table.c
    lately = sa.select(sa.literal(1)).where(
        table.at > moment(-OPENED_AGAIN_SECONDS), table.by_user == by.name, table.what == "call_opened",
        table.location_id == location_id, table.subject == call_id,
    )  # fmt: skip
    if connection.execute(lately.limit(1)).first() is None:
        write_audit(connection, by, "call_opened", location_id=location_id, subject=call_id)


@dataclass(frozen=True)
class Audited:
    """A row of `audit`."""

    audit_id: int
    at: datetime
    by_user: str
    what: str
    location_id: str | None
    subject: str | None


def audited(
    connection: Connection, *, limit: int, by_user: str | None = None, before: int | None = None
) -> list[Audited]:
    """The newest first, those before the row `before`; of one user, or of all."""
    query = sa.select(audit_table).order_by(audit_table.c.audit_id.desc()).limit(limit)
    if by_user is not None:
        query = query.where(audit_table.c.by_user == by_user)
    if before is not None:
        query = query.where(audit_table.c.audit_id < before)
    return [Audited(**row._asdict()) for row in connection.execute(query)]

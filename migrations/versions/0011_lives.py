"""the lives of the database, and the clocks of its processes

New things only: code from before it may run beside it. Until the workers of this release run alone, a new life of the
database is not heeded by the others.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0007"
branch_labels = None
depends_on = None

CAUSES = "created, fences_behind, another_server, not_known_outside, person"


def upgrade() -> None:
    op.create_table(
        "lives",
        sa.Column(
            "number", sa.BigInteger(), autoincrement=False, nullable=False, comment="the greatest is the present one"
        ),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False, comment=CAUSES),
        sa.Column(
            "database_id", sa.Text(), nullable=False, comment="names this database outside of it; copies keep it"
        ),
        sa.Column(
            "server", sa.Text(), nullable=True, comment="PostgreSQL's system identifier and timeline, where it tells"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_lives")),
    )
    op.execute(
        sa.text(f"INSERT INTO lives VALUES (0, {_now()}, 'created', :database_id, NULL)").bindparams(
            database_id=secrets.token_hex(8)
        )
    )
    op.add_column(
        "follow_ups",
        sa.Column(
            "life", sa.BigInteger(), server_default="0", nullable=False,
            comment="of the database: what earlier ones may have written and forgotten is looked for since",
        ),
    )  # fmt: skip
    op.add_column(
        "heartbeats",
        sa.Column(
            "clock_offset", sa.Float(), nullable=True,
            comment="seconds by which the process's clock is ahead of the database's",
        ),
    )  # fmt: skip
    op.add_column(
        "heartbeats",
        sa.Column("queues", sa.Text(), nullable=True, comment="of Redis, from which a worker takes messages now"),
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER SEQUENCE fence_numbers NO MAXVALUE")


def downgrade() -> None:
    if op.get_bind().execute(sa.text("SELECT max(number) FROM lives")).scalar_one():
        raise RuntimeError("the database is in a later life, which the code from before does not know")
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER SEQUENCE fence_numbers MAXVALUE {2**40 - 1}")
    with op.batch_alter_table("heartbeats") as batch:
        batch.drop_column("queues")
        batch.drop_column("clock_offset")
    with op.batch_alter_table("follow_ups") as batch:
        batch.drop_column("life")
    op.drop_table("lives")


def _now() -> str:
    return "now()" if op.get_context().dialect.name == "postgresql" else "strftime('%Y-%m-%d %H:%M:%f000', 'now')"

"""the Redis of each worker, so that two deployments on one database are told

A column that the older code neither reads nor writes: safe while it still runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("heartbeats", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("redis_epoch", sa.Text(), nullable=True, comment="of the Redis that a worker enqueues into")
        )


def downgrade() -> None:
    with op.batch_alter_table("heartbeats", schema=None) as batch_op:
        batch_op.drop_column("redis_epoch")

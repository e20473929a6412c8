"""an index of the calls of a local day, which the view of coverage counts

Only an index: code from before it may run beside it.
"""

from migrations import indexes

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    indexes.create_concurrently("ix_calls_local_day", "calls", ["location_id", "local_day"])


def downgrade() -> None:
    indexes.drop_concurrently("ix_calls_local_day", "calls")

"""${message}

Before merging: does it run while the old code still works (add, then fill, then require, in three releases)?
Is every index on a large table built without blocking writes? Does downgrade() undo it on both databases?
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}

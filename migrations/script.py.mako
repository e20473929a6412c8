<%
    def body(operations):
        lines = [line for line in (operations or "").splitlines() if not line.strip().startswith("# ###")]
        return "\n".join(lines).strip() or "pass"

    up, down = body(upgrades), body(downgrades)
%>\
"""${message}

Answer before merging, then delete the questions:
- Does it run while the old code still works (add, fill, require, in three releases)? If not: `NEEDS_A_STOP = True`.
- Does it build an index of a table that grows? `migrations.indexes.create_concurrently`, alone in its migration.
- May one statement take longer than 30 s on the largest table? `statement_timeout_seconds = 600` above `upgrade`.
- Does a statement hold ACCESS EXCLUSIVE for longer than 0.2 s (rewrite, validate, SET NOT NULL)? Receipts wait for it.
- Does it lock several tables? First one `LOCK TABLE a, b, c IN ACCESS EXCLUSIVE MODE` (PostgreSQL), the busiest last.
- Does it change a comment alone? On PostgreSQL only: SQLite keeps none, and would copy the whole table.
- Does downgrade() undo it, on both databases?
"""

% if "sa." in up + down or up == "pass":
import sqlalchemy as sa
% endif
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${up}


def downgrade() -> None:
    ${down}

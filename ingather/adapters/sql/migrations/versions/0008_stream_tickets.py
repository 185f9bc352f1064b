"""Stream tickets that were opened, until they expire."""

import sqlalchemy as sa
from alembic import op

from ingather.adapters.sql.types import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "opened_tickets",
        sa.Column("ticket_id", sa.Text(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("ticket_id", name="pk_opened_tickets"),
    )
    op.create_index("ix_opened_tickets_expires_at", "opened_tickets", ["expires_at"])

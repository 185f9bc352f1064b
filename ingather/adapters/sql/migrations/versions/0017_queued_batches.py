"""When a batch that waits for its start or its seal was let go."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("queued_at", sa.DateTime(timezone=True)))

"""Uploads are found by the batch they are going to be, and chunks by when they were counted."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_uploads_batch_id", "uploads", ["batch_id"])
    op.add_column("upload_pieces", sa.Column("number", sa.Integer()))

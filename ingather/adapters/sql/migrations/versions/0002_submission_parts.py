"""Submissions in parts, and when a batch was sealed."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# What was handed in for batches from before there were parts: one object each, sealed from the start.
ONE_OBJECT_EACH = """
    INSERT INTO submission_parts (batch_id, number, part_id, key, document_count, size_bytes, created_at)
    SELECT batch_id, 0, batch_id, 'batches/' || tenant_id || '/' || batch_id || '/submission.jsonl', 0, 0, created_at
    FROM batches
"""


def upgrade() -> None:
    op.create_table(
        "submission_parts",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("part_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("document_count", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("created_at", _moment(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "number", name="pk_submission_parts"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.batch_id"], name="fk_submission_parts_batch_id"),
    )
    op.create_index("uq_submission_parts_batch_id_part_id", "submission_parts", ["batch_id", "part_id"], unique=True)
    op.add_column("batches", sa.Column("sealed_at", _moment()))
    op.execute(ONE_OBJECT_EACH)
    op.execute("UPDATE batches SET sealed_at = created_at")


def _moment() -> sa.types.TypeEngine[datetime]:
    return sa.DateTime(timezone=True)

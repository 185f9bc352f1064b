"""Who created a batch, how it ended and what its documents came from, in columns that can be added up."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

FILL = {
    "sqlite": (
        (
            "UPDATE batches SET created_by = COALESCE(json_extract(spec, '$.created_by'), 'anonymous'), "
            "done_count = COALESCE(json_extract(counts, '$.done'), 0), "
            "failed_count = COALESCE(json_extract(counts, '$.failed'), 0), "
            "skipped_count = COALESCE(json_extract(counts, '$.skipped'), 0), "
            "ran_ms = CAST(ROUND((julianday(ended_at) - julianday(started_at)) * 86400000) AS INTEGER)"
        ),
        (
            "INSERT INTO batch_sources (tenant_id, contract, created_by, batch_id, source_type, document_count) "
            "SELECT tenant_id, contract, created_by, batch_id, json_extract(value, '$.source_type'), "
            "SUM(json_extract(value, '$.counts.total')) "
            "FROM batches, json_each(batches.sources) GROUP BY 1, 2, 3, 4, 5"
        ),
    ),
    "postgresql": (
        (
            "UPDATE batches SET created_by = COALESCE(spec ->> 'created_by', 'anonymous'), "
            "done_count = COALESCE((counts ->> 'done')::bigint, 0), "
            "failed_count = COALESCE((counts ->> 'failed')::bigint, 0), "
            "skipped_count = COALESCE((counts ->> 'skipped')::bigint, 0), "
            "ran_ms = (EXTRACT(EPOCH FROM ended_at - started_at) * 1000)::bigint"
        ),
        (
            "INSERT INTO batch_sources (tenant_id, contract, created_by, batch_id, source_type, document_count) "
            "SELECT tenant_id, contract, created_by, batch_id, source ->> 'source_type', "
            "SUM((source -> 'counts' ->> 'total')::bigint) "
            "FROM batches, jsonb_array_elements(batches.sources) AS source GROUP BY 1, 2, 3, 4, 5"
        ),
    ),
}


def upgrade() -> None:
    op.add_column("batches", sa.Column("created_by", sa.Text(), nullable=False, server_default="anonymous"))
    for name in ("done_count", "failed_count", "skipped_count"):
        op.add_column("batches", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("batches", sa.Column("ran_ms", sa.BigInteger()))
    op.create_table(
        "batch_sources",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("source_type", sa.Text(), nullable=False),
        sa.Column("document_count", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("contract", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "source_type", name="pk_batch_sources"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.batch_id"], name="fk_batch_sources_batch_id"),
    )
    for statement in FILL[op.get_bind().dialect.name]:
        op.execute(statement)
    op.create_index("ix_batches_tenant_id_contract_ended_at", "batches", ["tenant_id", "contract", "ended_at"])
    is_open = sa.text("state NOT IN ('cancelled', 'completed', 'completed_with_failures', 'failed')")
    op.create_index(
        "ix_batches_open",
        "batches",
        ["tenant_id", "contract", "created_at", "batch_id"],
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    of_a_user = ["tenant_id", "contract", "created_by"]
    op.create_index("ix_batches_of_a_user", "batches", [*of_a_user, "created_at", "batch_id"])
    sums = ["state", "priority", "done_count", "failed_count", "skipped_count", "ran_ms", "batch_id"]
    op.create_index("ix_batch_sources_sums", "batch_sources", [*of_a_user, "source_type", "document_count"])
    op.create_index("ix_batches_sums", "batches", [*of_a_user, *sums])

"""Tenants, batches, documents, event numbers."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_tenants()
    _create_batches()
    _create_documents()
    op.create_table(
        "event_numbers",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", name="pk_event_numbers"),
    )


def _json() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(JSONB(), "postgresql")


def _moment() -> sa.types.TypeEngine[datetime]:
    return sa.DateTime(timezone=True)


def _create_tenants() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", _moment(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenants"),
    )
    # The tenant of everybody who names none.
    default = {
        "tenant_id": "00000000-0000-7000-8000-000000000001",
        "name": "default",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    op.bulk_insert(tenants, [default])


def _create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("collection", sa.Text(), nullable=False),
        sa.Column("spec", _json(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("counts", _json(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("failures_by_code", _json(), nullable=False),
        sa.Column("sources", _json(), nullable=False),
        sa.Column("retry_round", sa.Integer(), nullable=False),
        sa.Column("problem", _json()),
        sa.Column("request_fingerprint", sa.Text()),
        sa.Column("report_key", sa.Text()),
        sa.Column("created_at", _moment(), nullable=False),
        sa.Column("started_at", _moment()),
        sa.Column("ended_at", _moment()),
        sa.PrimaryKeyConstraint("batch_id", name="pk_batches"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="fk_batches_tenant_id"),
    )
    op.create_index("ix_batches_tenant_id_created_at_batch_id", "batches", ["tenant_id", "created_at", "batch_id"])


def _create_documents() -> None:
    op.create_table(
        "documents",
        sa.Column("file_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("original_filename", sa.Text()),
        sa.Column("collection", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", _json()),
        sa.Column("error_code", sa.Text()),
        sa.Column("sha256", sa.Text()),
        sa.Column("size_bytes", sa.BigInteger()),
        sa.Column("media_type", sa.Text()),
        sa.Column("page_count", sa.BigInteger()),
        sa.Column("chunk_count", sa.BigInteger()),
        sa.Column("quality", sa.Float()),
        sa.Column("warnings", _json(), nullable=False),
        sa.Column("metadata", _json(), nullable=False),
        sa.Column("timings_ms", _json(), nullable=False),
        sa.Column("raw_key", sa.Text()),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("duplicate_of", sa.Text()),
        sa.Column("started_at", _moment()),
        sa.Column("ended_at", _moment()),
        sa.Column("indexed_at", _moment()),
        sa.PrimaryKeyConstraint("file_id", name="pk_documents"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.batch_id"], name="fk_documents_batch_id"),
    )
    op.create_index("uq_documents_batch_id_ordinal", "documents", ["batch_id", "ordinal"], unique=True)
    op.create_index(
        "ix_documents_batch_id_status_error_code", "documents", ["batch_id", "status", "error_code", "ordinal"]
    )
    done = sa.text("status = 'done'")
    op.create_index(
        "ix_documents_ingested",
        "documents",
        ["tenant_id", "sha256", "fingerprint"],
        sqlite_where=done,
        postgresql_where=done,
    )

"""Webhooks: endpoints, and a log of what was sent to them."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("event_types", _json(), nullable=False),
        sa.Column("batch_id", sa.Text()),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("previous_until", _moment()),
        sa.Column("disabled_reason", sa.Text()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", _moment(), nullable=False),
        sa.PrimaryKeyConstraint("webhook_id", name="pk_webhooks"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="fk_webhooks_tenant_id"),
    )
    op.create_index(
        "ix_webhooks_tenant_id_batch_id_created_at_webhook_id",
        "webhooks",
        ["tenant_id", "batch_id", "created_at", "webhook_id"],
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text()),
        sa.Column("payload", _json(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", _json(), nullable=False),
        sa.Column("next_attempt_at", _moment()),
        sa.Column("redelivery_of", sa.Text()),
        sa.Column("created_at", _moment(), nullable=False),
        sa.Column("ended_at", _moment()),
        sa.PrimaryKeyConstraint("delivery_id", name="pk_webhook_deliveries"),
    )
    op.create_index(
        "ix_webhook_deliveries_webhook_id_created_at_delivery_id",
        "webhook_deliveries",
        ["webhook_id", "created_at", "delivery_id"],
    )


def _json() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(JSONB(), "postgresql")


def _moment() -> sa.types.TypeEngine[datetime]:
    return sa.DateTime(timezone=True)

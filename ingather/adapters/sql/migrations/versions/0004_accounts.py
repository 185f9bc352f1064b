"""What a tenant has set; users; API keys."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("pipeline", sa.Text(), nullable=False, server_default="ingest"))
    op.add_column("tenants", sa.Column("default_metadata", _json(), nullable=False, server_default="{}"))
    op.add_column("tenants", sa.Column("metadata_schema", _json()))
    op.add_column("tenants", sa.Column("collection_schemas", _json(), nullable=False, server_default="{}"))
    op.add_column("tenants", sa.Column("limits", _json(), nullable=False, server_default="{}"))
    op.add_column("tenants", sa.Column("fairness_weight", sa.Float(), nullable=False, server_default="1.0"))
    op.add_column("tenants", sa.Column("deleted_at", _moment()))
    _create_users()
    _create_api_keys()


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("scopes", _json(), nullable=False),
        sa.Column("created_at", _moment(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_users"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="fk_users_tenant_id"),
    )
    op.create_index("uq_users_username", "users", ["username"], unique=True)


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("username", sa.Text()),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("scopes", _json(), nullable=False),
        sa.Column("created_at", _moment(), nullable=False),
        sa.Column("expires_at", _moment()),
        sa.Column("last_used_at", _moment()),
        sa.Column("revoked_at", _moment()),
        sa.Column("rotated_from", sa.Text()),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="fk_api_keys_tenant_id"),
    )
    op.create_index("ix_api_keys_tenant_id", "api_keys", ["tenant_id"])


def _json() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(JSONB(), "postgresql")


def _moment() -> sa.types.TypeEngine[datetime]:
    return sa.DateTime(timezone=True)

"""Who did what: rows that are only ever added, which the database itself insists on."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NO_DOCUMENT = "resource_type <> 'document'"
_REFUSAL = "audit events are never changed and never removed"


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("resource_type", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("details", _json(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("timestamp", _moment(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_audit_events"),
    )
    by_time = ["tenant_id", "timestamp", "event_id"]
    op.create_index("ix_audit_events_tenant_id_timestamp_event_id", "audit_events", by_time)
    _create_small_index("ix_audit_events_no_documents", by_time)
    _create_small_index("ix_audit_events_by_resource", ["resource_id", "timestamp", "event_id"])
    _refuse_changes()


def _create_small_index(name: str, columns: list[str]) -> None:
    only = sa.text(_NO_DOCUMENT)
    op.create_index(name, "audit_events", columns, sqlite_where=only, postgresql_where=only)


def _refuse_changes() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_events_no_{change.lower()} BEFORE {change} ON audit_events "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        )


def _json() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(JSONB(), "postgresql")


def _moment() -> sa.types.TypeEngine[datetime]:
    return sa.DateTime(timezone=True)

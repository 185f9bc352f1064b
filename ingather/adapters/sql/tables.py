"""The catalog's tables. A change here needs a migration beside it; a test compares the two."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    false,
    text,
)

from ingather.adapters.sql.types import ForeignText, Json, UtcDateTime

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

tenants: Final = Table(
    "tenants",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("name", ForeignText, nullable=False),
    Column("pipeline", Text, nullable=False, server_default="ingest"),
    Column("default_metadata", Json, nullable=False, server_default="{}"),
    Column("metadata_schema", Json),
    Column("collection_schemas", Json, nullable=False, server_default="{}"),
    Column("limits", Json, nullable=False, server_default="{}"),
    Column("fairness_weight", Float, nullable=False, server_default="1.0"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),  # the row stays: batches refer to it, and its id is never used again
)

users: Final = Table(
    "users",
    metadata,
    Column("user_id", ForeignText, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.tenant_id"), nullable=False),
    Column("username", ForeignText, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("password_changed_at", UtcDateTime),
    Index("uq_users_username", "username", unique=True),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("key_id", ForeignText, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.tenant_id"), nullable=False),
    Column("name", ForeignText, nullable=False),
    Column("username", ForeignText),
    Column("key_hash", Text, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("rotated_from", Text),
    Column("fingerprint", Text),
    Index(None, "tenant_id"),
    Index("uq_api_keys_rotated_from", "rotated_from", unique=True),  # a line of rotated keys never forks
)

opened_tickets: Final = Table(
    "opened_tickets",
    metadata,
    # Those of event streams; one that was never opened is nowhere.
    Column("ticket_id", Text, primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "expires_at"),
)

sessions: Final = Table(
    "sessions",
    metadata,
    Column("secret_hash", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("credential_id", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "expires_at"),
)

connections: Final = Table(
    "connections",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.tenant_id"), primary_key=True),
    Column("connection_id", ForeignText, primary_key=True),
    Column("source_type", Text, nullable=False),
    Column("settings", Json, nullable=False),
    Column("sealed", Text),
    Column("secret_names", Json, nullable=False),
    Column("created_by", ForeignText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

webhooks: Final = Table(
    "webhooks",
    metadata,
    Column("webhook_id", ForeignText, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.tenant_id"), nullable=False),
    Column("url", ForeignText, nullable=False),
    Column("description", ForeignText, nullable=False),
    Column("event_types", Json, nullable=False),
    # No foreign key: it is named before its batch is on record.
    Column("batch_id", ForeignText),
    Column("sealed", Text, nullable=False),
    Column("previous_until", UtcDateTime),
    Column("disabled_reason", Text),
    Column("version", Integer, nullable=False),
    Column("created_by", ForeignText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "tenant_id", "batch_id", "created_at", "webhook_id"),
)

webhook_deliveries: Final = Table(
    "webhook_deliveries",
    metadata,
    Column("delivery_id", ForeignText, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    # No foreign key: an endpoint may be deleted while something is on its way to it.
    Column("webhook_id", ForeignText, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event_type", ForeignText, nullable=False),
    Column("batch_id", Text),
    Column("payload", Json, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Json, nullable=False),
    Column("next_attempt_at", UtcDateTime),
    Column("redelivery_of", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index(None, "webhook_id", "created_at", "delivery_id"),
)

uploads: Final = Table(
    "uploads",
    metadata,
    Column("upload_id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.tenant_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_by", ForeignText, nullable=False),
    Column("state", Text, nullable=False),
    Column("filename", ForeignText, nullable=False),
    Column("batch_id", Text),  # no foreign key: given out before there is such a batch
    Column("total_chunks", Integer),
    Column("length", BigInteger),
    Column("chunk_bytes", BigInteger, nullable=False),
    Column("first_sha256", Text),
    Column("received_count", Integer, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Column("tail_key", Text),
    Column("tail_bytes", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("multipart_id", Text),
    Column("whole_key", Text),
    Column("sha256", Text),
    Column("details", Json, nullable=False),
    Column("used_by", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("stored_at", UtcDateTime),
    Index("ix_uploads_first", "tenant_id", "first_sha256", "created_at"),  # a first chunk that was sent again
    Index(None, "expires_at"),
    Index(None, "batch_id"),
)

upload_pieces: Final = Table(
    "upload_pieces",
    metadata,
    Column("upload_id", Text, ForeignKey("uploads.upload_id"), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text),
    Column("key", Text),
    Column("etag", Text),
    Column("number", Integer),
)

batches: Final = Table(
    "batches",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.tenant_id"), nullable=False),
    Column("collection", ForeignText, nullable=False),  # also in the spec; here to filter by
    Column("contract", Text, nullable=False, server_default="v1"),  # the same
    Column("created_by", ForeignText, nullable=False, server_default="anonymous"),  # the same
    Column("spec", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("counts", Json, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("name", ForeignText, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("failures_by_code", Json, nullable=False),
    Column("sources", Json, nullable=False),
    Column("retry_round", Integer, nullable=False),
    Column("problem", Json),
    Column("request_fingerprint", Text),
    Column("report_key", Text),
    Column("sealed_at", UtcDateTime),
    Column("is_told", Boolean, nullable=False, server_default=false()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("queued_at", UtcDateTime),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    # Also in the counts and times; here, with the batch's end, to be added up.
    Column("done_count", BigInteger, nullable=False, server_default="0"),
    Column("failed_count", BigInteger, nullable=False, server_default="0"),
    Column("skipped_count", BigInteger, nullable=False, server_default="0"),
    Column("ran_ms", BigInteger),
    Index(None, "tenant_id", "created_at", "batch_id"),  # newest first, by keyset: read backwards
    Index(None, "tenant_id", "contract", "ended_at"),  # those that have just ended: asked for every second
    Index("ix_batches_of_a_user", "tenant_id", "contract", "created_by", "created_at", "batch_id"),
    # All that sums need: the rows themselves, some kilobytes each, are not read.
    Index(
        "ix_batches_sums",
        "tenant_id",
        "contract",
        "created_by",
        "state",
        "priority",
        "done_count",
        "failed_count",
        "skipped_count",
        "ran_ms",
        "batch_id",
    ),
    Index(None, "contract", "is_told"),  # those that somebody has to be told of: few, asked for all the time
)

batch_sources: Final = Table(
    "batch_sources",
    metadata,
    Column("batch_id", Text, ForeignKey("batches.batch_id"), primary_key=True),
    Column("source_type", ForeignText, primary_key=True),
    Column("document_count", BigInteger, nullable=False),  # also in the batch's sources; here to be added up
    Column("tenant_id", Text, nullable=False),  # the batch's own, as the two that follow: sums need no other table
    Column("contract", Text, nullable=False),
    Column("created_by", ForeignText, nullable=False),
    Index("ix_batch_sources_sums", "tenant_id", "contract", "created_by", "source_type", "document_count"),
)

OPEN: Final = text("state NOT IN ('cancelled', 'completed', 'completed_with_failures', 'failed')")
"""Spelt out, because a partial index is used only where the query shows its condition."""
Index(
    "ix_batches_open",
    batches.c.tenant_id,
    batches.c.contract,
    batches.c.created_at,
    batches.c.batch_id,
    sqlite_where=OPEN,
    postgresql_where=OPEN,
)

submission_parts: Final = Table(
    "submission_parts",
    metadata,
    Column("batch_id", Text, ForeignKey("batches.batch_id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("part_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("document_count", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("fingerprint", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Index("uq_submission_parts_batch_id_part_id", "batch_id", "part_id", unique=True),
)

documents: Final = Table(
    "documents",
    metadata,
    Column("file_id", ForeignText, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("batch_id", Text, ForeignKey("batches.batch_id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("filename", ForeignText, nullable=False),
    Column("original_filename", ForeignText),
    Column("collection", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Json),
    Column("error_code", ForeignText),  # also in the error; here to filter by
    Column("sha256", Text),
    Column("size_bytes", BigInteger),
    Column("media_type", ForeignText),
    Column("page_count", BigInteger),
    Column("chunk_count", BigInteger),
    Column("quality", Float),
    Column("warnings", Json, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("timings_ms", Json, nullable=False),
    Column("raw_key", Text),
    Column("raw_offset", BigInteger, nullable=False, server_default="0"),
    Column("source", Json),
    Column("fingerprint", Text),
    Column("artifact_key", Text),
    Column("artifact_offset", BigInteger, nullable=False, server_default="0"),
    Column("artifact_bytes", BigInteger),
    Column("duplicate_of", Text),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("indexed_at", UtcDateTime),
    Index("uq_documents_batch_id_ordinal", "batch_id", "ordinal", unique=True),
    Index("ix_documents_batch_id_status_error_code", "batch_id", "status", "error_code", "ordinal"),
)

# Answers "was this content ingested before?" once for every document, so it holds only rows that can say yes.
Index(
    "ix_documents_ingested",
    documents.c.tenant_id,
    documents.c.sha256,
    documents.c.fingerprint,
    sqlite_where=documents.c.status == "done",
    postgresql_where=documents.c.status == "done",
)

event_numbers: Final = Table(
    "event_numbers",
    metadata,
    # No foreign key: numbers once used stay used, whatever becomes of the batch.
    Column("batch_id", Text, primary_key=True),
    Column("reserved", BigInteger, nullable=False),
)

audit_events: Final = Table(
    "audit_events",
    metadata,
    # No foreign keys: an event outlives what it tells of.
    Column("event_id", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("event_type", ForeignText, nullable=False),
    Column("resource_type", ForeignText, nullable=False),
    Column("resource_id", ForeignText, nullable=False),
    Column("details", Json, nullable=False),
    Column("actor", ForeignText, nullable=False),
    Column("timestamp", UtcDateTime, nullable=False),
    Index(None, "tenant_id", "timestamp", "event_id"),  # newest first, by keyset: read backwards
)

# Documents are all but a few of the rows, and each is one more to write: these two hold only the few.
Index(
    "ix_audit_events_no_documents",
    audit_events.c.tenant_id,
    audit_events.c.timestamp,
    audit_events.c.event_id,
    sqlite_where=audit_events.c.resource_type != "document",
    postgresql_where=audit_events.c.resource_type != "document",
)
Index(
    "ix_audit_events_by_resource",
    audit_events.c.resource_id,
    audit_events.c.timestamp,
    audit_events.c.event_id,
    sqlite_where=audit_events.c.resource_type != "document",
    postgresql_where=audit_events.c.resource_type != "document",
)

sheets: Final = Table(
    "sheets",
    metadata,
    Column("file_id", Text, primary_key=True),
    Column("batch_id", Text, ForeignKey("batches.batch_id"), nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("filename", ForeignText, nullable=False),
    Column("original_filename", ForeignText),
    Column("group_code", ForeignText),
    Column("status", Text, nullable=False),
    Column("error_code", Text),
    Column("error_message", ForeignText),
    Column("sha256", Text),
    Column("size_bytes", BigInteger),
    Column("media_type", Text),
    Column("width", Integer),
    Column("height", Integer),
    Column("page_count", Integer),
    Column("codes", Json, nullable=False),
    Column("picture_duplicate_of", Text),
    Column("text", ForeignText),
    Column("version", Integer, nullable=False),  # of the batch's end that the row tells of
    Index("uq_sheets_batch_id_ordinal", "batch_id", "ordinal", unique=True),
)
"""What a batch of scanned sheets came to."""

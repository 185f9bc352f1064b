"""Records for catalog tests; only what matters to a test is named."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from ingather.models.batch import BatchRecord, BatchSpec, BatchState, Counts, SubmissionPart
from ingather.models.document import DocumentRecord
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.upload import Upload, UploadKind

NOON = datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=UTC)
SHA = "ab" * 32


def batch_record(**changes: Any) -> BatchRecord:
    batch_id = changes.pop("batch_id", None) or str(uuid.uuid4())
    tenant_id = changes.pop("tenant_id", DEFAULT_TENANT_ID)
    said = {name: changes.pop(name) for name in ("collection", "contract", "created_by") if name in changes}
    spec = BatchSpec(batch_id=batch_id, tenant_id=tenant_id, name="Invoices", submitted_count=3, **said)
    given = {"state": BatchState.QUEUED, "counts": Counts(), "name": "Invoices", "created_at": NOON} | changes
    return BatchRecord(batch_id=batch_id, tenant_id=tenant_id, spec=spec, **given)


def chunked(**facts: Any) -> Upload:
    """An upload in chunks, none of which has come."""
    given = {
        "upload_id": str(uuid.uuid4()),
        "tenant_id": DEFAULT_TENANT_ID,
        "kind": UploadKind.CHUNKS,
        "created_by": "zoë",
        "filename": "forms.zip",
        "batch_id": str(uuid.uuid4()),
        "total_chunks": 4,
        "key": "uploads/whole",
        "multipart_id": "m-1",
        "details": {"upload_type": "zip_with_qr"},
        "created_at": NOON,
        "changed_at": NOON,
        "expires_at": NOON + timedelta(hours=24),
    }
    return Upload.model_validate(given | facts)


def submission_part(batch_id: str, **changes: Any) -> SubmissionPart:
    part_id = changes.pop("part_id", "p")
    given = {"key": f"objects/{part_id}", "document_count": 10, "size_bytes": 1_000, "created_at": NOON}
    return SubmissionPart(batch_id=batch_id, part_id=part_id, **given | changes)


def document_record(batch_id: str, ordinal: int = 0, **changes: Any) -> DocumentRecord:
    given = {
        "file_id": file_id_for(batch_id, ordinal),
        "tenant_id": DEFAULT_TENANT_ID,
        "filename": f"file-{ordinal}.txt",
        "collection": "default",
    }
    return DocumentRecord(batch_id=batch_id, ordinal=ordinal, **given | changes)


def done_record(batch_id: str, ordinal: int = 0, **changes: Any) -> DocumentRecord:
    given = {"status": "done", "sha256": SHA, "fingerprint": "f1", "ended_at": NOON, "chunk_count": 3, "attempts": 1}
    return document_record(batch_id, ordinal, **given | changes)

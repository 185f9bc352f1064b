"""A batch whose documents stand everywhere, for whoever lists or shows them."""

from datetime import UTC, datetime

from ingather.models.batch import BatchProgress, BatchState, Counts
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.messages import DocumentHeartbeat
from tests.support.api import ApiInProcess


def row(batch_id: str, ordinal: int, status: DocumentStatus = DocumentStatus.PENDING, **changes) -> DocumentRecord:
    """The catalog's line of a document."""
    return DocumentRecord(
        file_id=file_id_for(batch_id, ordinal),
        tenant_id=DEFAULT_TENANT_ID,
        batch_id=batch_id,
        ordinal=ordinal,
        filename=f"{ordinal}.pdf",
        collection="default",
        status=status,
        **changes,
    )


async def batch_of_five(api: ApiInProcess) -> str:
    """done, failed, two in flight by the engine's word, pending."""
    batch = await api.submit(documents=[{"filename": "a", "content": "YQ=="}] * 5)
    failure = DocumentFailure(code="encrypted", message="It is locked.", stage=Stage.PARSING, action="Unlock it.")
    await api.catalog.add_documents(
        [
            row(batch["id"], 0, DocumentStatus.DONE, page_count=3, chunk_count=9),
            row(batch["id"], 1, DocumentStatus.FAILED, error=failure),
            *(row(batch["id"], ordinal) for ordinal in (2, 3, 4)),
        ]
    )
    api.engine.open[batch["id"]] = BatchProgress(
        state=BatchState.RUNNING, counts=Counts(total=5, done=1, failed=1, in_flight=2, pending=1), in_flight=(2, 3)
    )
    api.engine.beats[2] = DocumentHeartbeat(stage=Stage.EMBEDDING, filename="2.pdf", started_at=datetime.now(UTC))
    return batch["id"]

"""Content that was ingested before: when it makes another document superfluous, and when its result is borrowed."""

from collections.abc import Iterable

from activities.ingestion import Ingestion
from ingather.domain.stored import StoredBytes, artifact_of
from ingather.models.content import PreparedDocument
from ingather.models.document import DocumentRecord
from ingather.models.errors import ArtifactUnreadableError, BlobNotFoundError
from ingather.models.messages import IngestDocumentInput
from ingather.ports.blob_store import BlobStore
from ingather.ports.document_preparer import DocumentPreparer


async def take_over(
    ingestion: Ingestion, found: Iterable[DocumentRecord], blobs: BlobStore, preparer: DocumentPreparer
) -> bool:
    """Skip content this collection has; borrow the result where another collection has it. False where neither."""
    threshold = ingestion.request.options.quality_threshold
    earlier = [record for record in found if record.file_id != ingestion.file_id and is_good_enough(record, threshold)]
    if earlier and ingestion.is_repeat:
        # What was borrowed before may be what is missing, or damaged.
        earlier = await _with_artifact(earlier, blobs, preparer)
    here = next((record for record in earlier if _is_searchable(record, ingestion.request)), None)
    if here is not None:
        ingestion.skip(here)
    elif earlier:
        ingestion.borrow(earlier[0])
    return bool(earlier)


def is_good_enough(found: DocumentRecord | PreparedDocument, threshold: float) -> bool:
    """A document without text is never refused for its quality."""
    return found.chunk_count == 0 or (found.quality or 0.0) >= threshold


async def _with_artifact(
    records: Iterable[DocumentRecord], blobs: BlobStore, preparer: DocumentPreparer
) -> list[DocumentRecord]:
    is_sound: dict[StoredBytes, bool] = {}
    kept = []
    for record in records:
        artifact = artifact_of(record)
        if artifact is None:
            continue
        if artifact not in is_sound:
            is_sound[artifact] = await _is_sound(artifact, blobs, preparer)
        if is_sound[artifact]:
            kept.append(record)
    return kept


async def _is_sound(artifact: StoredBytes, blobs: BlobStore, preparer: DocumentPreparer) -> bool:
    try:
        stored = await blobs.get(artifact.key, offset=artifact.offset, size=artifact.size_bytes)
        return preparer.restore(stored).embedded
    except (ArtifactUnreadableError, BlobNotFoundError):
        return False


def _is_searchable(record: DocumentRecord, request: IngestDocumentInput) -> bool:
    """Whether a done document makes another one with its content superfluous.

    Its own batch will index it, or fail it. One of another batch counts only once it is indexed:
    that batch may have been ended before.
    """
    here = record.collection == request.collection
    return here and (record.indexed_at is not None or record.batch_id == request.batch_id)

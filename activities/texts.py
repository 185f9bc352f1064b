"""One text: read, answered by the language model or out of the cache, its answer kept.

Idempotent by what is asked: an answer lies under the tenant and a hash of processor, operation, options and text, so
that another attempt, another batch and a retry find it there. Neither text nor answer leaves the object storage: the
workflow hears how it ended, the catalog where the answer lies.
"""

from datetime import UTC, datetime

import structlog
from pydantic import ValidationError
from temporalio import activity

from activities.attempts import failure_of, to_its_end
from activities.failures import translate_errors_and_give_up
from activities.heartbeats import StageHeartbeat
from activities.ingestion import Ingestion, fetch_content, log_end, log_start, output_of
from activities.manifest import ManifestReader
from ingather.domain.keys import text_result_key
from ingather.domain.stored import StoredBytes
from ingather.domain.texts import text_digest
from ingather.models.content import Stage
from ingather.models.errors import BlobNotFoundError, ContentInvalidError
from ingather.models.messages import IngestDocumentInput, IngestDocumentOutput
from ingather.models.text import TextResult, TextTask
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.text_processor import TextProcessor

log = structlog.get_logger(__name__)


class TextActivities:
    def __init__(self, blobs: BlobStore, catalog: Catalog, processor: TextProcessor, manifest: ManifestReader) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._processor = processor
        self._manifest = manifest

    @activity.defn(name="process_text")
    @translate_errors_and_give_up
    async def process_text(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        """Answer one text. That it cannot be answered is an answer; only what another attempt may cure raises."""
        async with StageHeartbeat().beating() as heartbeat:
            document = await self._manifest.document(request.tenant_id, request.batch_id, request.ordinal)
            heartbeat.filename = document.filename
            ingestion = Ingestion(request, document, activity.info().attempt, None, heartbeat.enter)
            log_start(ingestion)
            failure = document.refused or await failure_of(ingestion, self._process(ingestion))
            if failure is not None:
                ingestion.fail(failure)
            record = ingestion.record()
            await to_its_end(self._catalog.save_outcome(record))
        log_end(record)
        return output_of(record)

    async def _process(self, ingestion: Ingestion) -> None:
        ingestion.enter(Stage.FETCHING)
        content = await fetch_content(ingestion, self._blobs)
        # It stays where it came in: a retry needs it there.
        ingestion.raw = ingestion.upload
        task = _task_of(content)
        ingestion.enter(Stage.ANSWERING)
        key = text_result_key(ingestion.request.tenant_id, text_digest(self._processor.identity, task))
        result = await self._kept(key) or await self._answered(key, task, ingestion)
        ingestion.answered(StoredBytes(key), result.made_for)

    async def _kept(self, key: str) -> TextResult | None:
        try:
            return TextResult.model_validate_json(await self._blobs.get(key))
        except BlobNotFoundError:
            return None

    async def _answered(self, key: str, task: TextTask, ingestion: Ingestion) -> TextResult:
        answer = await self._processor.process(task)
        result = TextResult(
            answer=answer,
            provider=self._processor.provider,
            model=self._processor.model,
            made_for=ingestion.file_id,
            made_at=datetime.now(UTC),
        )
        # Paid for: a cancel that comes now is too late to throw it away.
        await to_its_end(self._blobs.put(key, result.model_dump_json().encode()))
        return result


def _task_of(content: bytes) -> TextTask:
    """Raises ``ContentInvalidError`` for bytes that no door of ours wrote."""
    try:
        return TextTask.model_validate_json(content)
    except ValidationError:
        raise ContentInvalidError("The document is no text with an operation.") from None

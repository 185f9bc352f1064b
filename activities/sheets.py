"""A scanned sheet: stored, and what is on it noted. One that cannot be read fails alone."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from temporalio import activity

from activities.attempts import failure_of, to_its_end
from activities.byte_budget import DEFAULT_BUDGET_BYTES, ByteBudget
from activities.failures import translate_errors_and_give_up
from activities.heartbeats import StageHeartbeat
from activities.ingestion import Ingestion, fetch_content, log_end, log_start, output_of, store_content
from activities.manifest import ManifestReader
from activities.pack_progress import PackHeartbeats, PackProgress
from activities.sheet_events import SheetCounts
from ingather.domain.audit import documents_ingested
from ingather.domain.bitmap import decode_bitmap
from ingather.domain.fingerprint import pipeline_fingerprint
from ingather.domain.keys import (
    artifact_key,
)
from ingather.models.content import PreparedDocument, SheetReading, Stage
from ingather.models.document import DocumentRecord, DocumentRef
from ingather.models.messages import (
    IngestDocumentInput,
    IngestDocumentOutput,
    IngestPackInput,
    IngestPackOutput,
)
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.document_preparer import DocumentPreparer
from ingather.ports.sheet_progress import SheetProgress


class SheetActivities:
    """One sheet, or several that were looked at before.

    Args:
        ocr: read what sheets say, too.
    """

    def __init__(
        self,
        blobs: BlobStore,
        catalog: Catalog,
        preparer: DocumentPreparer,
        manifest: ManifestReader,
        *,
        progress: SheetProgress,
        budget: ByteBudget | None = None,
        ocr: bool = False,
    ) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._preparer = preparer
        self._manifest = manifest
        self._budget = budget or ByteBudget(DEFAULT_BUDGET_BYTES)
        self._ocr = ocr
        self._counts = SheetCounts(catalog, progress)

    @activity.defn(name="process_sheet")
    @translate_errors_and_give_up
    async def process_sheet(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        """Store one sheet and note what is on it. That it cannot be read is an answer; only infrastructure raises."""
        async with StageHeartbeat().beating() as heartbeat:
            document = await self._manifest.document(request.tenant_id, request.batch_id, request.ordinal)
            heartbeat.filename = document.filename
            record = await self._ended(request, document, heartbeat.enter)
            await to_its_end(self._keep([record], request, request.retry_round))
        log_end(record)
        return output_of(record)

    @activity.defn(name="process_sheet_pack")
    @translate_errors_and_give_up
    async def process_sheet_pack(self, request: IngestPackInput) -> IngestPackOutput:
        """The same for several sheets that were looked at before: little is left to do, and one transaction does it."""
        progress = PackProgress(list(decode_bitmap(request.ordinals)))
        async with PackHeartbeats(progress).beating() as heartbeats:
            shared = request.model_dump(exclude={"ordinals"})
            records = []
            for ordinal in progress.open_ordinals:
                document = await self._manifest.document(request.tenant_id, request.batch_id, ordinal)
                one = IngestDocumentInput(ordinal=ordinal, **shared)
                records.append(await self._ended(one, document, partial(heartbeats.under_way, document)))
            await to_its_end(self._keep(records, request))
            for record in records:
                progress.ended(record)
                log_end(record)
        return progress.output()

    async def _keep(
        self, records: list[DocumentRecord], request: IngestDocumentInput | IngestPackInput, retry_round: int = 0
    ) -> None:
        """Both, or a cancel in between would call cancelled what is done."""
        await self._catalog.save_outcomes(records, documents_ingested(records, request.actor))
        await self._counts.sheet_ended(request.batch_id, retry_round)

    async def _ended(
        self, request: IngestDocumentInput, document: DocumentRef, on_stage: Callable[[Stage], None]
    ) -> DocumentRecord:
        fingerprint = pipeline_fingerprint({**self._preparer.description, "sheets": "1"}, request.options)
        ingestion = Ingestion(request, document, activity.info().attempt, fingerprint, on_stage)
        log_start(ingestion)
        failure = document.refused or await failure_of(ingestion, self._process(ingestion))
        if failure is not None:
            ingestion.fail(failure)
        return ingestion.record()

    async def _process(self, ingestion: Ingestion) -> None:
        reading = ingestion.document.sheet
        # What was extracted stays where it is and is the sheet's own from here on.
        ingestion.raw = ingestion.upload
        if reading is not None and ingestion.raw is not None and not self._ocr:
            prepared = _as_read_before(reading)
        else:
            prepared = await self._read(ingestion)
        assert prepared.sheet is not None  # it was asked for
        ingestion.note_sheet(prepared.sheet)
        ingestion.done(prepared)

    async def _read(self, ingestion: Ingestion) -> PreparedDocument:
        blob = ingestion.document.blob
        async with self._budget.hold(blob.size_bytes if blob else 0):
            ingestion.enter(Stage.FETCHING)
            content = await fetch_content(ingestion, self._blobs)
            if ingestion.raw is None:
                ingestion.enter(Stage.STORING)
                await store_content(ingestion, self._blobs, content)
            ingestion.enter(Stage.WAITING)
            asked = replace(ingestion.prepare_request(content), is_sheet=True, ocr=self._ocr)
            prepared = await self._preparer.prepare(asked, ingestion.enter)
            if prepared.chunk_count:
                prepared = await self._with_artifact(ingestion, prepared)
        return prepared

    async def _with_artifact(self, ingestion: Ingestion, prepared: PreparedDocument) -> PreparedDocument:
        if not prepared.embedded:
            ingestion.enter(Stage.EMBEDDING)
            embedded = self._preparer.restore(await self._preparer.embed(prepared.artifact))
            prepared = replace(embedded, sheet=prepared.sheet)
        ingestion.enter(Stage.WRITING)
        await self._blobs.put(artifact_key(*ingestion.address), prepared.artifact)
        return prepared


def _as_read_before(reading: SheetReading) -> PreparedDocument:
    """What preparing would answer, from what was seen when codes were looked for."""
    return PreparedDocument(
        artifact=b"",
        media_type=reading.media_type,
        page_count=reading.page_count,
        chunk_count=0,
        character_count=0,
        quality=1.0,
        embedded=True,
        sheet=reading,
    )

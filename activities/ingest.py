"""One document: fetched, stored, parsed, chunked, embedded, written.

Idempotent by identity: raw bytes lie under file id and hash, artifacts under hash and
fingerprint, the outcome under the file id. A second attempt, or two at once, write the
same things; an attempt after a failure goes on from the first stage without an artifact.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

import structlog
from temporalio import activity

from activities.attempts import failure_of, to_its_end
from activities.byte_budget import DEFAULT_BUDGET_BYTES, ByteBudget
from activities.failures import translate_errors_and_give_up
from activities.fetching import Fetcher
from activities.heartbeats import StageHeartbeat
from activities.ingestion import Ingestion, fetch_content, log_end, log_start, output_of, store_content
from activities.keyed_locks import KeyedLocks
from activities.manifest import ManifestReader
from activities.quarantine import Quarantine
from activities.reuse import is_good_enough, take_over
from ingather.domain.audit import documents_ingested
from ingather.domain.fingerprint import pipeline_fingerprint
from ingather.domain.keys import artifact_key, parsed_key
from ingather.models.content import PreparedDocument, Stage
from ingather.models.document import DocumentRecord
from ingather.models.errors import (
    ArtifactUnreadableError,
    DocumentTimeoutError,
    ParserKilledError,
    ParserTimeoutError,
)
from ingather.models.messages import IngestDocumentInput, IngestDocumentOutput
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.document_preparer import DocumentPreparer

log = structlog.get_logger(__name__)


_FAIR_SHARE = 0.5
"""Of its time: a document that had so much is to blame for taking longer."""
_WHOLE_SHARE = 0.9
"""Of its time: where it had so much, so are its copies."""
DEFAULT_FETCHED_AT_ONCE = 12
"""Documents out of sources that are worked on at one time, once they are here."""


class IngestActivities:
    def __init__(
        self,
        blobs: BlobStore,
        catalog: Catalog,
        preparer: DocumentPreparer,
        manifest: ManifestReader,
        *,
        budget: ByteBudget | None = None,
        same_content: KeyedLocks | None = None,
        fetcher: Fetcher | None = None,
        fetched_at_once: int = DEFAULT_FETCHED_AT_ONCE,
    ) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._preparer = preparer
        self._manifest = manifest
        self._budget = budget or ByteBudget(DEFAULT_BUDGET_BYTES)
        self._same_content = same_content or KeyedLocks()
        self._fetcher = fetcher
        self._fetched = asyncio.Semaphore(fetched_at_once)
        self._quarantine = Quarantine()

    @activity.defn(name="ingest_document")
    @translate_errors_and_give_up
    async def ingest_document(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        """Ingest one document. That it cannot be ingested is an answer; only infrastructure raises."""
        async with StageHeartbeat().beating() as heartbeat:
            document = await self._manifest.document(request.tenant_id, request.batch_id, request.ordinal)
            heartbeat.filename = document.filename
            fingerprint = pipeline_fingerprint(self._preparer.description, request.options)
            ingestion = Ingestion(request, document, activity.info().attempt, fingerprint, heartbeat.enter)
            log_start(ingestion)
            if self._fetcher is not None:
                await self._fetcher.bring(ingestion)
                heartbeat.filename = ingestion.document.filename
            # Identical documents of one batch come together: the second waits until the first is in the
            # catalog, and finds it there.
            async with self._turn(ingestion), self._same_content.hold(ingestion.content):
                record = await self._run(ingestion)
        log_end(record)
        return output_of(record)

    def _turn(self, ingestion: Ingestion) -> AbstractAsyncContextManager[object]:
        """Many are fetched at once; what has come must not crowd out documents whose bytes were here all along."""
        document = ingestion.document
        if document.source is None or document.refused is not None:
            return nullcontext()
        ingestion.enter(Stage.WAITING)
        return self._fetched

    async def _run(self, ingestion: Ingestion) -> DocumentRecord:
        failure = ingestion.document.refused or await failure_of(ingestion, self._ingest(ingestion))
        if failure is not None:
            ingestion.fail(failure)
        record = ingestion.record()
        # A cancel that comes now is too late: the catalog and the workflow must not tell two different ends.
        events = documents_ingested([record], ingestion.request.actor)
        await to_its_end(self._catalog.save_outcome(record, events))
        if ingestion.verdict is not None:
            self._quarantine.note(ingestion, ingestion.verdict)
        return record

    async def _ingest(self, ingestion: Ingestion) -> None:
        blob = ingestion.document.blob
        async with self._budget.hold(blob.size_bytes if blob else 0), ingestion.clock.running():
            await self._ingest_content(ingestion)

    async def _ingest_content(self, ingestion: Ingestion) -> None:
        ingestion.enter(Stage.FETCHING)
        content = await fetch_content(ingestion, self._blobs)
        ingestion.enter(Stage.STORING)
        await store_content(ingestion, self._blobs, content)
        ingestion.enter(Stage.WAITING)
        if not await self._take_existing(ingestion):
            ingestion.done(await self._prepare(ingestion, content))

    async def _take_existing(self, ingestion: Ingestion) -> bool:
        if not ingestion.request.options.skip_existing:
            return False
        found = await self._catalog.find_ingested(*ingestion.address)
        return await take_over(ingestion, found, self._blobs, self._preparer)

    async def _prepare(self, ingestion: Ingestion, content: bytes) -> PreparedDocument:
        address = ingestion.address
        prepared = await self._left_by_earlier_attempt(ingestion)
        if prepared is None:
            prepared = await self._parse(ingestion, content)
            if not prepared.embedded:
                await self._blobs.put(parsed_key(*address), prepared.artifact)
        if not prepared.embedded:
            ingestion.enter(Stage.EMBEDDING)
            prepared = self._preparer.restore(await self._preparer.embed(prepared.artifact))
        ingestion.enter(Stage.WRITING)
        await self._blobs.put(artifact_key(*address), prepared.artifact)
        return prepared

    async def _parse(self, ingestion: Ingestion, content: bytes) -> PreparedDocument:
        self._quarantine.look_up(ingestion)
        request, full_seconds = ingestion.prepare_request(content), ingestion.request.options.timeout_seconds
        try:
            return await self._preparer.prepare(request, ingestion.enter)
        except ParserKilledError as error:
            is_timeout, share = isinstance(error, ParserTimeoutError), request.timeout_seconds / full_seconds
            if not is_timeout or share >= _WHOLE_SHARE:
                ingestion.verdict = error
            if not is_timeout or share >= _FAIR_SHARE:
                raise
            # The document is not to blame for what others left of its time: another attempt may have more.
            raise DocumentTimeoutError(
                f"Most of the {full_seconds:g} seconds that the attempt may take were gone before the file was parsed.",
                timeout_seconds=full_seconds,
            ) from error

    async def _left_by_earlier_attempt(self, ingestion: Ingestion) -> PreparedDocument | None:
        if not ingestion.is_repeat:
            return None
        for key in (artifact_key(*ingestion.address), parsed_key(*ingestion.address)):
            if await self._blobs.stat(key) is None:
                continue
            try:
                prepared = self._preparer.restore(await self._blobs.get(key))
            except ArtifactUnreadableError:
                log.warning("artifact.unreadable", key=key)  # the one made now takes its place
                continue
            return prepared if is_good_enough(prepared, ingestion.request.options.quality_threshold) else None
        return None

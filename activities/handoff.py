"""Documents handed on: fetched, stored under their own key, pushed to the next stage's list, recorded.

For tenants whose own workers parse. A document is pushed once, whatever is killed when: the
push notes in the same step that it happened, so a second attempt pushes nothing and goes on to
the catalog. From the push on, an attempt is seen to its end: what was handed on cannot be
cancelled any more, and the catalog must not say otherwise.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

import structlog
from temporalio import activity

from activities.attempts import failure_of, to_its_end
from activities.byte_budget import DEFAULT_BUDGET_BYTES, ByteBudget
from activities.failures import translate_errors_and_give_up
from activities.fetching import Fetcher
from activities.heartbeats import StageHeartbeat
from activities.ingestion import Ingestion, fetch_content, log_end, log_start, log_starts, output_of, store_content
from activities.manifest import ManifestReader
from activities.pack_progress import PackHeartbeats, PackProgress
from ingather.domain.audit import document_event_id, documents_ingested
from ingather.domain.bitmap import decode_bitmap
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentRecord
from ingather.models.handoff import HandedOn
from ingather.models.messages import IngestDocumentInput, IngestDocumentOutput, IngestPackInput, IngestPackOutput
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.handoff_queue import HandoffQueue

log = structlog.get_logger(__name__)


class HandoffActivities:
    def __init__(
        self,
        blobs: BlobStore,
        catalog: Catalog,
        queue: HandoffQueue,
        manifest: ManifestReader,
        *,
        budget: ByteBudget | None = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._queue = queue
        self._manifest = manifest
        self._budget = budget or ByteBudget(DEFAULT_BUDGET_BYTES)
        self._fetcher = fetcher

    @activity.defn(name="hand_on_document")
    @translate_errors_and_give_up
    async def hand_on_document(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        """Hand one document on. That it cannot be stored is an answer; only infrastructure raises."""
        async with StageHeartbeat().beating() as heartbeat:
            document = await self._manifest.document(request.tenant_id, request.batch_id, request.ordinal)
            heartbeat.filename = document.filename
            ingestion = Ingestion(request, document, activity.info().attempt, None, heartbeat.enter)
            log_start(ingestion)
            if self._fetcher is not None:
                await self._fetcher.bring(ingestion)
                heartbeat.filename = ingestion.document.filename
            [record] = await self._hand_on([ingestion])
        log_end(record)
        return output_of(record)

    @activity.defn(name="hand_on_pack")
    @translate_errors_and_give_up
    async def hand_on_pack(self, request: IngestPackInput) -> IngestPackOutput:
        """The same for several small documents: stored at once, pushed in one call, recorded in one transaction."""
        progress = PackProgress(list(decode_bitmap(request.ordinals)))
        async with PackHeartbeats(progress).beating() as heartbeats:
            shared = request.model_dump(exclude={"ordinals"})
            ingestions = []
            for ordinal in progress.open_ordinals:
                document = await self._manifest.document(request.tenant_id, request.batch_id, ordinal)
                one = IngestDocumentInput(ordinal=ordinal, **shared)
                on_stage = partial(heartbeats.under_way, document)
                ingestions.append(Ingestion(one, document, activity.info().attempt, None, on_stage))
            log_starts(ingestions)
            for record in await self._hand_on(ingestions):
                progress.ended(record)
                log_end(record)
        output = progress.output()
        log.info(
            "pack.ended",
            batch_id=request.batch_id,
            tenant_id=request.tenant_id,
            ordinals=request.ordinals,
            statuses=output.statuses,
        )
        return output

    async def _hand_on(self, ingestions: Sequence[Ingestion]) -> list[DocumentRecord]:
        """Store all, then conclude all. Storage that is away stops all of them: none is pushed without its bytes."""
        size_bytes = sum(each.document.blob.size_bytes for each in ingestions if each.document.blob)
        async with self._budget.hold(size_bytes):
            failures = await asyncio.gather(*map(self._stored, ingestions), return_exceptions=True)
        stored = []
        for ingestion, failure in zip(ingestions, failures, strict=True):
            if isinstance(failure, BaseException):
                raise failure
            if failure is not None:
                ingestion.fail(failure)
            else:
                ingestion.accounted_for()
                stored.append(ingestion)
        for ingestion in stored:
            ingestion.enter(Stage.HANDING_ON)
        records = [ingestion.record() for ingestion in ingestions]
        await to_its_end(self._conclude(stored, records))
        return records

    async def _stored(self, ingestion: Ingestion) -> DocumentFailure | None:
        """Bring the bytes to the document's own key, also where they came in with others'; answers why not."""
        return ingestion.document.refused or await failure_of(ingestion, self._store(ingestion))

    async def _store(self, ingestion: Ingestion) -> None:
        async with ingestion.clock.running():
            ingestion.enter(Stage.FETCHING)
            content = await fetch_content(ingestion, self._blobs)
            ingestion.enter(Stage.STORING)
            await store_content(ingestion, self._blobs, content)

    async def _conclude(self, stored: Sequence[Ingestion], records: Sequence[DocumentRecord]) -> None:
        """Push, then record. A crash in between is made good by the next attempt, which finds the push done."""
        events = []
        if stored:
            request = stored[0].request
            await self._push(request, await self._not_handed_on(stored))
            events = documents_ingested(records, request.actor)
        await self._catalog.save_outcomes(records, events)

    async def _push(self, request: IngestDocumentInput, ingestions: Sequence[Ingestion]) -> None:
        if ingestions:
            documents = {each.document.ordinal: _entry(each) for each in ingestions}
            await self._queue.push(request.tenant_id, request.batch_id, documents)

    async def _not_handed_on(self, stored: Sequence[Ingestion]) -> Sequence[Ingestion]:
        """Without those that an earlier attempt saw through: the catalog remembers them for good, markers for a while."""
        event_ids = {
            document_event_id(each.request.batch_id, each.document.ordinal): each for each in stored if each.is_repeat
        }
        if not event_ids:
            return stored
        known = await self._catalog.audit.recorded(list(event_ids))
        over = {id(each) for event_id, each in event_ids.items() if event_id in known}
        return [each for each in stored if id(each) not in over]


def _entry(ingestion: Ingestion) -> HandedOn:
    assert ingestion.sha256 is not None  # only a refused document has none, and that is not handed on
    return HandedOn(
        file_id=ingestion.file_id,
        batch_id=ingestion.request.batch_id,
        sha256=ingestion.sha256,
        storage_path=ingestion.raw_key,
        tenant_id=ingestion.request.tenant_id,
    )

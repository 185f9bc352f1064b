"""Several small documents in one activity: each with its own outcome, row, artifact and errors.

An activity costs Temporal and its SDK more than a small document costs the parser, and an object in
storage costs as much. So up to sixteen of them are fetched, prepared and written together.
What is done is written about once a second and told in the heartbeats, so a second attempt
goes on where the first one stopped. A document that kills its parser, meets a bug of ours, or
keeps its neighbours waiting is sent back to run again alone.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog
from temporalio import activity

from activities.attempts import is_batch_cancelled
from activities.byte_budget import DEFAULT_BUDGET_BYTES, ByteBudget
from activities.failures import translate_errors_and_give_up
from activities.ingestion import Ingestion, log_starts
from activities.keyed_locks import KeyedLocks
from activities.lately import Lately
from activities.manifest import ManifestReader
from activities.pack_progress import PackHeartbeats, PackProgress
from activities.pack_run import PackRun
from ingather.domain.bitmap import decode_bitmap
from ingather.domain.fingerprint import pipeline_fingerprint
from ingather.models.document import DocumentRef
from ingather.models.messages import IngestDocumentInput, IngestPackInput, IngestPackOutput, PackHeartbeat
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.document_preparer import DocumentPreparer

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 0.5
"""A hundred times what a small document takes. Who is sent back too soon costs an activity, and one who is waited for costs
all those behind it so long."""

_SHARED = ("tenant_id", "batch_id", "collection", "options", "actor", "again")
"""What the documents of a pack have in common."""


class PackActivities:
    """``same_content`` and ``budget`` are those of ``IngestActivities``: it is one worker.

    Args:
        patience_seconds: how long documents wait for one they share an activity with, before it is to run alone: one that
            takes longer than others do, or whose content a document that runs alone is at.
    """

    def __init__(
        self,
        blobs: BlobStore,
        catalog: Catalog,
        preparer: DocumentPreparer,
        manifest: ManifestReader,
        *,
        budget: ByteBudget | None = None,
        same_content: KeyedLocks | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._preparer = preparer
        self._manifest = manifest
        self._budget = budget or ByteBudget(DEFAULT_BUDGET_BYTES)
        self._same_content = same_content or KeyedLocks()
        self._sent_back: Lately[bool] = Lately()
        """Contents that packs of this worker sent back."""
        self.patience_seconds = patience_seconds

    @activity.defn(name="ingest_pack")
    @translate_errors_and_give_up
    async def ingest_pack(self, request: IngestPackInput) -> IngestPackOutput:
        """Ingest small documents. Only infrastructure raises, and then what is done stays done."""
        progress = await self._progress(request)
        async with PackHeartbeats(progress).beating() as heartbeats, AsyncExitStack() as stack:
            refs = [
                await self._manifest.document(request.tenant_id, request.batch_id, ordinal)
                for ordinal in progress.open_ordinals
            ]
            ingestions = self._ingestions(request, refs, heartbeats)
            run = PackRun(
                self._blobs,
                self._catalog,
                self._preparer,
                progress,
                self._sent_back,
                own_objects=request.own_objects,
                patience_seconds=self.patience_seconds,
            )
            ready = await self._ready(stack, ingestions)
            log_starts(ready)
            for group in _each_content_once(ready):
                if not await run.ingest(group):
                    break
        output = progress.output()
        log.info(
            "pack.ended",
            batch_id=request.batch_id,
            tenant_id=request.tenant_id,
            ordinals=request.ordinals,
            statuses=output.statuses,
        )
        return output

    async def _ready(self, stack: AsyncExitStack, ingestions: Sequence[Ingestion]) -> Sequence[Ingestion]:
        """Wait for contents and room; none where the batch is cancelled meanwhile: what an earlier attempt did stays done.

        As for single documents, whoever has the same content waits, and finds it in the catalog: for a while, since others
        wait with it, and not for one that will not be there. And in the same order, contents before bytes, or one would
        wait for the other.
        """
        contents = [each.content for each in ingestions]
        holding = self._same_content.hold_all(contents, self.patience_seconds, hopeless=self._sent_back)
        try:
            busy = await stack.enter_async_context(holding)
            # What is left out here has no outcome, and so runs again alone.
            ready = [each for each in ingestions if each.content not in busy]
            blobs = [each.document.blob for each in ready]
            await stack.enter_async_context(self._budget.hold(sum(blob.size_bytes for blob in blobs if blob)))
        except asyncio.CancelledError:
            if not is_batch_cancelled():
                raise
            return []
        return ready

    async def _progress(self, request: IngestPackInput) -> PackProgress:
        """Empty in a first attempt; in a later one, what those before it got done."""
        ordinals = list(decode_bitmap(request.ordinals))
        progress = PackProgress(ordinals)
        info = activity.info()
        if info.heartbeat_details:
            progress.resume(PackHeartbeat.model_validate(info.heartbeat_details[0]))
        if info.attempt > 1 or request.again:
            # A beat is a second old, or was never sent; rows are written before they are told.
            for record in await self._catalog.get_documents(request.batch_id, progress.open_ordinals):
                progress.found(record)
        return progress

    def _ingestions(
        self, request: IngestPackInput, refs: Sequence[DocumentRef], heartbeats: PackHeartbeats
    ) -> list[Ingestion]:
        fingerprint = pipeline_fingerprint(self._preparer.description, request.options)
        shared: dict[str, Any] = {name: getattr(request, name) for name in _SHARED}
        attempt = activity.info().attempt
        return [
            Ingestion(
                IngestDocumentInput(ordinal=ref.ordinal, **shared),
                ref,
                attempt,
                fingerprint,
                partial(heartbeats.under_way, ref),
            )
            for ref in refs
        ]


def _each_content_once(ingestions: Iterable[Ingestion]) -> Iterator[list[Ingestion]]:
    """Groups without a content twice: a copy comes after the document it may be skipped for."""
    waiting = list(ingestions)
    while waiting:
        group: dict[str, Ingestion] = {}
        copies = [each for each in waiting if group.setdefault(each.content, each) is not each]
        yield list(group.values())
        waiting = copies

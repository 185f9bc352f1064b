"""A child of a large batch: up to 1,000 of its documents, as a small batch would run them.

One workflow execution is one lock, so a large batch is many executions. A child knows
nothing of manifests, places or reports: it runs the documents it was given, hears from its
parent how to go on, and returns how each of them ended; one that a pack sent back it returns as
pending, where its parent asks for that. It never fails because a document
did, and never continues as new; cancelled, it returns what it did.
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import TemporalError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.manifest import ManifestActivities
    from activities.records import RecordActivities
    from ingather.domain.bitmap import decode_bitmap, encode_bitmap
    from ingather.domain.ledger import Ledger
    from ingather.models.batch import BatchProgress, BatchState
    from ingather.models.document import DocumentStatus
    from ingather.models.engine import CHILD_QUIET, CHUNK_WORKFLOW, PACK_DOCUMENTS
    from ingather.models.messages import (
        ChildQuiet,
        ChunkInput,
        ChunkOutput,
        OutcomesPage,
        ReadManifestInput,
        ReadManifestOutput,
        ResetDocumentsInput,
        RetryRequest,
        SteerRequest,
    )
    from workflows.documents import DocumentRun, Share, begins_early
    from workflows.indexing import INDEX_BATCH_SIZE, PACKED_INDEX_BATCH_SIZE
    from workflows.journal import Journal
    from workflows.options import PAGE, RECORDS
    from workflows.packs import PackPlan, large_at_once
    from workflows.pipelines import PIPELINES

_LEFT_TO_THE_LAST = "documents that were sent back are left to the last of their batch"
"""The change since which they are: a child ran them itself, and a worker of before does whatever its input says."""
_LAST_WORD_HOLDS = "a word of before changes nothing"
"""The change since which it does not: a child could stay paused in a batch that runs."""


@workflow.defn(name=CHUNK_WORKFLOW)
class ChunkWorkflow:
    @workflow.init
    def __init__(self, chunk: ChunkInput) -> None:
        self._chunk = chunk
        self._ordinals = list(decode_bitmap(chunk.ordinals))
        self._ledger = Ledger(len(self._ordinals))
        self._journal = Journal()
        self._documents: DocumentRun | None = None
        self._telling: asyncio.Task[None] | None = None
        self._told = chunk.steer
        self._quiet_since = -1
        self._retry_round = chunk.retry_round
        self._cancelling = False
        self._version = 0
        self._handled: set[str] = set()

    @workflow.run
    async def run(self, chunk: ChunkInput) -> ChunkOutput:  # noqa: ARG002  # read by __init__
        try:
            self._documents = documents = self._begin(await self._read_manifest())
            while not documents.plan.is_through(self._ledger):
                await documents.run()
                await workflow.wait_condition(workflow.all_handlers_finished)
        except (Exception, asyncio.CancelledError) as error:
            # A cancel surfaces as asyncio's error, or as the error of the activity it interrupted.
            if not is_cancelled_exception(error):
                raise
            await self._cancel()
        return ChunkOutput(ledger=self._ledger.letters(), failures=self._ledger.failures(), kills=self._kills)

    async def _read_manifest(self) -> ReadManifestOutput:
        spec = self._chunk.spec
        return await workflow.execute_activity_method(
            ManifestActivities.read_manifest,
            ReadManifestInput(tenant_id=spec.tenant_id, batch_id=spec.batch_id, ordinals=self._chunk.ordinals),
            **PAGE,
        )

    def _begin(self, manifest: ReadManifestOutput) -> DocumentRun:
        spec = self._chunk.spec
        plan = self._plan(manifest)
        in_sources = frozenset(decode_bitmap(manifest.in_sources))
        # Other children write while this one parses: what matters is that writes are few.
        at_once = PACKED_INDEX_BATCH_SIZE if plan.packs else INDEX_BATCH_SIZE
        share = Share(self._ordinals, manifest.filenames, plan, self._chunk.window, in_sources, at_once)
        documents = DocumentRun(spec, self._ledger, share, self._journal, self._changed)
        documents.paused, documents.priority = self._told.paused, self._told.priority
        documents.retry_round, documents.again = self._retry_round, self._chunk.again
        return documents

    def _plan(self, manifest: ReadManifestOutput) -> PackPlan:
        chunk = self._chunk
        wants_packs = chunk.spec.options.packs_documents and chunk.retry_round == 0
        packs = wants_packs and PIPELINES[chunk.spec.pipeline].process_pack is not None
        is_known = (chunk.returns_sent_back or chunk.sent_back) and workflow.patched(_LEFT_TO_THE_LAST)
        if not (is_known and chunk.sent_back):
            ahead = large_at_once(chunk.window)
            return PackPlan(
                decode_bitmap(manifest.packable),
                limit=PACK_DOCUMENTS if packs else 1,
                large=begins_early(manifest, ahead),
                ahead=ahead,
                leaves_sent_back=is_known and chunk.returns_sent_back,
            )
        plan = PackPlan()
        for position, ordinal in enumerate(self._ordinals):
            plan.run_alone(position, kills=chunk.kills.get(ordinal, 0))
        return plan

    @property
    def _kills(self) -> dict[int, int]:
        """Of the documents that the parent is to run; a cancel leaves it none."""
        if self._documents is None or not self._documents.plan.leaves_sent_back or self._cancelling:
            return {}
        plan = self._documents.plan
        return {self._ordinals[position]: plan.kills(position) for position in plan.sent_back if plan.kills(position)}

    async def _cancel(self) -> None:
        self._cancelling = True
        if self._documents is None:
            self._ledger.move_all(DocumentStatus.PENDING, DocumentStatus.CANCELLED)
            return
        await self._documents.stop()
        # Only now: a retry under way may wait for a catalog that is away, and documents must not run on meanwhile.
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._documents.cancel_pending()
        await self._documents.flush()

    def _changed(self) -> None:
        self._version += 1
        counts = self._ledger.counts
        workflow.set_current_details(
            f"{self._state.value}: {counts.ended} of {counts.total} documents ended, {counts.failed} failed"
        )
        if self._state is BatchState.PAUSED and self._quiet_since < self._told.number:
            self._quiet_since = self._told.number
            self._telling = asyncio.create_task(
                self._tell_parent(ChildQuiet(index=self._chunk.index, number=self._told.number))
            )

    async def _tell_parent(self, word: ChildQuiet) -> None:
        parent = workflow.info().parent
        if parent is None:
            return
        try:
            await workflow.get_external_workflow_handle(parent.workflow_id).signal(CHILD_QUIET, word)
        except TemporalError:
            workflow.logger.debug("the parent is gone")

    @property
    def _state(self) -> BatchState:
        if self._cancelling:
            return BatchState.CANCELLING
        if self._told.paused:
            return BatchState.PAUSING if self._ledger.count(DocumentStatus.IN_FLIGHT) else BatchState.PAUSED
        return BatchState.RETRYING if self._retry_round else BatchState.RUNNING

    # --- Queries, as a batch answers them, of this child's documents ------------------------

    @workflow.query
    def progress(self) -> BatchProgress:
        """An exact snapshot."""
        documents = self._documents
        return BatchProgress(
            state=self._state,
            counts=self._ledger.counts,
            version=self._version,
            priority=self._told.priority,
            failures_by_code=self._ledger.failures_by_code,
            in_flight=documents.in_flight if documents else (),
            retry_round=self._retry_round,
            indexed=documents.searchable_count if documents else 0,
        )

    @workflow.query
    def outcomes(self, after: int) -> OutcomesPage:
        """What happened from journal position ``after`` on, in order; ordinals are the batch's."""
        return self._journal.answer(after, self.progress())

    # --- Signals of the parent ---------------------------------------------------------------

    @workflow.signal
    def steer(self, request: SteerRequest) -> None:
        """How to go on, whatever came before. The server may deliver a word after the one that followed it."""
        if request.number < self._told.number and workflow.patched(_LAST_WORD_HOLDS):
            return
        self._told = request
        if self._documents is not None:
            self._documents.paused, self._documents.priority = request.paused, request.priority
            self._documents.wake()

    @workflow.signal
    async def retry_failed(self, request: RetryRequest) -> None:
        """Run failed documents again that match."""
        await workflow.wait_condition(lambda: self._documents is not None or self._cancelling)
        documents = self._documents
        if documents is None or self._cancelling or request.request_id in self._handled:
            return
        self._handled.add(request.request_id)
        wanted = frozenset(request.ordinals)
        mine = [position for position, ordinal in enumerate(self._ordinals) if ordinal in wanted]
        if request.ordinals and not mine:
            return
        positions = self._ledger.reset(request.codes, mine)
        if not positions:
            return
        self._retry_round += 1
        documents.retry_round = self._retry_round
        documents.forgive(positions)
        with documents.dispatch_held():
            await self._reset([self._ordinals[position] for position in positions])

    async def _reset(self, ordinals: list[int]) -> None:
        """None may end before the catalog knows that it runs again."""
        spec = self._chunk.spec
        await workflow.execute_activity_method(
            RecordActivities.reset_documents,
            ResetDocumentsInput(tenant_id=spec.tenant_id, batch_id=spec.batch_id, ordinals=encode_bitmap(ordinals)),
            summary=f"{len(ordinals)} documents",
            **RECORDS,
        )

"""A batch: documents in, each stored, parsed, embedded and made searchable; none lost.

The story. Build the manifest (expand archives, fix names and order), wait for ``start``
where the batch is held, run every document as an activity of its own, make finished ones
searchable while the rest still run, write the report, close.

What is promised. ``total = pending + in_flight + done + failed + skipped + cancelled`` in
every answer. A document that cannot be ingested is a result, not an accident: nothing here
fails because a document did. A crash of any worker or server costs the time to notice it.

What survives. Everything: the state is this workflow's history. It continues as new only
when nothing is in flight, no handler runs and the server asks for it; ledger, journal tail,
paused flag, round and handled request ids travel along.

Messages. Updates ``start``, ``pause``, ``resume``, ``retry``, ``set_priority`` answer with
the new state; signals of the same meaning are for when an update got no answer in time, and
carry the same request id. Cancel is Temporal's own. Queries ``progress`` and ``outcomes``.
A closed batch is opened again by starting the same workflow id with ``reopen`` and ``retry``.
"""

import asyncio
from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.failures import to_application_error
    from activities.manifest import ManifestActivities
    from activities.records import RecordActivities
    from ingather.domain.batch_state import final_state
    from ingather.domain.bitmap import encode_bitmap
    from ingather.domain.ledger import Ledger
    from ingather.models.batch import (
        MAX_DOCUMENTS_PER_WORKFLOW,
        BatchProblem,
        BatchProgress,
        BatchState,
        BatchSummary,
        SourceSlice,
    )
    from ingather.models.document import DocumentStatus
    from ingather.models.engine import BATCH_WORKFLOW
    from ingather.models.errors import IngatherError, InvalidStateError
    from ingather.models.messages import (
        BatchInput,
        BuildManifestInput,
        CarriedState,
        ClosedBatch,
        ControlAnswer,
        ControlRequest,
        FinishBatchInput,
        OutcomesPage,
        PriorityRequest,
        ReadManifestInput,
        ReopenBatchInput,
        ResetDocumentsInput,
        RetryRequest,
    )
    from workflows.documents import DocumentRun
    from workflows.journal import PAGE_SIZE, Journal
    from workflows.options import MANIFEST, PAGE, RECORDS
    from workflows.visibility import Visibility, progress_memo

REMEMBERED_REQUESTS = 200

_RUNNING = frozenset({BatchState.RUNNING, BatchState.RETRYING, BatchState.PAUSING, BatchState.PAUSED})
_CLOSING = frozenset({BatchState.CANCELLING, BatchState.CANCELLED})


@workflow.defn(name=BATCH_WORKFLOW)
class BatchWorkflow:
    @workflow.init
    def __init__(self, batch: BatchInput) -> None:
        carried = batch.carried
        self._spec = batch.spec
        self._ledger = Ledger(batch.spec.submitted_count)
        self._journal = Journal(carried.journal_first, carried.journal) if carried else Journal()
        self._visibility = Visibility(batch.spec)
        self._run: DocumentRun | None = None
        self._sources: tuple[SourceSlice, ...] = ()
        self._created_at = workflow.now()
        self._started_at: datetime | None = None
        self._held = batch.spec.hold
        self._paused = False
        self._cancelling = False
        self._finalizing = False
        self._problem: BatchProblem | None = None
        self._priority = batch.spec.priority
        self._retry_round = 0
        self._handled: dict[str, None] = {}
        self._version = 0
        self._noted_state = carried.state if carried else None

    @workflow.run
    async def run(self, batch: BatchInput) -> BatchSummary:
        try:
            await self._open(batch)
            while True:
                await self._run_documents()
                summary = await self._close()
                # A retry may have come while the report was written.
                await workflow.wait_condition(workflow.all_handlers_finished)
                if self._problem is not None or self._ledger.next_pending() is None:
                    return summary
                self._finalizing = False
        except (Exception, asyncio.CancelledError) as error:
            # A cancel surfaces as asyncio's error, or as the error of the activity it interrupted.
            if not is_cancelled_exception(error):
                raise
            summary = await self._cancel()
            if summary.state is BatchState.CANCELLED:
                raise
            return summary

    # --- Steps --------------------------------------------------------------------------

    async def _open(self, batch: BatchInput) -> None:
        """Bring the ledger to where it belongs: from a new manifest, an earlier run, or a closed batch."""
        if batch.carried is not None:
            self._restore(batch.carried)
        elif batch.reopen:
            await self._reopen()
        else:
            self._changed()
            await self._build_manifest()
        if self._problem is not None:
            return
        filenames = await self._read_filenames()
        run = DocumentRun(self._spec, self._ledger, filenames, self._journal, self._changed)
        run.paused, run.priority, run.retry_round = self._paused, self._priority, self._retry_round
        self._run = run
        self._changed()
        if batch.reopen and not batch.carried:
            # The retry that opened the batch again waits for this ledger; let it speak first.
            await workflow.wait_condition(workflow.all_handlers_finished)
        await workflow.wait_condition(lambda: not self._held)
        if self._started_at is None:
            self._started_at = workflow.now()
        self._changed()

    async def _build_manifest(self) -> None:
        spec = self._spec
        try:
            manifest = await workflow.execute_activity_method(
                ManifestActivities.build_manifest,
                BuildManifestInput(
                    tenant_id=spec.tenant_id,
                    batch_id=spec.batch_id,
                    collection=spec.collection,
                    max_documents=MAX_DOCUMENTS_PER_WORKFLOW,
                ),
                summary=f"{spec.submitted_count} submitted",
                **MANIFEST,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self._problem = _problem_of(error)
            for ordinal in range(len(self._ledger)):
                self._ledger.move(ordinal, DocumentStatus.FAILED, self._problem.code)
        else:
            self._ledger = Ledger(manifest.document_count)
            self._sources = manifest.sources

    async def _reopen(self) -> None:
        spec = self._spec
        closed = await workflow.execute_activity_method(
            RecordActivities.reopen_batch,
            ReopenBatchInput(tenant_id=spec.tenant_id, batch_id=spec.batch_id),
            **RECORDS,
        )
        self._ledger = Ledger.load(closed.ledger, closed.failures)
        self._journal = Journal(closed.journal_length)
        self._sources = closed.sources
        self._retry_round = closed.summary.retry_round
        self._version = closed.summary.version
        self._created_at = closed.created_at or self._created_at
        self._started_at = closed.summary.started_at
        self._held = False

    def _restore(self, carried: CarriedState) -> None:
        self._ledger = Ledger.load(carried.ledger, carried.failures)
        self._sources = carried.sources
        self._paused = carried.paused
        self._priority = carried.priority
        self._retry_round = carried.retry_round
        self._version = carried.version
        self._handled = dict.fromkeys(carried.handled_requests)
        self._created_at = carried.created_at
        self._started_at = carried.started_at
        self._held = False

    async def _read_filenames(self) -> list[str]:
        names: list[str] = []
        while len(names) < len(self._ledger):
            page = await workflow.execute_activity_method(
                ManifestActivities.read_manifest_page,
                ReadManifestInput(
                    tenant_id=self._spec.tenant_id,
                    batch_id=self._spec.batch_id,
                    page=len(names) // MAX_DOCUMENTS_PER_WORKFLOW,
                ),
                **PAGE,
            )
            names.extend(page.filenames)
        return names

    async def _run_documents(self) -> None:
        """Run until every document ended and every finished one is searchable."""
        run = self._run
        while run is not None and self._ledger.next_pending() is not None:
            await run.run()
            if run.draining:
                await workflow.wait_condition(workflow.all_handlers_finished)
                self._continue_as_new()

    async def _close(self) -> BatchSummary:
        """Write the report and the catalog's last word."""
        self._finalizing = True
        self._changed()
        counts = self._ledger.counts
        spec = self._spec
        closed = ClosedBatch(
            summary=BatchSummary(
                batch_id=spec.batch_id,
                state=final_state(counts, self._problem),
                counts=counts,
                version=self._version + 1,
                failures_by_code=self._ledger.failures_by_code,
                sources=self._ledger.sources(self._sources),
                retry_round=self._retry_round,
                problem=self._problem,
                started_at=self._started_at,
                ended_at=workflow.now(),
            ),
            ledger=self._ledger.letters(),
            failures=self._ledger.failures(),
            sources=self._sources,
            journal_length=self._journal.next,
            created_at=self._created_at,
        )
        output = await workflow.execute_activity_method(
            RecordActivities.finish_batch,
            FinishBatchInput(tenant_id=spec.tenant_id, batch_id=spec.batch_id, closed=closed),
            summary=closed.summary.state.value,
            **RECORDS,
        )
        self._version += 1
        return closed.summary.model_copy(update={"report_key": output.report_key})

    async def _cancel(self) -> BatchSummary:
        """Stop what runs, keep what is finished, count the rest as cancelled, write the report."""
        self._cancelling = True
        self._changed()
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._run is not None:
            await self._run.cancel()
        else:
            for ordinal in range(len(self._ledger)):
                self._ledger.move(ordinal, DocumentStatus.CANCELLED)
        return await self._close()

    def _continue_as_new(self) -> None:
        first, entries = self._journal.tail()
        progress = self._progress()
        workflow.continue_as_new(
            BatchInput(
                spec=self._spec,
                carried=CarriedState(
                    ledger=self._ledger.letters(),
                    failures=self._ledger.failures(),
                    sources=self._sources,
                    state=progress.state,
                    paused=self._paused,
                    priority=self._priority,
                    retry_round=self._retry_round,
                    version=self._version,
                    journal_first=first,
                    journal=entries,
                    handled_requests=tuple(self._handled),
                    created_at=self._created_at,
                    started_at=self._started_at,
                ),
            ),
            # An upserted memo does not travel by itself; search attributes do.
            memo=progress_memo(progress),
        )

    # --- State ----------------------------------------------------------------------------

    @property
    def _state(self) -> BatchState:
        if self._cancelling:
            return BatchState.CANCELLING
        if self._finalizing:
            return BatchState.FINALIZING
        if self._held:
            return BatchState.PENDING
        if self._paused:
            return BatchState.PAUSING if self._ledger.count(DocumentStatus.IN_FLIGHT) else BatchState.PAUSED
        return BatchState.RETRYING if self._retry_round else BatchState.RUNNING

    def _changed(self) -> None:
        """Something happened: note a new state, publish, and ask for a new run when history grew long."""
        self._version += 1
        state = self._state
        if state is not self._noted_state:
            self._noted_state = state
            self._journal.state(state)
        self._visibility.publish(self._progress())
        run = self._run
        if run is not None and not run.draining and workflow.info().is_continue_as_new_suggested():
            run.draining = self._ledger.next_pending() is not None and not self._cancelling

    def _progress(self) -> BatchProgress:
        return BatchProgress(
            state=self._state,
            counts=self._ledger.counts,
            version=self._version,
            priority=self._priority,
            failures_by_code=self._ledger.failures_by_code,
            in_flight=self._run.in_flight if self._run else (),
            sources=self._ledger.sources(self._sources),
            retry_round=self._retry_round,
            indexed=self._run.searchable_count if self._run else 0,
            problem=self._problem,
            created_at=self._created_at,
            started_at=self._started_at,
        )

    # --- Queries --------------------------------------------------------------------------

    @workflow.query
    def progress(self) -> BatchProgress:
        """An exact snapshot."""
        return self._progress()

    @workflow.query
    def outcomes(self, after: int) -> OutcomesPage:
        """What happened from journal position ``after`` on, in order, up to 1,000 entries."""
        first, entries = self._journal.page(after)
        return OutcomesPage(
            first=first,
            next=first + len(entries),
            entries=entries,
            more=len(entries) == PAGE_SIZE,
            progress=self._progress(),
        )

    # --- Updates, and signals of the same meaning -------------------------------------------

    @workflow.update
    def start(self, request: ControlRequest) -> ControlAnswer:
        """Let a held batch run."""
        if self._is_new(request):
            self._held = False
            self._wake()
        return self._answer()

    @start.validator
    def _may_start(self, request: ControlRequest) -> None:  # noqa: ARG002  # the SDK passes it
        self._refuse_unless(self._state in {BatchState.PENDING, *_RUNNING}, "start")

    @workflow.update
    def pause(self, request: ControlRequest) -> ControlAnswer:
        """Start no more documents; those in flight finish."""
        if self._is_new(request):
            self._set_paused(True)
        return self._answer()

    @pause.validator
    def _may_pause(self, request: ControlRequest) -> None:  # noqa: ARG002  # the SDK passes it
        self._refuse_unless(self._state in _RUNNING, "pause")

    @workflow.update
    def resume(self, request: ControlRequest) -> ControlAnswer:
        """Go on after a pause."""
        if self._is_new(request):
            self._set_paused(False)
        return self._answer()

    @resume.validator
    def _may_resume(self, request: ControlRequest) -> None:  # noqa: ARG002  # the SDK passes it
        self._refuse_unless(self._state in _RUNNING, "resume")

    @workflow.update
    async def retry(self, request: RetryRequest) -> ControlAnswer:
        """Run failed documents again: all, by error code, or by ordinal."""
        await workflow.wait_condition(lambda: self._run is not None or self._problem is not None)
        if self._problem is not None:
            raise _refusal(BatchState.FAILED, "retry: its manifest could not be made")
        return self._answer(await self._retry(request))

    @retry.validator
    def _may_retry(self, request: RetryRequest) -> None:  # noqa: ARG002  # the SDK passes it
        self._refuse_unless(self._state not in {BatchState.PENDING, *_CLOSING}, "retry")

    @workflow.update
    def set_priority(self, request: PriorityRequest) -> ControlAnswer:
        """Order the documents still to start differently; 1 is the most urgent."""
        if self._is_new(request):
            self._set_priority(request.priority)
        return self._answer()

    @set_priority.validator
    def _may_set_priority(self, request: PriorityRequest) -> None:  # noqa: ARG002  # the SDK passes it
        self._refuse_unless(self._state not in _CLOSING, "set_priority")

    @workflow.signal
    def start_signal(self, request: ControlRequest) -> None:
        if self._is_new(request) and self._held:
            self._held = False
            self._wake()

    @workflow.signal
    def pause_signal(self, request: ControlRequest) -> None:
        if self._is_new(request) and self._state in _RUNNING:
            self._set_paused(True)

    @workflow.signal
    def resume_signal(self, request: ControlRequest) -> None:
        if self._is_new(request) and self._state in _RUNNING:
            self._set_paused(False)

    @workflow.signal
    async def retry_signal(self, request: RetryRequest) -> None:
        await workflow.wait_condition(lambda: self._run is not None or self._problem is not None)
        if self._problem is None and self._state not in {BatchState.PENDING, *_CLOSING}:
            await self._retry(request)

    @workflow.signal
    def set_priority_signal(self, request: PriorityRequest) -> None:
        if self._is_new(request):
            self._set_priority(request.priority)

    def _refuse_unless(self, allowed: bool, action: str) -> None:
        if not allowed:
            raise _refusal(self._state, action)

    def _is_new(self, request: ControlRequest) -> bool:
        """Remember a request id; False when it took effect before."""
        if request.request_id in self._handled:
            return False
        self._handled[request.request_id] = None
        while len(self._handled) > REMEMBERED_REQUESTS:
            del self._handled[next(iter(self._handled))]
        return True

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused
        if self._run is not None:
            self._run.paused = paused
        self._wake()

    def _set_priority(self, priority: int) -> None:
        self._priority = priority
        if self._run is not None:
            self._run.priority = priority
        self._wake()

    async def _retry(self, request: RetryRequest) -> int:
        run = self._run
        if run is None or not self._is_new(request):
            return 0
        ordinals = list(self._ledger.failed(request.codes, request.ordinals))
        if request.include_cancelled:
            ordinals += self._ledger.where(DocumentStatus.CANCELLED)
        if not ordinals:
            return 0
        self._retry_round += 1
        run.retry_round = self._retry_round
        for ordinal in ordinals:
            self._ledger.move(ordinal, DocumentStatus.PENDING)
        self._changed()
        # None may end before the catalog knows that it runs again.
        with run.dispatch_held():
            await workflow.execute_activity_method(
                RecordActivities.reset_documents,
                ResetDocumentsInput(
                    tenant_id=self._spec.tenant_id, batch_id=self._spec.batch_id, ordinals=encode_bitmap(ordinals)
                ),
                summary=f"{len(ordinals)} documents",
                **RECORDS,
            )
        return len(ordinals)

    def _wake(self) -> None:
        if self._run is not None:
            self._run.wake()
        self._changed()

    def _answer(self, affected: int = 0) -> ControlAnswer:
        return ControlAnswer(state=self._state, progress=self._progress(), affected=affected)


def _refusal(state: BatchState, action: str) -> ApplicationError:
    return to_application_error(
        InvalidStateError(
            f"The batch is {state.value} and cannot {action.replace('_', ' ')}.", current_status=state.value
        )
    )


def _problem_of(error: ActivityError) -> BatchProblem:
    cause = error.cause
    if not isinstance(cause, ApplicationError):
        return BatchProblem(code=IngatherError.code, message="The manifest could not be made.")
    facts = cause.details[0] if cause.details else {}
    return BatchProblem(
        code=cause.type or IngatherError.code, message=cause.message, action=str(facts.get("action", ""))
    )

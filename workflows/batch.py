"""A batch: documents in, each stored, parsed, embedded and made searchable; none lost.

The story. Build the manifest (expand archives, fix names and order), wait for ``start``
where the batch is held and for a place among the tenant's batches, run every document as an
activity of its own, make finished ones searchable while the rest still run, write the report,
close.

What is promised. ``total = pending + in_flight + done + failed + skipped + cancelled`` in
every answer. A document that cannot be ingested is a result, not an accident: nothing here
fails because a document did. A crash of any worker or server costs the time to notice it.

What survives. Everything: the state is this workflow's history. It continues as new only
when nothing is in flight, no handler runs and the server asks for it; ledger, journal tail,
paused flag, round, handled request ids and which documents packs sent back travel along.

Messages. Updates ``start``, ``seal``, ``pause``, ``resume``, ``retry``, ``set_priority`` answer
with the new state; signals of the same meaning are for when an update got no answer in time, and
carry the same request id. Each is on record before the batch ends. The signal ``added`` tells an open batch how much it has,
``listener_added`` that its events are for somebody now, ``place_granted`` comes from the tenant's line, ``child_quiet``
from a child whose pause is complete. Cancel is
Temporal's own. Queries ``progress`` and ``outcomes``.
A closed batch is opened again by starting the same workflow id with ``reopen`` and ``retry``.
"""

import asyncio

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.failures import to_application_error
    from activities.manifest import ManifestActivities
    from activities.records import RecordActivities
    from ingather.domain.audit import retry_details, seal_details
    from ingather.domain.bitmap import encode_bitmap
    from ingather.models.audit import THROUGH_TEMPORAL, AuditType
    from ingather.models.batch import (
        BatchProblem,
        BatchProgress,
        BatchState,
        BatchSummary,
    )
    from ingather.models.engine import BATCH_WORKFLOW, CHILD_QUIET
    from ingather.models.errors import IngatherError, InvalidStateError, ValidationFailedError
    from ingather.models.messages import (
        AddedRequest,
        BatchInput,
        BuildManifestInput,
        BuildManifestOutput,
        ChildQuiet,
        ClosedBatch,
        ControlAnswer,
        ControlNote,
        ControlRequest,
        FinishBatchInput,
        ListenerAdded,
        OutcomesPage,
        PlaceGranted,
        PriorityRequest,
        ReadManifestInput,
        ReadManifestOutput,
        ReopenBatchInput,
        ResetDocumentsInput,
        RetryRequest,
        SealRequest,
    )
    from workflows.audit_trail import AuditTrail
    from workflows.book import BatchBook
    from workflows.children import ChildRun
    from workflows.options import MANIFEST, PAGE, RECORDS
    from workflows.pipelines import PIPELINES
    from workflows.sheets import SheetStages
    from workflows.visibility import SHOWS_GROWTH, progress_memo

_STARTED = frozenset(
    {BatchState.QUEUED, BatchState.RUNNING, BatchState.RETRYING, BatchState.PAUSING, BatchState.PAUSED}
)
_CLOSING = frozenset({BatchState.CANCELLING, BatchState.CANCELLED})
_AUDITED = "messages are audited"
"""The change since which a batch has the messages it took recorded."""
_HEARD_LATER = "who listens later is heard of"
"""The change since which a batch takes notice of a new listener."""
_CANCELLED_EMPTY = "a batch that is cancelled without documents ends as cancelled"
"""The change since which it does: it ended as completed."""
_FORGETS_IGNORED = "a signal that changed nothing may be sent again"
"""The change since which it may: its request id counted as handled."""
_NO_LATE_SEAL = "no seal once a cancel is under way"
"""The change since which there is none: it replaced a ledger whose counts were written already."""
_ENDS_ONCE = "a cancel after the last word changes nothing"
"""The change since which it does not, nor while it is written: the batch was ended, and told, a second time."""
_LONGEST_REASON = 200


@workflow.defn(name=BATCH_WORKFLOW)
class BatchWorkflow:
    @workflow.init
    def __init__(self, batch: BatchInput) -> None:
        self._book = BatchBook(batch)
        self._trail = AuditTrail(batch.spec)
        self._is_reporting = False
        self._end: ClosedBatch | None = None
        """How the batch ends, once that is being written; a retry takes it back."""

    @workflow.run
    async def run(self, batch: BatchInput) -> BatchSummary:
        try:
            await self._open(batch)
            while True:
                await self._take_place()
                await self._run_documents()
                summary = await self._close()
                # A retry may have come while the report was written.
                await self._messages_settled()
                if self._book.problem is not None or self._book.ledger.next_pending() is None:
                    break
                _raise_if_cancelled()
                self._book.finalizing = False
        except (Exception, asyncio.CancelledError) as error:
            # A cancel surfaces as asyncio's error, or as the error of the activity it interrupted.
            if not is_cancelled_exception(error):
                raise
            summary = await self._cancel(batch)
            if summary.state is BatchState.CANCELLED:
                self._book.publish_end(summary)
                raise
        self._book.publish_end(summary)
        return summary

    # --- Steps --------------------------------------------------------------------------

    async def _open(self, batch: BatchInput) -> None:
        """Bring the book to where it belongs: from a new manifest, an earlier run, or a closed batch."""
        book = self._book
        if batch.carried is not None:
            book.restore()
        elif batch.reopen:
            await self._reopen()
            if not book.has_manifest and book.problem is None:
                # It was cancelled while the manifest was made; what is in it is as cancelled as the batch was.
                await self._build_manifest()
                book.cancel_pending()
        else:
            book.changed()
            await self._sealed()
            if not book.held:
                book.place.ask()  # the manifest is made meanwhile
            await self._build_manifest()
        _raise_if_cancelled()
        if book.problem is not None:
            return
        if book.is_large:
            book.begin_children()
        else:
            book.begin_documents(await self._read_manifest())
        book.changed()
        if batch.reopen and not batch.carried:
            # The retry that opened the batch again waits for this ledger; let it speak first.
            await workflow.wait_condition(workflow.all_handlers_finished)
        await workflow.wait_condition(lambda: not book.held)

    async def _sealed(self) -> None:
        """Wait for the seal of an open batch; show meanwhile what came in too soon after the last time."""
        book = self._book
        while book.open:
            await workflow.wait_condition(lambda: not book.open or book.growth_due_in is not None)
            due_in = book.growth_due_in
            if due_in is None:
                continue
            try:
                await workflow.wait_condition(lambda: not book.open, timeout=due_in, timeout_summary=SHOWS_GROWTH)
            except TimeoutError:
                book.changed()

    async def _take_place(self) -> None:
        """Wait for a place, where there is something to run in it."""
        book = self._book
        if book.problem is not None:
            return
        if book.ledger.next_pending() is not None:
            await book.place.acquire()
        if book.started_at is None:
            book.started_at = workflow.now()
        book.changed()

    async def _build_manifest(self) -> None:
        spec = self._book.spec
        if spec.pipeline not in PIPELINES:
            self._book.fail_all(_unknown_pipeline(spec.pipeline))
            return
        stages = self._stages
        try:
            manifest = await (stages.make_manifest(spec) if stages is not None else self._make_manifest())
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self._book.fail_all(_problem_of(error))
        else:
            self._book.take_manifest(manifest)

    async def _make_manifest(self) -> BuildManifestOutput:
        spec = self._book.spec
        return await workflow.execute_activity_method(
            ManifestActivities.build_manifest,
            BuildManifestInput(
                tenant_id=spec.tenant_id,
                batch_id=spec.batch_id,
                collection=spec.collection,
                max_documents=spec.max_documents,
                max_file_bytes=spec.max_file_bytes,
                metadata_rules_key=spec.metadata_rules_key,
            ),
            summary=f"{spec.submitted_count} submitted",
            **MANIFEST,
        )

    @property
    def _stages(self) -> SheetStages | None:
        """What the pipeline does before and after its documents, where that is not the ordinary."""
        pipeline = PIPELINES.get(self._book.spec.pipeline)
        return pipeline.stages if pipeline is not None else None

    async def _reopen(self) -> None:
        """Take the closed batch's state."""
        spec = self._book.spec
        closed = await workflow.execute_activity_method(
            RecordActivities.reopen_batch,
            ReopenBatchInput(tenant_id=spec.tenant_id, batch_id=spec.batch_id),
            **RECORDS,
        )
        self._book.reopen(closed)

    async def _read_manifest(self) -> ReadManifestOutput:
        spec, ordinals = self._book.spec, encode_bitmap(range(len(self._book.ledger)))
        return await workflow.execute_activity_method(
            ManifestActivities.read_manifest,
            ReadManifestInput(tenant_id=spec.tenant_id, batch_id=spec.batch_id, ordinals=ordinals),
            **PAGE,
        )

    async def _run_documents(self) -> None:
        """Run until every document ended and every finished one is searchable."""
        documents = self._book.documents
        while documents is not None and await self._has_more():
            await documents.run()
            if documents.draining:
                await self._messages_settled()
                workflow.continue_as_new(
                    BatchInput(spec=self._book.spec, carried=self._book.carried()),
                    # An upserted memo does not travel by itself; search attributes do.
                    memo=progress_memo(self._book.progress()),
                )

    async def _has_more(self) -> bool:
        """Whether anything is pending, with what a retry sets back that is still being passed on to children."""
        if not workflow.all_handlers_finished():
            await workflow.wait_condition(workflow.all_handlers_finished)
        return self._book.ledger.next_pending() is not None

    async def _close(self) -> BatchSummary:
        """Give the place back, write the report and the catalog's last word."""
        book = self._book
        book.finalizing = True
        book.changed()
        closed = book.closed()
        self._is_reporting = True
        # Beside the report: storage that is away must not keep the next batch waiting too.
        releasing = asyncio.create_task(book.place.release())
        stages = self._stages
        try:
            if stages is not None and book.has_manifest:
                await stages.finish(book.spec, closed)
            self._end = closed
            summary = await self._write_end(closed)
            await releasing
            if stages is not None:
                await stages.conclude(book.spec, closed.summary)
        finally:
            self._is_reporting = False
        return summary

    async def _write_end(self, closed: ClosedBatch) -> BatchSummary:
        """The report and the catalog's last word; the same again changes nothing."""
        spec = self._book.spec
        output = await workflow.execute_activity_method(
            RecordActivities.finish_batch,
            FinishBatchInput(tenant_id=spec.tenant_id, batch_id=spec.batch_id, closed=closed),
            summary=closed.summary.state.value,
            **RECORDS,
        )
        return closed.summary.model_copy(update={"report_key": output.report_key})

    async def _messages_settled(self) -> None:
        """Every message that was taken is carried out and on record, and what came of it is told."""
        await workflow.wait_condition(
            lambda: workflow.all_handlers_finished() and self._trail.is_written and self._book.news.is_told
        )

    async def _cancel(self, batch: BatchInput) -> BatchSummary:
        """Stop what runs, keep what is finished, count the rest as cancelled, write the report."""
        book = self._book
        ends_so = self._end if self._end is not None and workflow.patched(_ENDS_ONCE) else None
        self._note_cancel()
        if ends_so is not None:
            return await self._end_as_said(ends_so)
        book.cancelling = True
        book.changed()
        if book.documents is not None:
            await book.documents.stop()
        await book.place.release()
        # Only now: a retry under way may wait for a catalog that is away, and documents must not run on meanwhile.
        await workflow.wait_condition(workflow.all_handlers_finished)
        if batch.reopen and not book.is_reopened and batch.carried is None:
            # What had ended before stays as it was; without its state it would be counted as cancelled.
            await self._reopen()
        book.cancel_pending()
        if book.documents is not None:
            await book.documents.flush()
        if not book.ledger.counts.total and workflow.patched(_CANCELLED_EMPTY):
            book.ends_cancelled = True
        summary = await self._close()
        await workflow.wait_condition(lambda: self._trail.is_written and self._book.news.is_told)
        return summary

    async def _end_as_said(self, closed: ClosedBatch) -> BatchSummary:
        """End as was being written when the cancel came: it may be written, and told, by now. Take no retry any more.

        What was interrupted is made again, all of it safe to repeat.
        """
        book, stages = self._book, self._stages
        book.cancelling = True
        await book.place.release()
        summary = await self._write_end(closed)
        if stages is not None:
            await stages.conclude(book.spec, summary)
        await self._messages_settled()
        return summary

    # --- Queries --------------------------------------------------------------------------

    @workflow.query
    def progress(self) -> BatchProgress:
        """An exact snapshot."""
        return self._book.progress()

    @workflow.query
    def outcomes(self, after: int) -> OutcomesPage:
        """What happened from journal position ``after`` on, in order, up to 1,000 entries."""
        return self._book.outcomes(after)

    # --- Updates, and signals of the same meaning -------------------------------------------

    @workflow.update
    def start(self, request: ControlRequest) -> ControlAnswer:
        """Let a held batch run."""
        if self._book.is_new(request):
            self._note(AuditType.BATCH_STARTED, request)
            self._book.held = False
            self._wake()
        return self._answer()

    @start.validator
    def _may_start(self, request: ControlRequest) -> None:
        self._refuse_unless(self._book.state in {BatchState.PENDING, *_STARTED}, "start", request)

    @workflow.update
    def pause(self, request: ControlRequest) -> ControlAnswer:
        """Start no more documents; those in flight finish."""
        if self._book.is_new(request):
            self._note(AuditType.BATCH_PAUSED, request)
            self._set_paused(True)
        return self._answer()

    @pause.validator
    def _may_pause(self, request: ControlRequest) -> None:
        self._refuse_unless(self._book.state in _STARTED, "pause", request)

    @workflow.update
    def resume(self, request: ControlRequest) -> ControlAnswer:
        """Go on after a pause."""
        if self._book.is_new(request):
            self._note(AuditType.BATCH_RESUMED, request)
            self._set_paused(False)
        return self._answer()

    @resume.validator
    def _may_resume(self, request: ControlRequest) -> None:
        self._refuse_unless(self._book.state in _STARTED, "resume", request)

    @workflow.update
    def seal(self, request: SealRequest) -> ControlAnswer:
        """No more documents come to an open batch: it may run."""
        if self._book.is_new(request):
            self._seal(request)
        return self._answer()

    @seal.validator
    def _may_seal(self, request: SealRequest) -> None:
        self._refuse_unless(self._book.open and not self._book.cancelling, "seal", request)

    @workflow.update
    async def retry(self, request: RetryRequest) -> ControlAnswer:
        """Run failed documents again: all, by error code, or by ordinal; or every document, once none is under way."""
        await self._ready_for_retry()
        self._refuse_unless(not self._book.cancelling, "retry", request)
        if self._book.problem is not None:
            raise _refusal(BatchState.FAILED, "retry: its manifest could not be made")
        self._refuse_unless(not (request.include_done and self._is_under_way), "run everything again yet", request)
        return self._answer(await self._retry(request))

    @retry.validator
    def _may_retry(self, request: RetryRequest) -> None:
        self._refuse_unless(self._book.state not in {BatchState.PENDING, *_CLOSING}, "retry", request)

    @workflow.update
    def set_priority(self, request: PriorityRequest) -> ControlAnswer:
        """Order the documents still to start differently; 1 is the most urgent."""
        if self._book.is_new(request):
            self._set_priority(request)
        return self._answer()

    @set_priority.validator
    def _may_set_priority(self, request: PriorityRequest) -> None:
        self._refuse_unless(self._book.state not in _CLOSING, "set_priority", request)

    @workflow.signal
    def start_signal(self, request: ControlRequest) -> None:
        if self._takes(request, self._book.held):
            self._note(AuditType.BATCH_STARTED, request)
            self._book.held = False
            self._wake()

    @workflow.signal
    def pause_signal(self, request: ControlRequest) -> None:
        if self._takes(request, self._book.state in _STARTED):
            self._note(AuditType.BATCH_PAUSED, request)
            self._set_paused(True)

    @workflow.signal
    def resume_signal(self, request: ControlRequest) -> None:
        if self._takes(request, self._book.state in _STARTED):
            self._note(AuditType.BATCH_RESUMED, request)
            self._set_paused(False)

    @workflow.signal
    def seal_signal(self, request: SealRequest) -> None:
        is_too_late = self._book.cancelling and workflow.patched(_NO_LATE_SEAL)
        if self._takes(request, self._book.open and not is_too_late):
            self._seal(request)

    @workflow.signal
    def added(self, request: AddedRequest) -> None:
        """More documents were handed in to an open batch."""
        self._book.expect(request.document_count)
        self._book.changed()

    @workflow.signal
    def listener_added(self, _word: ListenerAdded) -> None:
        """Somebody listens from now on."""
        # A worker of before took no notice, and what it did since must stay as it was.
        if workflow.patched(_HEARD_LATER):
            self._book.news.is_heard = True

    @workflow.signal(name=CHILD_QUIET)
    def child_quiet(self, word: ChildQuiet) -> None:
        """A child tells that its pause is complete."""
        if isinstance(self._book.documents, ChildRun):
            self._book.documents.note_quiet(word)

    @workflow.signal
    def place_granted(self, granted: PlaceGranted) -> None:
        """The tenant's line says that it is this batch's turn."""
        self._book.place.grant(granted)

    @workflow.signal
    async def retry_signal(self, request: RetryRequest) -> None:
        await self._ready_for_retry()
        is_too_soon = request.include_done and self._is_under_way
        if self._book.problem is None and self._book.state not in {BatchState.PENDING, *_CLOSING} and not is_too_soon:
            await self._retry(request)

    @property
    def _is_under_way(self) -> bool:
        return self._book.documents is not None and self._book.documents.is_under_way

    @workflow.signal
    def set_priority_signal(self, request: PriorityRequest) -> None:
        if self._book.is_new(request):
            self._set_priority(request)

    def _takes(self, request: ControlRequest, allowed: bool) -> bool:
        """Whether a signal takes effect, once. One that its state does not allow may come again."""
        if not allowed and workflow.patched(_FORGETS_IGNORED):
            self._book.ignore(request)
            return False
        return self._book.is_new(request) and allowed

    def _refuse_unless(self, allowed: bool, action: str, request: ControlRequest) -> None:
        """A message that took effect before is answered again, whatever the state is now."""
        if not allowed and not self._book.was_handled(request):
            raise _refusal(self._book.state, action)

    def _set_paused(self, paused: bool) -> None:
        self._book.paused = paused
        if self._book.documents is not None:
            self._book.documents.paused = paused
        self._wake()

    def _seal(self, request: SealRequest) -> None:
        self._note(AuditType.BATCH_SEALED, request, which="", **seal_details(request))
        self._book.seal(request)
        self._book.changed()

    def _set_priority(self, request: PriorityRequest) -> None:
        priority = request.priority
        self._note(AuditType.BATCH_PRIORITY_CHANGED, request, priority=priority, previous=self._book.priority)
        self._book.priority = priority
        self._book.place.reprioritise(priority)
        if self._book.documents is not None:
            self._book.documents.priority = priority
        self._wake()

    async def _ready_for_retry(self) -> None:
        """Wait for the manifest, and for a report under way, whose last word must reach the catalog before the reset."""
        book = self._book
        await workflow.wait_condition(lambda: book.cancelling or (book.is_known and not self._is_reporting))

    async def _retry(self, request: RetryRequest) -> int:
        book = self._book
        documents = book.documents
        if documents is None or not book.is_new(request):
            return 0
        self._note(AuditType.BATCH_RETRIED, request, **retry_details(request))
        await documents.retry_running(request)
        ordinals = book.ledger.reset(
            request.codes,
            request.ordinals,
            include_cancelled=request.include_cancelled,
            include_done=request.include_done,
        )
        if not ordinals:
            return 0
        self._end = None
        book.retry_round += 1
        documents.retry_round = book.retry_round
        documents.forgive(ordinals)
        book.finalizing = False
        book.changed()
        # None may end before the catalog knows that it runs again.
        with documents.dispatch_held():
            await workflow.execute_activity_method(
                RecordActivities.reset_documents,
                ResetDocumentsInput(
                    tenant_id=book.spec.tenant_id, batch_id=book.spec.batch_id, ordinals=encode_bitmap(ordinals)
                ),
                summary=f"{len(ordinals)} documents",
                **RECORDS,
            )
        return len(ordinals)

    def _note(self, kind: AuditType, request: ControlRequest, *, which: str | None = None, **details: object) -> None:
        """Have a message recorded that takes effect now, under the id its event has in the API too."""
        if workflow.patched(_AUDITED):
            which = request.request_id if which is None else which
            by = request.by or THROUGH_TEMPORAL
            self._trail.add(ControlNote(kind=kind, which=which, by=by, at=workflow.now(), details=details))

    def _note_cancel(self) -> None:
        """A cancellation brings its request as its reason; one that came through Temporal itself brings what was written there."""
        reason = workflow.cancellation_reason() or ""
        details = {}
        try:
            request = ControlRequest.model_validate_json(reason)
        except ValidationError:
            request = ControlRequest(request_id=workflow.info().run_id)
            details = {"reason": reason[:_LONGEST_REASON]} if reason else {}
        self._note(AuditType.BATCH_CANCELLED, request, **details)

    def _wake(self) -> None:
        if self._book.documents is not None:
            self._book.documents.wake()
        self._book.changed()

    def _answer(self, affected: int = 0) -> ControlAnswer:
        return ControlAnswer(state=self._book.state, progress=self._book.progress(), affected=affected)


def _raise_if_cancelled() -> None:
    """An activity that ends well although it was asked to stop swallows the cancel; this brings it back."""
    if workflow.cancellation_reason() is not None:
        raise asyncio.CancelledError


def _unknown_pipeline(name: str) -> BatchProblem:
    return BatchProblem(
        code=ValidationFailedError.code,
        message=f"There is no pipeline {name!r}.",
        action=f"Choose from: {', '.join(PIPELINES)}.",
    )


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

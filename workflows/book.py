"""The book of a batch: all its state in one place, and what the world is told of it.

What can be derived is derived: the batch's state from its flags and counts, the counts from
the ledger. What must survive a continue-as-new, or the end of the batch, is written out by
``carried`` and ``closed`` and read back by ``restore`` and ``reopen``.
"""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from ingather.domain.batch_state import final_state
    from ingather.domain.batch_sums import rested_ms
    from ingather.domain.bitmap import decode_bitmap, encode_bitmap
    from ingather.domain.ledger import Ledger
    from ingather.models.batch import (
        MAX_DOCUMENTS_PER_WORKFLOW,
        BatchProblem,
        BatchProgress,
        BatchSpec,
        BatchState,
        BatchSummary,
        SourceSlice,
    )
    from ingather.models.document import DocumentStatus
    from ingather.models.messages import (
        BatchInput,
        BuildManifestOutput,
        CarriedState,
        ClosedBatch,
        ControlRequest,
        OutcomesPage,
        ReadManifestOutput,
        SealRequest,
    )
    from workflows.children import ChildRun
    from workflows.documents import DocumentRun, Share, begins_early
    from workflows.indexing import INDEX_BATCH_SIZE, packed_index_batch_size
    from workflows.journal import Journal
    from workflows.news import News
    from workflows.packs import PackPlan, large_at_once, pack_limit
    from workflows.pipelines import PIPELINES
    from workflows.place import Place
    from workflows.visibility import Visibility
    from workflows.window import MAX_IN_FLIGHT

REMEMBERED_REQUESTS = 200
_CARRIED_FIRST = "what was carried comes before the messages"
"""The change since which it does: a message of a later run's first moment was forgotten when the rest was read."""
_REOPENED_FIRST = "a batch that is opened again says nothing before it knows what it was"
"""The change since which it does not: a message of that moment was noted in a journal that was then thrown away."""


class BatchBook:
    """Where a batch stands.

    Args:
        batch: the workflow's input, with what an earlier run carried: messages of the run's first task are handled
            before ``run`` begins, and must find it.
    """

    def __init__(self, batch: BatchInput) -> None:
        self.spec: BatchSpec = batch.spec
        self.ledger = Ledger(batch.spec.submitted_count)
        self.journal = Journal()
        self.news = News(batch.spec)
        self.documents: DocumentRun | ChildRun | None = None
        """Set once the manifest is known."""
        self.sources: tuple[SourceSlice, ...] = ()
        self.has_manifest = False
        """The ledger's ordinals are documents; before, they stand for what was handed in."""
        self.is_reopened = False
        """The state of the closed batch was taken over."""
        self.held = batch.spec.hold and not batch.reopen
        self.open = batch.spec.open and not batch.reopen and batch.carried is None
        """Documents may still be added."""
        self.paused = False
        self.cancelling = False
        self.ends_cancelled = False
        """A cancel came before there was any document."""
        self.finalizing = False
        self.problem: BatchProblem | None = None
        self.priority = batch.spec.priority
        self.retry_round = 0
        self.place = Place(
            batch.spec,
            self.changed,
            needed=batch.spec.pipeline not in PIPELINES or PIPELINES[batch.spec.pipeline].takes_place,
            # Only a batch that has its place continues as new.
            granted=batch.carried is not None,
        )
        self.queued_at: datetime | None = None
        self.started_at: datetime | None = None
        self.rested_ms = 0
        self._next_child = 0
        self._alone: tuple[int, ...] = ()
        """Documents that ran alone in an earlier run of this batch."""
        self._sent_back: tuple[int, ...] = ()
        """Documents that a pack sent back."""
        self._kills: dict[int, int] = {}
        """What they killed before, by ordinal."""
        self._created_at = workflow.now()
        self._version = 0
        self._handled: dict[str, None] = {}
        self._ignored: dict[str, int] = {}
        """Length of the history when a signal changed nothing, by request id."""
        self._noted_state: BatchState | None = None
        self._visibility = Visibility(batch.spec)
        self._awaits_state = batch.reopen and batch.carried is None
        """The closed batch that it opens again is not known yet."""
        self._to_restore = batch.carried
        if self._to_restore is not None and workflow.patched(_CARRIED_FIRST):
            self.restore()
            self.place.reprioritise(self.priority)

    @property
    def state(self) -> BatchState:
        if self.cancelling:
            return BatchState.CANCELLING
        if self.finalizing:
            return BatchState.FINALIZING
        if self.held or self.open:
            return BatchState.PENDING
        if self.paused:
            is_busy = self.documents is not None and self.documents.is_busy
            return BatchState.PAUSING if is_busy else BatchState.PAUSED
        if not self.place.granted:
            return BatchState.QUEUED
        return BatchState.RETRYING if self.retry_round else BatchState.RUNNING

    @property
    def is_large(self) -> bool:
        """More documents than one workflow runs itself."""
        return len(self.ledger) > MAX_DOCUMENTS_PER_WORKFLOW

    @property
    def waiting_for(self) -> str | None:
        """Whose word it waits for."""
        match self.state:
            case BatchState.PENDING:
                return "seal" if self.open else "start"
            case BatchState.QUEUED:
                return "place"
            case BatchState.PAUSED:
                return "resume"
            case _:
                return None

    @property
    def is_known(self) -> bool:
        """The manifest is known, or known to be impossible."""
        return self.documents is not None or self.problem is not None

    def changed(self) -> None:
        """Something happened: note a new state, publish, and stop dispatch when history grew too long.

        Not before the state of a batch that is opened again is known: what was noted would be noted of another.
        """
        if self._awaits_state and workflow.patched(_REOPENED_FIRST):
            return
        self._version += 1
        if self.queued_at is None and not (self.held or self.open):
            self.queued_at = workflow.now()
        state = self.state
        if state is not self._noted_state:
            previous, self._noted_state = self._noted_state, state
            self.news.note(previous, self.progress(), self.journal.next)
            self.journal.state(state)
        self._visibility.publish(self.progress())
        documents = self.documents
        if documents is not None and not documents.draining and documents.should_drain:
            documents.draining = self.ledger.next_pending() is not None and not self.cancelling

    def progress(self) -> BatchProgress:
        """An exact snapshot."""
        documents = self.documents
        return BatchProgress(
            state=self.state,
            counts=self.ledger.counts,
            version=self._version,
            priority=self.priority,
            failures_by_code=self.ledger.failures_by_code,
            in_flight=documents.in_flight if documents else (),
            children=documents.children if documents else (),
            waiting_for=self.waiting_for,
            sources=self.ledger.sources(self.sources),
            retry_round=self.retry_round,
            indexed=documents.searchable_count if documents else 0,
            problem=self.problem,
            created_at=self._created_at,
            queued_at=self.queued_at,
            started_at=self.started_at,
            rested_ms=self.rested_ms,
        )

    def outcomes(self, after: int) -> OutcomesPage:
        """What the query of that name answers: nothing yet where the journal that it goes on with is not known."""
        progress = self.progress()
        if self._awaits_state:
            return OutcomesPage(first=after, next=after, entries=(), more=False, progress=progress)
        return self.journal.answer(after, progress)

    def begin_documents(self, manifest: ReadManifestOutput) -> None:
        """From now on documents can run, here."""
        options = self.spec.options
        wants_packs = options.pack_small and options.packs_documents and self.retry_round == 0
        packs = wants_packs and PIPELINES[self.spec.pipeline].process_pack is not None
        packable = set(decode_bitmap(manifest.packable)) if packs else set()
        window = options.workers or MAX_IN_FLIGHT
        ahead = large_at_once(window)
        plan = PackPlan(packable, pack_limit(len(packable)), large=begins_early(manifest, ahead), ahead=ahead)
        for ordinal in self._alone:
            plan.run_alone(ordinal, kills=self._kills.get(ordinal, 0))
        for ordinal in self._sent_back:
            plan.send_back(ordinal)
        in_sources = frozenset(decode_bitmap(manifest.in_sources))
        ordinals = range(len(self.ledger))
        at_once = packed_index_batch_size(len(ordinals)) if plan.packs else INDEX_BATCH_SIZE
        share = Share(ordinals, manifest.filenames, plan, window, in_sources, at_once)
        self._begin(DocumentRun(self.spec, self.ledger, share, self.journal, self.changed))

    def begin_children(self) -> None:
        """From now on documents can run, in children."""
        sent_back = {ordinal: self._kills.get(ordinal, 0) for ordinal in self._sent_back}
        children = ChildRun(
            self.spec, self.ledger, self.journal, self.changed, first_index=self._next_child, sent_back=sent_back
        )
        self._begin(children)

    def _begin(self, documents: DocumentRun | ChildRun) -> None:
        documents.paused, documents.priority, documents.retry_round = self.paused, self.priority, self.retry_round
        self.documents = documents

    @property
    def growth_due_in(self) -> timedelta | None:
        """How long until what was handed in of late may be shown; None where all of it is."""
        return self._visibility.growth_due_in

    def expect(self, document_count: int) -> None:
        """So many have been handed in so far."""
        if self.open and document_count > len(self.ledger):
            self.ledger = Ledger(document_count)

    def seal(self, request: SealRequest) -> None:
        """No more are handed in."""
        self.open = False
        self.ledger = Ledger(request.document_count)
        size_bytes = max(self.spec.submitted_bytes, request.size_bytes)
        # Also for the next run, should a retry ask for a place once more there.
        self.spec = self.spec.model_copy(update={"submitted_bytes": size_bytes})
        self.place.submitted_bytes = size_bytes

    def take_manifest(self, manifest: BuildManifestOutput) -> None:
        """From now on the ledger counts documents."""
        self.ledger = Ledger(manifest.document_count)
        self.sources = manifest.sources
        self.has_manifest = True

    def fail_all(self, problem: BatchProblem) -> None:
        """The batch cannot run: everything handed in counts as failed, for this one reason."""
        self.problem = problem
        self.ledger.move_all(DocumentStatus.PENDING, DocumentStatus.FAILED, problem.code)

    def cancel_pending(self) -> None:
        """What has not started will not."""
        if self.documents is not None:
            self.documents.cancel_pending()
        else:
            self.ledger.move_all(DocumentStatus.PENDING, DocumentStatus.CANCELLED)

    def publish_end(self, summary: BatchSummary) -> None:
        """Show how it ended: the workflow's memo and search attributes stay readable after it closed."""
        self._visibility.publish(
            self.progress().model_copy(
                update={"state": summary.state, "version": summary.version, "ended_at": summary.ended_at}
            )
        )

    def is_new(self, request: ControlRequest) -> bool:
        """Remember a request id; False when it took effect before, or was ignored a moment ago."""
        if request.request_id in self._handled:
            return False
        if self._ignored.get(request.request_id) == workflow.info().get_current_history_length():
            return False
        self._handled[request.request_id] = None
        while len(self._handled) > REMEMBERED_REQUESTS:
            del self._handled[next(iter(self._handled))]
        return True

    def ignore(self, request: ControlRequest) -> None:
        """Of a signal that changed nothing, the update that it was sent in place of changes nothing either.

        Both wait for a worker, and come in one task; what comes later was sent again.
        """
        self._ignored[request.request_id] = workflow.info().get_current_history_length()
        while len(self._ignored) > REMEMBERED_REQUESTS:
            del self._ignored[next(iter(self._ignored))]

    def was_handled(self, request: ControlRequest) -> bool:
        """Whether a request id took effect before."""
        return request.request_id in self._handled

    # --- Over the end of a run, and back --------------------------------------------------

    def carried(self) -> CarriedState:
        """What the next run of this batch goes on from."""
        first, entries = self.journal.tail()
        alone, sent_back, kills = self._out_of_packs()
        ledger, failures = self.ledger.written()
        return CarriedState(
            ledger=ledger,
            failures=failures,
            sources=self.sources,
            state=self.state,
            paused=self.paused,
            priority=self.priority,
            retry_round=self.retry_round,
            next_child=self.documents.next_index if isinstance(self.documents, ChildRun) else 0,
            version=self._version,
            journal_first=first,
            journal=entries,
            handled_requests=tuple(self._handled),
            alone=encode_bitmap(alone),
            sent_back=encode_bitmap(sent_back),
            kills=kills,
            created_at=self._created_at,
            queued_at=self.queued_at,
            started_at=self.started_at,
            rested_ms=self.rested_ms,
            is_heard=self.news.is_heard,
        )

    def _out_of_packs(self) -> tuple[list[int], list[int], dict[int, int]]:
        """Documents that may no longer share an activity, those that packs sent back, and what each killed there."""
        match self.documents:
            case DocumentRun(plan=plan):
                return plan.alone, plan.sent_back, plan.all_kills
            case ChildRun(sent_back=sent_back):
                return [], list(sent_back), {ordinal: kills for ordinal, kills in sent_back.items() if kills}
            case _:
                return [], [], {}

    def restore(self) -> None:
        """Go on from where an earlier run stopped, unless that has been done."""
        carried, self._to_restore = self._to_restore, None
        if carried is None:
            return
        self.ledger = Ledger.load(carried.ledger, carried.failures)
        self.journal = Journal(carried.journal_first, carried.journal)
        self.sources = carried.sources
        self.has_manifest = True
        self.held = False
        self.paused = carried.paused
        self.priority = carried.priority
        self.retry_round = carried.retry_round
        self._next_child = carried.next_child
        self._alone, self._kills = tuple(decode_bitmap(carried.alone)), carried.kills
        self._sent_back = tuple(decode_bitmap(carried.sent_back))
        # A worker of before did not note the former.
        self.queued_at = carried.queued_at or carried.started_at
        self.started_at = carried.started_at
        self.rested_ms = carried.rested_ms
        self._created_at = carried.created_at
        self._version = carried.version
        self._handled = dict.fromkeys(carried.handled_requests)
        self._noted_state = carried.state
        self.news.is_heard = self.news.is_heard or carried.is_heard

    def closed(self) -> ClosedBatch:
        """How the batch ends, with what a later retry needs to open it again."""
        counts = self.ledger.counts
        ledger, failures = self.ledger.written() if self.has_manifest else ("", {})
        return ClosedBatch(
            summary=BatchSummary(
                batch_id=self.spec.batch_id,
                state=final_state(counts, self.problem, was_cancelled=self.ends_cancelled),
                counts=counts,
                version=self._version + 1,
                failures_by_code=self.ledger.failures_by_code,
                sources=self.ledger.sources(self.sources),
                retry_round=self.retry_round,
                problem=self.problem,
                queued_at=self.queued_at,
                started_at=self.started_at,
                ended_at=workflow.now(),
                rested_ms=self.rested_ms,
            ),
            has_manifest=self.has_manifest,
            ledger=ledger,
            failures=failures,
            sources=self.sources,
            journal_length=self.journal.next,
            handled_requests=tuple(self._handled),
            created_at=self._created_at,
        )

    def reopen(self, closed: ClosedBatch) -> None:
        """Go on from a batch that had ended."""
        self.is_reopened, self._awaits_state = True, False
        self.has_manifest = closed.has_manifest
        if self.has_manifest:
            self.ledger = Ledger.load(closed.ledger, closed.failures)
        if closed.summary.problem is not None:
            self.fail_all(closed.summary.problem)
        self.journal = Journal(closed.journal_length)
        self.sources = closed.sources
        self.retry_round = closed.summary.retry_round
        self.queued_at = closed.summary.queued_at or closed.summary.started_at
        self.started_at = closed.summary.started_at
        self.rested_ms = rested_ms(closed.summary, workflow.now())
        self._created_at = closed.created_at or self._created_at
        self._version = closed.summary.version
        self._handled = dict.fromkeys(closed.handled_requests) | self._handled

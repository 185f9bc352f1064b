"""The documents of one ledger, through their pipeline and into the index.

A batch of up to 1,000 documents runs one of these itself; a larger one will run one in
each of its children. It keeps no state that the ledger does not hold, but for what is
done and not yet searchable.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

with workflow.unsafe.imports_passed_through():
    from activities.index import IndexActivities
    from ingather.domain.bitmap import decode_bitmap, encode_bitmap
    from ingather.domain.ledger import Ledger
    from ingather.models.batch import BatchSpec
    from ingather.models.document import DocumentStatus
    from ingather.models.errors import (
        BlobNotFoundError,
        DocumentTimeoutError,
        IndexUnavailableError,
        IngatherError,
        error_classes,
    )
    from ingather.models.identity import activity_id_for
    from ingather.models.messages import (
        IndexDocumentsInput,
        IndexDocumentsOutput,
        IngestDocumentInput,
        IngestDocumentOutput,
    )
    from workflows.journal import Journal
    from workflows.options import INDEX, ingest_options
    from workflows.pipelines import PIPELINES
    from workflows.window import Window

INDEX_BATCH_SIZE = 100
INDEX_INTERVAL = timedelta(seconds=5)

MAX_SUMMARY_BYTES = 400
"""What the Temporal UI shows of an activity's summary."""


class DocumentRun:
    """Dispatches pending documents, records how they end, makes finished ones searchable.

    Args:
        spec: what the batch asked for.
        ledger: where every document stands; changed here, in place.
        filenames: by ordinal, for the summaries people read in the Temporal UI.
        journal: where starts and ends are noted.
        on_change: called once an activation in which something changed.
    """

    def __init__(
        self, spec: BatchSpec, ledger: Ledger, filenames: list[str], journal: Journal, on_change: Callable[[], None]
    ) -> None:
        self.priority = spec.priority
        self.retry_round = 0
        self.paused = False
        self.draining = False
        """Start nothing more, so that the workflow can continue as new."""
        self._spec = spec
        self._ledger = ledger
        self._filenames = filenames
        self._journal = journal
        self._on_change = on_change
        self._pipeline = PIPELINES[spec.pipeline]
        self._options = ingest_options(spec.options)
        self._window: Window[IngestDocumentOutput] = Window(spec.options.max_workers, self._document_ended)
        self._unindexed: list[int] = []
        self._indexing: asyncio.Task[IndexDocumentsOutput] | None = None
        self._indexing_count = 0
        self._index_timer: asyncio.Task[None] | None = None
        self._index_due = False
        self._stopping = False
        self._holds = 0
        self._ticks = 0

    @property
    def in_flight(self) -> tuple[int, ...]:
        return self._window.keys

    @property
    def searchable_count(self) -> int:
        """Done documents that search can find."""
        return self._ledger.count(DocumentStatus.DONE) - len(self._unindexed) - self._indexing_count

    @contextmanager
    def dispatch_held(self) -> Iterator[None]:
        """Start nothing while the block runs."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self.wake()

    def wake(self) -> None:
        """Have the dispatcher look again: something changed."""
        self._ticks += 1

    async def run(self) -> None:
        """Work until nothing is pending, in flight or unindexed; or, when draining, until nothing is under way."""
        while True:
            seen = self._ticks
            self._dispatch()
            self._index_what_is_due()
            self._on_change()
            if self._is_settled() and (self.draining or self._ledger.next_pending() is None):
                break
            await workflow.wait_condition(lambda seen=seen: self._ticks != seen)  # type: ignore[misc]  # bound default
        self._stop_index_timer()

    async def stop(self) -> None:
        """Stop what is in flight, and start nothing more."""
        self._stopping = True
        self._window.cancel()
        await self._window.drained()

    async def flush(self) -> None:
        """Make searchable what was finished before the stop."""
        while self._unindexed or self._indexing is not None:
            seen = self._ticks
            self._index_what_is_due()
            await workflow.wait_condition(lambda seen=seen: self._ticks != seen)  # type: ignore[misc]  # bound default
        self._stop_index_timer()

    def _dispatch(self) -> None:
        while not (self.paused or self.draining or self._holds) and self._window.has_room:
            ordinal = self._ledger.next_pending()
            if ordinal is None:
                return
            self._ledger.move(ordinal, DocumentStatus.IN_FLIGHT)
            self._journal.started(ordinal)
            self._window.add(ordinal, self._start(ordinal))

    def _start(self, ordinal: int) -> "workflow.ActivityHandle[IngestDocumentOutput]":
        spec = self._spec
        return workflow.start_activity_method(
            self._pipeline.process_document,
            IngestDocumentInput(
                tenant_id=spec.tenant_id,
                batch_id=spec.batch_id,
                ordinal=ordinal,
                collection=spec.collection,
                options=spec.options,
                retry_round=self.retry_round,
            ),
            activity_id=activity_id_for(ordinal, self.retry_round),
            summary=_summary(self._filenames[ordinal]),
            priority=self._temporal_priority(),
            **self._options,
        )

    def _temporal_priority(self) -> Priority:
        return Priority(priority_key=self.priority, fairness_key=self._spec.tenant_id)

    def _document_ended(self, ordinal: int, task: "asyncio.Task[IngestDocumentOutput]") -> None:
        status, code = outcome_of(task)
        if self._stopping and not _has_answer(task):
            # No worker could tell that it stopped (it died, or storage was away): it is stopped all the same.
            status, code = DocumentStatus.CANCELLED, None
        self._end(ordinal, status, code)

    def _end(self, ordinal: int, status: DocumentStatus, code: str | None) -> None:
        self._ledger.move(ordinal, status, code)
        self._journal.ended(ordinal, status, code)
        if status is DocumentStatus.DONE and self._pipeline.indexed:
            self._unindexed.append(ordinal)
        self.wake()

    # --- The index, in micro-batches, one at a time -------------------------------------

    def _index_what_is_due(self) -> None:
        if self._indexing is not None or not self._unindexed:
            return
        nothing_comes = not len(self._window) and (self.paused or self.draining or self._ledger.next_pending() is None)
        if len(self._unindexed) >= INDEX_BATCH_SIZE or self._index_due or nothing_comes:
            self._index_due = False
            self._index(self._unindexed[:INDEX_BATCH_SIZE])
        elif self._index_timer is None:
            self._index_timer = asyncio.create_task(self._wait_for_index_interval())

    async def _wait_for_index_interval(self) -> None:
        await workflow.sleep(INDEX_INTERVAL, summary="until the next index write")
        self._index_timer = None
        self._index_due = True
        self.wake()

    def _stop_index_timer(self) -> None:
        if self._index_timer is not None:
            self._index_timer.cancel()
            self._index_timer = None

    def _index(self, ordinals: list[int]) -> None:
        del self._unindexed[: len(ordinals)]
        self._indexing_count = len(ordinals)
        spec = self._spec
        self._indexing = workflow.start_activity_method(
            IndexActivities.index_documents,
            IndexDocumentsInput(
                tenant_id=spec.tenant_id,
                batch_id=spec.batch_id,
                collection=spec.collection,
                ordinals=encode_bitmap(ordinals),
            ),
            summary=f"{len(ordinals)} documents",
            priority=self._temporal_priority(),
            **INDEX,
        )
        self._indexing.add_done_callback(lambda task: self._indexed(ordinals, task))

    def _indexed(self, ordinals: Iterable[int], task: "asyncio.Task[IndexDocumentsOutput]") -> None:
        self._indexing = None
        self._indexing_count = 0
        if task.cancelled() or task.exception() is not None:
            # Half an hour of attempts: what cannot be found is not done. A retry by this code indexes again.
            for ordinal in ordinals:
                self._end(ordinal, DocumentStatus.FAILED, IndexUnavailableError.code)
        else:
            for ordinal in decode_bitmap(task.result().missing):
                self._end(ordinal, DocumentStatus.FAILED, BlobNotFoundError.code)
        self.wake()

    def _is_settled(self) -> bool:
        return not len(self._window) and not self._unindexed and self._indexing is None


def _has_answer(task: "asyncio.Task[IngestDocumentOutput]") -> bool:
    return not task.cancelled() and task.exception() is None


def outcome_of(task: "asyncio.Future[IngestDocumentOutput]") -> tuple[DocumentStatus, str | None]:
    """Status and error code of a document whose activity ended, however it did."""
    if task.cancelled():
        return DocumentStatus.CANCELLED, None
    error = task.exception()
    if error is None:
        return task.result().status, task.result().code
    if is_cancelled_exception(error):
        return DocumentStatus.CANCELLED, None
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ActivityTimeoutError):
        return DocumentStatus.FAILED, DocumentTimeoutError.code
    if isinstance(cause, ApplicationError) and cause.type in error_classes():
        return DocumentStatus.FAILED, cause.type
    return DocumentStatus.FAILED, IngatherError.code


def _summary(filename: str) -> str:
    return filename.encode()[:MAX_SUMMARY_BYTES].decode(errors="ignore")

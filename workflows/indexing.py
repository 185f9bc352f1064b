"""Making finished documents searchable while others still run: in micro-batches, one at a time."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.common import Priority

with workflow.unsafe.imports_passed_through():
    from activities.index import IndexActivities
    from ingather.domain.bitmap import decode_bitmap, encode_bitmap
    from ingather.models.batch import BatchSpec
    from ingather.models.errors import BlobNotFoundError, IndexUnavailableError
    from ingather.models.messages import IndexDocumentsInput, IndexDocumentsOutput
    from workflows.options import INDEX, LAST_INDEX
    from workflows.outcomes import has_answer, was_cancelled

INDEX_BATCH_SIZE = 100
PACKED_INDEX_BATCH_SIZE = 500
"""Small documents end by the hundred a second: fewer and larger writes keep the index cheap."""
INDEXED_IN_QUARTERS = "small documents are indexed in quarters"
"""The change since which a batch whose small documents share activities does not leave its index to its end."""
INDEX_INTERVAL = timedelta(seconds=5)


def packed_index_batch_size(document_count: int) -> int:
    """Documents a write of a batch that has its small ones share activities.

    A quarter of them, so that most are searchable by the time that the last has been parsed.
    """
    if document_count <= INDEX_BATCH_SIZE or not workflow.patched(INDEXED_IN_QUARTERS):
        return PACKED_INDEX_BATCH_SIZE
    return min(max(INDEX_BATCH_SIZE, document_count // 4), PACKED_INDEX_BATCH_SIZE)


class IndexQueue:
    """Ordinals that are done and not yet searchable.

    Args:
        spec: whose documents they are.
        priority: the present priority of their activities.
        on_failure: told each ordinal that cannot be made searchable, and the error code.
        wake: called when something ended or fell due.
        batch_size: documents a write.
    """

    def __init__(
        self,
        spec: BatchSpec,
        priority: Callable[[], Priority],
        on_failure: Callable[[int, str], None],
        wake: Callable[[], None],
        batch_size: int = INDEX_BATCH_SIZE,
    ) -> None:
        self._spec = spec
        self._priority = priority
        self._on_failure = on_failure
        self._wake = wake
        self._batch_size = batch_size
        self._waiting: list[int] = []
        self._writing: Sequence[int] = ()
        self._task: asyncio.Task[IndexDocumentsOutput] | None = None
        self._options = INDEX
        self._was_stopped = False
        """The write under way was told to stop: whatever it ends with is not its documents' fault."""
        self._timer: asyncio.Task[None] | None = None
        self._is_due = False

    def __len__(self) -> int:
        """Documents that search cannot find yet."""
        return len(self._waiting) + len(self._writing)

    def add(self, ordinal: int) -> None:
        self._waiting.append(ordinal)

    def write_what_is_due(self, *, nothing_comes: bool) -> None:
        """Start a write when enough wait, when they have waited long enough, or when no more will come."""
        if self._writing or not self._waiting:
            return
        if len(self._waiting) >= self._batch_size or self._is_due or nothing_comes:
            self._is_due = False
            self._write(self._waiting[: self._batch_size])
        elif self._timer is None:
            self._timer = asyncio.create_task(self._wait_for_interval())

    def hurry(self) -> None:
        """The batch is being cancelled: what waits is tried for a minute, not for half an hour."""
        self._options = LAST_INDEX
        if self._task is not None:
            self._was_stopped = True
            self._task.cancel()

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _wait_for_interval(self) -> None:
        await workflow.sleep(INDEX_INTERVAL, summary="until the next index write")
        self._timer = None
        self._is_due = True
        self._wake()

    def _write(self, ordinals: list[int]) -> None:
        del self._waiting[: len(ordinals)]
        self._writing = ordinals
        spec = self._spec
        self._task = workflow.start_activity_method(
            IndexActivities.index_documents,
            IndexDocumentsInput(
                tenant_id=spec.tenant_id,
                batch_id=spec.batch_id,
                collection=spec.collection,
                ordinals=encode_bitmap(ordinals),
            ),
            summary=f"{len(ordinals)} documents",
            priority=self._priority(),
            **self._options,
        )
        self._task.add_done_callback(self._written)

    def _written(self, task: "asyncio.Task[IndexDocumentsOutput]") -> None:
        ordinals, self._writing, self._task = self._writing, (), None
        was_stopped, self._was_stopped = self._was_stopped, False
        if has_answer(task):
            output = task.result()
            codes = {ordinal: code for code, bitmap in output.failures.items() for ordinal in decode_bitmap(bitmap)}
            for ordinal in decode_bitmap(output.missing):
                self._on_failure(ordinal, codes.get(ordinal, BlobNotFoundError.code))
        elif was_stopped or was_cancelled(task):
            self._waiting[:0] = ordinals  # it was stopped for being too patient
        else:
            # Every attempt failed: what cannot be found is not done. A retry by this code indexes again.
            for ordinal in ordinals:
                self._on_failure(ordinal, IndexUnavailableError.code)
        self._wake()

"""Why a batch waits, in words, and when it should be done.

What is said, the first that is true: ``start``, ``seal`` or ``resume`` (somebody's word), ``no worker``
(nobody polls the queue that its work is in), ``place 3 of 7`` (its tenant's other batches), ``provider
limit until 14:05`` (UTC; a service asked to be left alone that long). Nothing while work goes on. Where
the engine is silent, what the batch itself said last is all there is.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from api.engine_calls import reached
from api.engine_waits import PendingWork
from api.recent import Recent
from api.resources import BatchSnapshot, Outlook
from ingather.domain.pace import WINDOW, Pace, completion_at
from ingather.domain.waiting_line import batches_in, position_in
from ingather.domain.workload import DocumentWork, Workload
from ingather.models.batch import BatchProgress, BatchState
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus
from ingather.models.engine import CPU_QUEUE, IO_QUEUE, SOURCE_QUEUE, TEXT_QUEUE, WORKFLOW_QUEUE
from ingather.models.errors import CatalogUnavailableError, EngineUnavailableError
from ingather.models.identity import child_workflow_id_for, workflow_id_for
from ingather.models.messages import PlacesLine
from ingather.ports.catalog import DocumentCost
from workflows.pipelines import TEXT

NO_WORKER = "no worker"
SILENT_SECONDS = 10.0
"""A worker that is there polls more often than this while a batch waits for it. One whose slots are full does not,
so its batch is only said to wait when none of its own work has started."""

_WORKING = frozenset({BatchState.RUNNING, BatchState.RETRYING})
_MOVING = _WORKING | {BatchState.FINALIZING}
_LOOKED_AT_CHILDREN = 2
_TENANT_PACE_SECONDS = 5.0
_PACES = 1_000
_MINUTE = timedelta(minutes=1)
MAX_WEIGHED = 1_000
"""Documents of a batch that are weighed one by one; of a larger one, the large and the small even out."""
_WEIGHED_SECONDS = 0.25
_BUSY = frozenset({Stage.DETECTING, Stage.PARSING, Stage.CHUNKING, Stage.EMBEDDING})
_OPEN = frozenset({DocumentStatus.PENDING, DocumentStatus.IN_FLIGHT})


class Waits(Protocol):
    """What the engine knows (``api.engine_waits``)."""

    async def line(self, tenant_id: str) -> PlacesLine | None: ...

    async def seconds_since_poll(self, queue: str) -> float: ...

    async def pending(self, workflow_ids: tuple[str, ...]) -> PendingWork: ...


class Waiting:
    """Explains snapshots.

    Args:
        waits: what the engine knows.
        seconds_per_document: a tenant's pace, by its latest batches.
        running: a tenant's open batches, by id; at most a second old.
        costs: a batch's documents, as far as their cost goes; at least one more than are weighed where there are more.
        has_provider: documents go through a remote service that may ask to be left alone.
    """

    def __init__(
        self,
        waits: Waits,
        seconds_per_document: Callable[[str], Awaitable[float | None]],
        running: Callable[[str], Awaitable[dict[str, BatchProgress]]],
        costs: Callable[[str], Awaitable[Sequence[DocumentCost]]],
        *,
        has_provider: bool = False,
    ) -> None:
        self._waits = waits
        self._tenant_pace = Recent(seconds_per_document, _TENANT_PACE_SECONDS)
        self._running = running
        self._costs = Recent(_timed(costs), _WEIGHED_SECONDS)
        self._has_provider = has_provider
        self._paces: OrderedDict[str, _Moving] = OrderedDict()

    async def explained(self, snapshot: BatchSnapshot, within: timedelta, *, closely: bool = True) -> BatchSnapshot:
        """The snapshot with what it waits for, and when it should be done. Never raises for a silent engine.

        What the engine does not say ``within`` that time is left out; an answer that is at hand needs none.
        Not ``closely`` leaves out what takes a question a batch: workers and providers.
        """
        if snapshot.is_final:
            return snapshot
        until = time.monotonic() + within.total_seconds()
        try:
            async with reached(within):
                waiting_for = await self._reason(snapshot, closely=closely)
        except EngineUnavailableError:
            waiting_for = snapshot.said_to_wait_for
        left = timedelta(seconds=max(0.0, until - time.monotonic()))
        return replace(snapshot, outlook=Outlook(waiting_for, await self._estimate(snapshot, waiting_for, left)))

    # --- Why ----------------------------------------------------------------------------

    async def _reason(self, snapshot: BatchSnapshot, *, closely: bool) -> str | None:
        progress, said = snapshot.progress, snapshot.said_to_wait_for
        if said is not None and progress.state is not BatchState.QUEUED:
            return said
        if closely and await self._has_no_worker(snapshot):
            return NO_WORKER
        if progress.state is BatchState.QUEUED:
            return await self._place(snapshot)
        if closely and self._has_provider and progress.state in _WORKING:
            return _provider_limit(await self._waits.pending(_workflows(snapshot)))
        return None

    async def _place(self, snapshot: BatchSnapshot) -> str | None:
        line = await self._waits.line(snapshot.record.tenant_id)
        position = position_in(line, snapshot.record.batch_id) if line else None
        return snapshot.said_to_wait_for if line is None or position is None else f"place {position} of {line.waiting}"

    async def _has_no_worker(self, snapshot: BatchSnapshot) -> bool:
        if snapshot.stale and await self._is_silent(WORKFLOW_QUEUE):
            return True
        progress = snapshot.progress
        if progress.state is BatchState.QUEUED or (progress.state in _WORKING and not progress.counts.in_flight):
            queues = [IO_QUEUE]  # its request, its manifest
        elif progress.state in _WORKING:
            queues = _queues_of_documents(snapshot)
        else:
            return False
        if not [queue for queue in queues if await self._is_silent(queue)]:
            return False
        work = await self._waits.pending(_workflows(snapshot))
        return work.scheduled > 0 and not work.started

    async def _is_silent(self, queue: str) -> bool:
        return await self._waits.seconds_since_poll(queue) > SILENT_SECONDS

    # --- Until when -----------------------------------------------------------------------

    async def _estimate(self, snapshot: BatchSnapshot, waiting_for: str | None, within: timedelta) -> datetime | None:
        progress, now = snapshot.progress, datetime.now(UTC)
        if progress.state is BatchState.QUEUED and waiting_for != NO_WORKER:
            return await self._estimate_in_line(snapshot, now, within)
        pace = self._pace(snapshot.record.batch_id)
        if progress.state not in _MOVING or waiting_for is not None:
            pace.forget()
            return None
        counts = progress.counts
        pace.note(now, counts.ended)
        per_second = pace.per_second or _since_start(progress, now)
        if per_second is None:
            return None
        weighed = await self._weighed(snapshot, pace, per_second)
        return weighed or completion_at(now, counts.total - counts.ended, per_second)

    async def _weighed(self, snapshot: BatchSnapshot, pace: "_Moving", per_second: float) -> datetime | None:
        """The end by the documents' sizes; None where they are too many, or not all known."""
        progress = snapshot.progress
        if progress.retry_round or progress.counts.total > MAX_WEIGHED or progress.state is BatchState.FINALIZING:
            return None
        try:
            at, costs = await self._costs.get(snapshot.record.batch_id)
        except CatalogUnavailableError:
            return None
        if len(costs) != progress.counts.total:
            return None
        # At the moment the documents were read: what they had done by then goes with the time they had.
        documents = [_work(cost) for cost in costs]
        ended = sum(document.is_ended for document in documents)
        elapsed = _elapsed(progress, pace, at, ended / per_second)
        seconds = pace.workload.remaining_seconds(documents, progress.in_flight, elapsed, at.timestamp())
        return None if seconds is None else at + timedelta(seconds=seconds)

    async def _estimate_in_line(self, snapshot: BatchSnapshot, now: datetime, within: timedelta) -> datetime | None:
        """All that runs or stands before it, and then itself, at the tenant's pace."""
        record = snapshot.record
        try:
            async with reached(within):
                line = await self._waits.line(record.tenant_id)
                running = await self._running(record.tenant_id)
        except EngineUnavailableError:
            return None
        seconds = await self._tenant_pace.get(record.tenant_id)
        position = position_in(line, record.batch_id) if line else None
        if seconds is None or line is None or position is None:
            return None
        before = set(batches_in(line)[: position - 1])
        remaining = snapshot.progress.counts.total
        for batch_id, progress in running.items():
            if batch_id in before or progress.state in _MOVING:
                remaining += progress.counts.total - progress.counts.ended
        return completion_at(now, remaining, 1 / seconds) if seconds else None

    def _pace(self, batch_id: str) -> "_Moving":
        pace = self._paces.setdefault(batch_id, _Moving())
        self._paces.move_to_end(batch_id)
        while len(self._paces) > _PACES:
            self._paces.popitem(last=False)
        return pace


def _since_start(progress: BatchProgress, now: datetime) -> float | None:
    """The pace since the start; a retry's own start is not known."""
    ended = progress.counts.ended
    if progress.started_at is None or not ended or progress.retry_round:
        return None
    seconds = (now - progress.started_at).total_seconds()
    return ended / seconds if seconds > 0 else None


def _queues_of_documents(snapshot: BatchSnapshot) -> list[str]:
    """Where documents wait for a worker. (Workers of an older version may serve the one and not the other.)"""
    if snapshot.record.spec.pipeline == TEXT:
        return [TEXT_QUEUE]
    is_fetched = any(source.connection_id is not None for source in snapshot.progress.sources)
    return [CPU_QUEUE, SOURCE_QUEUE] if is_fetched else [CPU_QUEUE]


class _Moving(Pace):
    """A batch that is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.workload = Workload()


def _timed(
    costs: Callable[[str], Awaitable[Sequence[DocumentCost]]],
) -> Callable[[str], Awaitable[tuple[datetime, Sequence[DocumentCost]]]]:
    async def timed(batch_id: str) -> tuple[datetime, Sequence[DocumentCost]]:
        return datetime.now(UTC), await costs(batch_id)

    return timed


def _elapsed(progress: BatchProgress, pace: Pace, at: datetime, at_this_pace: float) -> float:
    """Seconds it took to get here: since the start, unless it stood still, or ran for so long that only its pace now matters."""
    if progress.started_at is None or pace.was_interrupted or at - progress.started_at >= WINDOW:
        return at_this_pace
    return (at - progress.started_at).total_seconds()


def _work(cost: DocumentCost) -> DocumentWork:
    return DocumentWork(
        ordinal=cost.ordinal,
        size_bytes=cost.size_bytes or 0,
        is_ended=cost.status not in _OPEN,
        busy_seconds=sum(spent for stage, spent in cost.timings_ms.items() if stage in _BUSY) / 1_000,
    )


def _workflows(snapshot: BatchSnapshot) -> tuple[str, ...]:
    """The batch, and some of its children: what one of them waits for, the others do too."""
    batch_id = snapshot.record.batch_id
    children = snapshot.progress.children[:_LOOKED_AT_CHILDREN]
    return (
        workflow_id_for(batch_id),
        *(child_workflow_id_for(batch_id, child.index, child.retry_round) for child in children),
    )


def _provider_limit(work: PendingWork) -> str | None:
    """Said when most of what was tried waits for it; a few refusals on the way are no standstill."""
    if work.limited_until is None or work.limited <= work.started:
        return None
    # The minute after: at the one that is named, it is over.
    until = work.limited_until.astimezone(UTC)
    if until.second or until.microsecond:
        until = until.replace(second=0, microsecond=0) + _MINUTE
    return f"provider limit until {until:%H:%M}"

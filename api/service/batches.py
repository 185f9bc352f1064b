"""Reading batches: the catalog for those that ended, the engine for those that run."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

import structlog

from activities.webhooks import Newsroom
from api.engine import MOST_LISTED, BatchClosedError, BatchEngine, EngineStatus, Presence
from api.engine_calls import READ_TIMEOUT, SILENT_SECONDS
from api.recent import Recent
from api.resources import BatchSnapshot
from api.service.waiting import MAX_WEIGHED, Waiting
from ingather.domain.audit import batch_ended
from ingather.domain.live_progress import is_newer
from ingather.domain.webhooks import end_news
from ingather.models.audit import AuditEvent
from ingather.models.batch import (
    MAX_DOCUMENTS_PER_WORKFLOW,
    BatchProblem,
    BatchProgress,
    BatchRecord,
    BatchState,
    BatchSummary,
    Counts,
    SubmissionTotals,
)
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import BatchNotFoundError, EngineUnavailableError, InvalidStateError
from ingather.models.upload import UploadState
from ingather.ports.catalog import BatchFilter, Catalog

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

NOT_STARTED = "not_started"
"""Problem code of a batch whose submission was interrupted before its workflow began."""
TERMINATED = "terminated"

BEGINNING_TIME = timedelta(seconds=2)
"""How long a message waits for the workflow of a batch whose submission is still on its way."""

_BEGUN_POLL_SECONDS = 0.1
_ORPHAN_AGE = timedelta(seconds=60)
"""A record this old without a workflow will not get one any more."""
_MEASURABLE = (BatchState.COMPLETED, BatchState.COMPLETED_WITH_FAILURES)
_OPEN_STATES = tuple(state for state in BatchState if not state.is_final)
_UNENDED = (DocumentStatus.PENDING, DocumentStatus.IN_FLIGHT)
_ASKED_AT_ONCE = 200
_WAIT_POLL_SECONDS = 0.2
_OVERLAY_SECONDS = 1.0
_LARGE_ASKED = 8
"""Of one page of a list; each is asked once a second at most, however many look."""
_LARGE_WAIT_SECONDS = 0.15
"""A list waits no longer for their answers: the next look has them."""


class LiveProgress(Protocol):
    """What the shared reader answers about a batch that runs."""

    @property
    def progress(self) -> BatchProgress | None: ...

    @property
    def stale(self) -> bool: ...

    @property
    def closed(self) -> bool: ...

    @property
    def silent(self) -> bool: ...


class LiveReader(Protocol):
    """Reads running batches, one query at a time for everybody (``api.streams.reader``)."""

    async def read(self, batch_id: str) -> LiveProgress: ...

    async def note(self, batch_id: str, progress: BatchProgress) -> None:
        """Take in an answer that came another way, so that the next read is not older."""
        ...

    async def changed(self, batch_id: str) -> None:
        """What was remembered, or shared, no longer holds."""
        ...


class BatchService:
    """Batches of one tenant at a time; another tenant's are not found."""

    def __init__(
        self,
        catalog: Catalog,
        engine: BatchEngine,
        reader: LiveReader,
        *,
        has_provider: bool = False,
        timeout: timedelta = READ_TIMEOUT,
        newsroom: Newsroom | None = None,
    ) -> None:
        self._newsroom = newsroom
        """Tells webhooks of batches that were ended from outside; their own last activity tells of all others."""
        self._catalog = catalog
        self._engine = engine
        self._reader = reader
        self._timeout = timeout
        self._running = Recent(engine.running, _OVERLAY_SECONDS, SILENT_SECONDS)
        self._under_way = Recent(engine.under_way, _OVERLAY_SECONDS, SILENT_SECONDS)
        self._large = Recent(reader.read, _OVERLAY_SECONDS)
        self._waiting = Waiting(
            engine.waits,
            self.seconds_per_document,
            self.running,
            partial(catalog.list_costs, limit=MAX_WEIGHED + 1),
            has_provider=has_provider,
        )

    async def record(self, tenant_id: str, batch_id: str) -> BatchRecord:
        """The catalog's record. Raises ``BatchNotFoundError``."""
        record = await self._catalog.get_batch(batch_id, tenant_id)
        if record is None:
            raise BatchNotFoundError("No batch of this tenant has this id.")
        return record

    async def has_listeners(self, tenant_id: str) -> bool:
        """Whether any webhook hears of all of the tenant's batches now."""
        return await self._catalog.webhooks.has_listeners(tenant_id)

    async def documents(self, batch_id: str, ordinals: Sequence[int]) -> list[DocumentRecord]:
        """The catalog's records of these; unknown ones are left out."""
        return await self._catalog.get_documents(batch_id, ordinals)

    async def handed_in(self, batch_id: str) -> SubmissionTotals:
        """All that was handed in for a batch so far."""
        return await self._catalog.count_parts(batch_id)

    async def snapshot(self, tenant_id: str, batch_id: str) -> BatchSnapshot:
        """The batch now, with what it waits for. ``stale`` when the engine did not answer in time."""
        record = await self.record(tenant_id, batch_id)
        if record.state.is_final:
            return BatchSnapshot.from_record(record)
        live = await self._reader.read(batch_id)
        snapshot = await self._snapshot(record, live)
        # An engine that has just said nothing is not waited for once more.
        return await self._waiting.explained(snapshot, timedelta() if live.silent else self._timeout)

    async def explained(self, snapshot: BatchSnapshot) -> BatchSnapshot:
        """The same with what the batch waits for, and when it should be done."""
        return await self._waiting.explained(snapshot, self._timeout)

    async def _snapshot(self, record: BatchRecord, live: LiveProgress) -> BatchSnapshot:
        tenant_id, batch_id = record.tenant_id, record.batch_id
        if live.progress is not None and not live.closed:
            progress = await self._grown(record, live.progress)
            return BatchSnapshot(record=record, progress=progress, stale=live.stale)
        # It ended between the two looks, or the engine has nothing on it.
        record = await self.record(tenant_id, batch_id)
        if record.state.is_final:
            return BatchSnapshot.from_record(record)
        return BatchSnapshot.from_record(record, stale=True) if live.silent else await self._settled(record)

    async def _grown(self, record: BatchRecord, progress: BatchProgress) -> BatchProgress:
        """An open batch hears seldom how much there is by now; the catalog knows."""
        if not record.spec.open or record.sealed_at is not None or progress.state is not BatchState.PENDING:
            return progress
        count = (await self.handed_in(record.batch_id)).document_count
        return progress.model_copy(update={"counts": Counts(total=count, pending=count)})

    async def wait_for(
        self, tenant_id: str, batch_id: str, seconds: float, is_reached: Callable[[BatchSnapshot], bool]
    ) -> BatchSnapshot:
        """The batch once ``is_reached``, or as it is after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            snapshot = await self.snapshot(tenant_id, batch_id)
            left = deadline - time.monotonic()
            if left <= 0 or is_reached(snapshot):
                return snapshot
            await asyncio.sleep(min(_WAIT_POLL_SECONDS, left))

    async def page(self, where: BatchFilter, limit: int) -> tuple[list[BatchSnapshot], BatchRecord | None]:
        """Batches newest first that are in one of the states now, and behind which to go on where there are more."""
        records = await self._catalog.list_batches(await self.in_states_now(where), limit + 1)
        last = records[limit - 1] if len(records) > limit else None
        snapshots = await self.overlaid(where.tenant_id, records[:limit])
        # One that has moved on since it was picked is not shown as what it no longer is.
        return [each for each in snapshots if not where.states or each.progress.state in where.states], last

    async def in_states_now(self, where: BatchFilter) -> BatchFilter:
        """The same batches for a catalog that knows how they ended and whether they wait, and not what else they do."""
        if all(state.is_final for state in where.states) or not await self.has_open(where):
            return where
        moving: dict[str, BatchProgress] = {}
        with contextlib.suppress(EngineUnavailableError):
            moving = await self.under_way(where.tenant_id)
        here = tuple(batch_id for batch_id, progress in moving.items() if progress.state in where.states)
        return replace(where, or_ids=here, moved_ids=tuple(moving))

    async def has_open(self, where: BatchFilter) -> bool:
        """Whether any of these has not ended, whatever else they are asked for."""
        return await self._catalog.count_batches(replace(where, states=_OPEN_STATES, or_ids=())) > 0

    async def overlaid(self, tenant_id: str, records: Sequence[BatchRecord]) -> list[BatchSnapshot]:
        """Records of a list with what the engine says of those that run: one question for all of them, and for large ones more."""
        if all(record.state.is_final for record in records):
            return [BatchSnapshot.from_record(record) for record in records]
        until = time.monotonic() + self._timeout.total_seconds()
        running = await self._running_if_heard(
            tenant_id, [each.batch_id for each in records if not each.state.is_final]
        )
        if running is None:
            until = 0.0  # an engine that has just said nothing, to whomever, is not waited for once more
        else:
            memos = {each.batch_id: running[each.batch_id] for each in records if each.batch_id in running}
            running = running | await self._with_children(memos)
        snapshots: list[BatchSnapshot] = []
        for record in records:
            left = timedelta(seconds=max(0.0, until - time.monotonic()))
            snapshots.append(await self._waiting.explained(_overlaid(record, running), left, closely=False))
        return snapshots

    async def _running_if_heard(self, tenant_id: str, batch_ids: Sequence[str]) -> dict[str, BatchProgress] | None:
        """What the engine lists, with all of these that it has."""
        with contextlib.suppress(EngineUnavailableError):
            running = await self.running(tenant_id)
            unlisted = [batch_id for batch_id in batch_ids if batch_id not in running]
            if not unlisted or len(running) < MOST_LISTED:
                return running
            found = dict(running)
            for first in range(0, len(unlisted), _ASKED_AT_ONCE):
                found |= await self._engine.progress_of(tenant_id, unlisted[first : first + _ASKED_AT_ONCE])
            return found
        return None

    async def _with_children(self, memos: Mapping[str, BatchProgress]) -> dict[str, BatchProgress]:
        """Those that are large, as they are: their memos count a child's documents once the child has ended."""
        large = [batch_id for batch_id, memo in memos.items() if _has_children(memo)][:_LARGE_ASKED]
        asked = {batch_id: asyncio.ensure_future(self._large.get(batch_id)) for batch_id in large}
        if asked:
            await asyncio.wait(asked.values(), timeout=_LARGE_WAIT_SECONDS)
        found: dict[str, BatchProgress] = {}
        for batch_id, task in asked.items():
            is_answered = task.done()
            task.cancel()  # waiting for it; the question goes on, and others may wait for it too
            live = task.result() if is_answered else self._large.last(batch_id)
            if live is None or live.progress is None or live.closed:
                continue
            if is_answered or not is_newer(memos[batch_id], live.progress):
                found[batch_id] = live.progress
        return found

    async def seconds_per_document(self, tenant_id: str) -> float | None:
        """Pace of the tenant's latest ended batches, wall clock; None before the first one ended."""
        where = BatchFilter(tenant_id=tenant_id, states=_MEASURABLE)
        seconds, documents = 0.0, 0
        for record in await self._catalog.list_batches(where, 20):
            if record.started_at is not None and record.ended_at is not None and record.retry_round == 0:
                seconds += (record.ended_at - record.started_at).total_seconds()
                documents += record.counts.ended
        return seconds / documents if documents else None

    async def note_changed(self, batch_id: str) -> None:
        """A message was taken without an answer: whoever reads from now on reads what came of it."""
        await self._reader.changed(batch_id)

    async def note_reopened(self, batch_id: str) -> None:
        """A closed batch runs again. Its workflow tells the catalog: from here, the word could come after the end."""
        await self._reader.changed(batch_id)

    async def note_progress(self, batch_id: str, progress: BatchProgress) -> None:
        """An update answered with the newest numbers there are."""
        await self._reader.note(batch_id, progress)

    async def edit(
        self,
        batch_id: str,
        *,
        name: str | None = None,
        priority: int | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> None:
        """Change what the catalog says, and record ``events`` in the same step."""
        await self._catalog.edit_batch(batch_id, name=name, priority=priority, events=events)

    async def give_up(self, record: BatchRecord) -> None:
        """Write down that a batch never began; where it begins in the same moment, that it did."""
        problem = BatchProblem(
            code=NOT_STARTED,
            message="The submission was interrupted before the batch began; no document was processed.",
            action="Submit it again, with the same Idempotency-Key if it had one.",
        )
        await self._finish(record, BatchSnapshot.from_record(record).progress, problem)
        # Another request under its key may have started it since the engine was asked. Who starts it looks, too.
        with contextlib.suppress(EngineUnavailableError):
            if (await self._engine.status(record.batch_id)).presence is not Presence.MISSING:
                await note_begun(self._catalog, record)

    async def running(self, tenant_id: str) -> dict[str, BatchProgress]:
        """Memos of a tenant's running batches, at most a second old. Raises ``EngineUnavailableError``."""
        return await self._running.get(tenant_id)

    async def under_way(self, tenant_id: str) -> dict[str, BatchProgress]:
        """The same of those that do more than wait for their start or their place, however many wait beside them."""
        return await self._under_way.get(tenant_id)

    async def settle(self, tenant_id: str, batch_id: str) -> None:
        """Write the last word on a batch whose workflow is over, whatever was remembered or shared of it a moment ago."""
        record = await self.record(tenant_id, batch_id)
        if not record.state.is_final:
            await self._settled(record)
            await self._reader.changed(batch_id)

    async def reach(self, record: BatchRecord, say: Callable[[], Awaitable[_T]]) -> _T:
        """What the batch's workflow answers to a message; one that is about to begin is waited for.

        A batch is in lists as soon as its record is there, a moment before its workflow. Raises ``BatchClosedError`` where
        it has ended, ``InvalidStateError`` where it has not begun by then, and what ``say`` raises else.
        """
        until = time.monotonic() + BEGINNING_TIME.total_seconds()
        while True:
            try:
                return await say()
            except BatchClosedError:
                # Of one that was ended from outside, or that nobody is going to begin, the catalog has no last word yet.
                await self.settle(record.tenant_id, record.batch_id)
                if (await self.record(record.tenant_id, record.batch_id)).state.is_final:
                    raise
                if time.monotonic() >= until:
                    raise _not_begun(record) from None
            await asyncio.sleep(_BEGUN_POLL_SECONDS)

    async def _settled(self, record: BatchRecord) -> BatchSnapshot:
        """A batch that should run and has no open workflow."""
        # Before the engine is asked: a start in between is then seen there.
        is_abandoned = await self._is_abandoned(record)
        try:
            status = await self._engine.status(record.batch_id)
        except EngineUnavailableError:
            return BatchSnapshot.from_record(record, stale=True)
        if status.presence is Presence.CLOSED and status.was_terminated:
            await self._note_terminated(record, status)
            return BatchSnapshot.from_record(await self.record(record.tenant_id, record.batch_id))
        if status.presence is Presence.MISSING and is_abandoned:
            await self.give_up(record)
            return BatchSnapshot.from_record(await self.record(record.tenant_id, record.batch_id))
        if status.presence is Presence.CLOSED:
            # Its last word was written before it closed, so it is there now.
            return BatchSnapshot.from_record(await self.record(record.tenant_id, record.batch_id))
        if status.progress is not None:
            return BatchSnapshot(record=record, progress=status.progress, stale=True)
        return BatchSnapshot.from_record(record)

    async def _is_abandoned(self, record: BatchRecord) -> bool:
        """Whether nobody is going to start a batch, should it not have begun."""
        if datetime.now(UTC) - record.created_at <= _ORPHAN_AGE:
            return False
        # What came in chunks is as old as the first of them, and begun by the cleaning of uploads if by nobody else.
        upload = await self._catalog.uploads.get_upload_of_batch(record.batch_id, record.tenant_id)
        return upload is None or upload.state is UploadState.STARTED

    async def _note_terminated(self, record: BatchRecord, status: EngineStatus) -> None:
        progress = status.progress or BatchSnapshot.from_record(record).progress
        problem = BatchProblem(
            code=TERMINATED,
            message="The batch's workflow was ended from outside; documents that had not ended are cancelled.",
            action="Submit the documents again.",
        )
        counts = await self._counts_after_end(record.batch_id) or progress.counts
        await self._finish(record, progress.model_copy(update={"counts": counts}), problem)

    async def _counts_after_end(self, batch_id: str) -> Counts | None:
        """What the catalog knows, once what had not ended is cancelled there; None where no manifest was made."""
        tally = dict.fromkeys(DocumentStatus, 0)
        left: list[int] = []
        async for ordinal, status in self._catalog.iterate_statuses(batch_id):
            if status in _UNENDED:
                left.append(ordinal)
            else:
                tally[status] += 1
        if not left and not any(tally.values()):
            return None
        await self._catalog.mark_cancelled(batch_id, left, datetime.now(UTC))
        tally[DocumentStatus.CANCELLED] += len(left)
        return Counts(total=sum(tally.values()), **{status.value: count for status, count in tally.items()})

    async def _finish(self, record: BatchRecord, progress: BatchProgress, problem: BatchProblem) -> None:
        """The last word on a batch that cannot say it itself, by what is known of how far it was."""
        counts = progress.counts
        left = counts.pending + counts.in_flight
        ended = counts.model_copy(update={"pending": 0, "in_flight": 0, "cancelled": counts.cancelled + left})
        log.warning("batch.given_up", batch_id=record.batch_id, code=problem.code)
        now = datetime.now(UTC)
        summary = BatchSummary(
            batch_id=record.batch_id,
            state=BatchState.FAILED,
            counts=ended,
            version=max(progress.version, record.version) + 1,
            problem=problem,
            queued_at=progress.queued_at,
            started_at=progress.started_at,
            ended_at=now,
            rested_ms=progress.rested_ms,
        )
        if self._newsroom is not None and problem.code != NOT_STARTED:
            # First: the next look does both again, under the same ids, where this process dies in between.
            await self._newsroom.tell(record.tenant_id, record.batch_id, [end_news(summary)])
        await self._catalog.finish_batch(summary, [batch_ended(record.tenant_id, summary, now)])


def never_began(record: BatchRecord) -> bool:
    """Whether it was given up before its workflow was started: handed in again under its key, it begins."""
    return record.state.is_final and record.problem is not None and record.problem.code == NOT_STARTED


async def note_begun(catalog: Catalog, record: BatchRecord) -> None:
    """A batch's workflow is there, and its record says so: whoever gave it up a moment before was wrong."""
    there = await catalog.get_batch(record.batch_id)
    if there is not None and never_began(there):
        log.warning("batch.began_after_all", batch_id=record.batch_id)
        # Should it be over by now, its own end has another version, and stays.
        await catalog.set_batch_state(record.batch_id, record.state, record.counts.total, version=there.version)


def _not_begun(record: BatchRecord) -> InvalidStateError:
    return InvalidStateError(
        "The batch has not begun yet: its submission is still on its way, or was interrupted.",
        action=(
            "Send this again in a moment; submit the batch again where its submission got no answer, "
            "with the same Idempotency-Key if it had one."
        ),
        current_status=record.state.value,
    )


def _has_children(progress: BatchProgress) -> bool:
    return progress.counts.total > MAX_DOCUMENTS_PER_WORKFLOW and progress.counts.in_flight > 0


def _overlaid(record: BatchRecord, running: Mapping[str, BatchProgress] | None) -> BatchSnapshot:
    if record.state.is_final:
        return BatchSnapshot.from_record(record)
    progress = (running or {}).get(record.batch_id)
    if progress is None:
        return BatchSnapshot.from_record(record, stale=running is None)
    return BatchSnapshot(record=record, progress=progress)

"""Streams of contract C: a batch's stage events, those retained and then those to come, until its one end.

One reader a watched batch and process, whoever many watch: it reads the log when something was told, and once a second
in case that was missed. Events of the moment are in memory for everybody; who is further behind reads the log.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson
import structlog

from activities.failures import described
from ingather.domain.sheet_end import end_event, lost_upload_event
from ingather.domain.sheet_events import completed_body, encoded
from ingather.models.batch import BatchRecord, BatchSummary
from ingather.models.errors import DependencyError
from ingather.models.sheets import SheetStage, StageEvent, ToldEvent
from ingather.models.upload import Upload
from ingather.ports.sheet_progress import KEPT_SECONDS, SheetProgress

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
SIGN_OF_LIFE_SECONDS = 15.0
END_GRACE_SECONDS = 30.0
"""After a batch's end its last event is on its way; one that did not come by then is made up from the catalog."""
EMPTY_GRACE_SECONDS = 2.0
"""The same where the log is empty."""
_KEPT = 1_000
_PAGE = 500
_LAST = frozenset({SheetStage.COMPLETED.value, SheetStage.FAILED.value})

Found = BatchRecord | Upload | None
"""A batch, or the upload that is going to be it, or nothing any more."""
Find = Callable[[], Awaitable[Found]]


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event, with what a stream must know of it."""

    number: int
    body: bytes
    stage: str
    version: int
    """Of the batch's end that it tells of; 0 for the others."""

    @classmethod
    def of(cls, told: ToldEvent) -> "FeedEvent":
        said = orjson.loads(told.body)
        return cls(told.number, told.body, said.get("stage", ""), int(said.get("version") or 0))

    @property
    def is_last(self) -> bool:
        return self.stage in _LAST


@dataclass(slots=True)
class _Watch:
    """One batch that somebody watches."""

    batch_id: str
    find: Find
    watchers: int = 0
    events: deque[FeedEvent] = field(default_factory=lambda: deque(maxlen=_KEPT))
    last: int = 0
    nudged: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    record: BatchRecord | None = None
    """Once the batch has begun."""
    upload_began_at: datetime | None = None
    """Of the upload that was seen before there was a batch."""
    made_up: FeedEvent | None = None
    """The end, where the log does not have it."""
    final_since: float | None = None
    """When it was first seen to have ended, on the monotonic clock."""
    is_read: bool = False
    """The log was read to its end at least once."""
    task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Wake everybody who waits."""
        self.changed.set()
        self.changed = asyncio.Event()

    def is_end(self, event: FeedEvent) -> bool:
        """Whether the batch ended for good with it: a retry since then made it the end of a round alone."""
        record = self.record
        return event.is_last and record is not None and record.state.is_final and event.version >= record.version


class SheetFeed:
    """Follows the logs of watched batches. ``start`` before the first, ``close`` at the end."""

    def __init__(self, progress: SheetProgress, *, end_grace_seconds: float = END_GRACE_SECONDS) -> None:
        self._progress = progress
        self._end_grace_seconds = end_grace_seconds
        self._watches: dict[str, _Watch] = {}
        self._listening: asyncio.Task[None] | None = None
        self._draining = asyncio.Event()

    def start(self) -> None:
        self._listening = asyncio.create_task(self._listen(), name="sheet feed")

    def drain(self) -> None:
        """Let every stream end: the process goes away, and another one goes on."""
        self._draining.set()
        for watch in self._watches.values():
            watch.tell()

    async def close(self) -> None:
        self.drain()
        tasks = [watch.task for watch in self._watches.values() if watch.task]
        tasks += [self._listening] if self._listening else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def follow(self, batch_id: str, find: Find) -> AsyncGenerator[FeedEvent | None]:
        """Every event that is retained, then what comes, ending with the batch's end; None as a sign of life.

        The ends of earlier rounds are left out: there is one end. An upload that is gone before its batch began ends as a
        failure.
        """
        async with self._watching(batch_id, find) as watch:
            after = 0
            while not self._draining.is_set():
                changed, before = watch.changed, after
                if watch.last < after:
                    after = 0  # the log was lost, and begins anew
                for event in await self._behind(watch, after):
                    after = event.number
                    if watch.is_end(event):
                        yield event
                        return
                    if not event.is_last:
                        yield event
                    elif event.number == watch.last and watch.made_up is None:
                        # Perhaps the end, and the catalog was looked at before: it is looked at again.
                        after = event.number - 1
                if before < after < watch.last:
                    continue  # a page of the log is read, and there are more
                if watch.made_up is not None and after >= watch.last:
                    yield watch.made_up
                    return
                try:
                    async with asyncio.timeout(SIGN_OF_LIFE_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    yield None

    async def _behind(self, watch: _Watch, after: int) -> list[FeedEvent]:
        """Events behind a number: from memory, or where those are too old from the log."""
        if not watch.is_read or after >= watch.last:
            return []
        kept = [event for event in watch.events if event.number > after]
        if kept and kept[0].number == after + 1:
            return kept
        try:
            return [FeedEvent.of(told) for told in await self._progress.read(watch.batch_id, after, _PAGE)]
        except DependencyError:
            return []

    @asynccontextmanager
    async def _watching(self, batch_id: str, find: Find) -> AsyncIterator[_Watch]:
        watch = self._watches.get(batch_id)
        if watch is None:
            watch = self._watches[batch_id] = _Watch(batch_id, find)
            watch.task = asyncio.create_task(self._keep(watch), name=f"sheets of {batch_id}")
        watch.watchers += 1
        try:
            yield watch
        finally:
            watch.watchers -= 1
            if not watch.watchers:
                del self._watches[batch_id]
                if watch.task is not None:
                    watch.task.cancel()

    async def _keep(self, watch: _Watch) -> None:
        while True:
            try:
                await self._look(watch)
            except DependencyError as error:
                log.warning("sheet_feed.interrupted", batch_id=watch.batch_id, code=error.code)
                with suppress(DependencyError):
                    await self._find(watch)
                    self._make_up_end(watch, watch.record)
            except Exception as error:  # noqa: BLE001  # one odd event must not leave watchers without the next
                log.error("sheet_feed.failed", batch_id=watch.batch_id, **described(error))  # noqa: TRY400
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await watch.nudged.wait()
            watch.nudged.clear()

    async def _look(self, watch: _Watch) -> None:
        """Read what is new, and how the batch stands."""
        found = 0
        while told := await self._progress.read(watch.batch_id, watch.last, _PAGE):
            watch.events.extend(map(FeedEvent.of, told))
            watch.last = told[-1].number
            found += len(told)
            if len(told) < _PAGE:
                break
        if not found:
            latest = await self._progress.latest(watch.batch_id)
            if (latest.number if latest else 0) < watch.last:
                watch.events.clear()
                watch.last = 0
        has_end = bool(watch.events) and watch.events[-1].is_last
        if not found or has_end:
            await self._find(watch)
            # The end of an earlier round may be the last that was told: the log was away for all of the later one.
            is_told = has_end and watch.is_end(watch.events[-1])
            self._make_up_end(watch, None if is_told else watch.record)
        watch.is_read = True
        if found or has_end or watch.made_up is not None:
            watch.tell()

    async def _find(self, watch: _Watch) -> None:
        """How the batch stands, or that there is none and will be none."""
        found = await watch.find()
        if isinstance(found, Upload):
            watch.upload_began_at = found.created_at
        elif found is not None:
            watch.record = found
        elif watch.record is None and watch.made_up is None:
            now = datetime.now(UTC)
            began_at = watch.upload_began_at or now
            self._make_up(watch, lost_upload_event(watch.batch_id, began_at), began_at, now)

    def _make_up_end(self, watch: _Watch, record: BatchRecord | None) -> None:
        """The end of a batch that ended a while ago, and whose log does not say so."""
        if record is None or not record.state.is_final:
            watch.final_since = None
            return
        now, seen_at = datetime.now(UTC), time.monotonic()
        watch.final_since = seen_at if watch.final_since is None else watch.final_since
        grace = self._end_grace_seconds if watch.last else min(EMPTY_GRACE_SECONDS, self._end_grace_seconds)
        is_forgotten = now - (record.ended_at or record.created_at) > timedelta(seconds=KEPT_SECONDS)
        if seen_at - watch.final_since < grace and not is_forgotten:
            return
        event = end_event(summary_of(record), record.created_at)
        self._make_up(watch, event, record.created_at, record.ended_at or now)

    @staticmethod
    def _make_up(watch: _Watch, event: StageEvent, began_at: datetime, at: datetime) -> None:
        body = completed_body(encoded(event, at), int((at - began_at).total_seconds()), watch.last + 1)
        watch.made_up = FeedEvent.of(ToldEvent(number=watch.last + 1, body=body))
        watch.is_read = True
        watch.tell()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._progress.listen() as names:
                    async for batch_id in names:
                        watch = self._watches.get(batch_id)
                        if watch is not None:
                            watch.nudged.set()
            except DependencyError as error:
                log.info("sheet_feed.deaf", code=error.code)
                await asyncio.sleep(LOOK_SECONDS)


def summary_of(record: BatchRecord) -> BatchSummary:
    """How a batch ended, as its record has it."""
    return BatchSummary(
        batch_id=record.batch_id,
        state=record.state,
        counts=record.counts,
        version=record.version,
        failures_by_code=record.failures_by_code,
        sources=record.sources,
        retry_round=record.retry_round,
        problem=record.problem,
        started_at=record.started_at,
        ended_at=record.ended_at,
    )

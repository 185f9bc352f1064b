"""One poller per watched batch in the whole deployment: asks the workflow, tells the log.

It holds a short lease in the log. Each append is checked against that lease and the last
number, so a poller that was asleep for a while cannot write beside its successor. What it
knows is in the log as well (journal position, state, ends told), so any process can go on
where it stopped.
"""

import asyncio
import random
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from api.engine import BatchEngine
from api.streams.closing import Settle, final_progress
from api.streams.numbers import EventNumbers
from api.streams.queries import BatchNotOpenError, BatchQueries
from ingather.domain.event_stream import (
    Draft,
    Story,
    encode,
    final_data,
    is_waiting,
    live_files,
    numbered,
    progress_data,
    time_of,
)
from ingather.models.batch import BatchProgress, BatchState
from ingather.models.document import DocumentRecord
from ingather.models.errors import DependencyError
from ingather.models.events import EventType
from ingather.models.messages import DocumentHeartbeat, OutcomesPage
from ingather.ports.catalog import Catalog
from ingather.ports.event_log import EventLog, LoggedEvent, StreamKey

log = structlog.get_logger(__name__)

LEASE_SECONDS = 4.0
RENEW_SECONDS = 1.0
STANDBY_SECONDS = 0.7
BUSY_SECONDS = 0.15
IDLE_SECONDS = 1.0
PROGRESS_SECONDS = 0.5
"""``batch.progress`` comes at most this often."""
SNAPSHOT_SECONDS = 1.0
STAGES_SECONDS = 1.0
SLOW_DOCUMENT = timedelta(seconds=1)
"""A document in flight for longer is shown with its live stage."""
RECALL_PAGE = 1_000


class _SupersededError(Exception):
    """Another poller has told on: what this one remembers no longer holds."""


@dataclass(frozen=True, slots=True)
class PollerParts:
    """What every poller of a process shares."""

    queries: BatchQueries
    engine: BatchEngine
    log: EventLog
    catalog: Catalog
    settle: Settle


class Poller:
    """Tells one batch's story, whenever no other process does."""

    def __init__(self, key: StreamKey, parts: PollerParts, owner: str) -> None:
        self._key = key
        self._queries = parts.queries
        self._engine = parts.engine
        self._log = parts.log
        self._catalog = parts.catalog
        self._settle = parts.settle
        self._owner = owner
        self._numbers = EventNumbers(parts.catalog, key.batch_id)
        self._drafts: list[Draft] = []
        """Worded, but without a number yet."""
        self._outbox: deque[LoggedEvent] = deque()
        """Numbered and encoded, not yet in the log: a number that was given is never given up."""
        self._begin_anew()
        self.ready = asyncio.Event()
        """Set once everything that has happened is told, or another process does the telling."""
        self.ended = False
        """The batch is over, and its last event is in the log."""

    def _begin_anew(self) -> None:
        self._story = Story(self._key.batch_id)
        self._drafts.clear()
        self._outbox.clear()
        self._recalled = False
        self._journal_next = 0
        self._is_first = False
        self._is_silent = False
        self._renewed_at = 0.0
        self._interval = BUSY_SECONDS
        self._progress_told: dict[str, Any] = {}
        self._progress_at = 0.0
        self._beats: dict[int, DocumentHeartbeat] = {}
        self._beats_at = 0.0
        self._names: dict[int, str] = {}

    async def run(self) -> None:
        """Lead, or stand by to lead, until the batch has ended. Cancel it when nobody watches any more."""
        trouble = 0
        while not self.ended:
            try:
                if await self._is_leading():
                    pause = await self._step()
                else:
                    self.ready.set()
                    pause = STANDBY_SECONDS * random.uniform(0.7, 1.3)
                trouble = 0
            except _SupersededError:
                self._begin_anew()
                pause = STANDBY_SECONDS
            except DependencyError as error:
                trouble += 1
                pause = self._back_off(trouble, error.code)
            except Exception:  # watchers must not be left without a poller by one odd answer
                log.exception("poller.failed", batch_id=self._key.batch_id)
                trouble += 1
                pause = self._back_off(trouble, "internal_error")
            if not self.ended:
                await asyncio.sleep(pause)
        self.ready.set()

    async def resign(self) -> None:
        """Let another process lead at once."""
        try:
            await self._log.resign(self._key, self._owner)
        except DependencyError:
            log.debug("poller.lease_left", batch_id=self._key.batch_id)

    def _back_off(self, trouble: int, code: str) -> float:
        if trouble == 1:
            log.warning("poller.interrupted", batch_id=self._key.batch_id, code=code)
        return min(BUSY_SECONDS * 2.0 ** min(trouble, 5), 1.0) * random.uniform(0.7, 1.0)

    async def _is_leading(self) -> bool:
        now = time.monotonic()
        if now - self._renewed_at < RENEW_SECONDS:
            return True
        if not await self._log.elect(self._key, self._owner, LEASE_SECONDS):
            self._renewed_at = 0.0
            return False
        if now - self._renewed_at > LEASE_SECONDS and self._recalled:
            # Somebody else may have told on meanwhile.
            known = await self._log.range(self._key)
            if known.latest > self._numbers.last:
                raise _SupersededError
        self._renewed_at = now
        return True

    async def _step(self) -> float:
        """One look at the batch; answers the seconds until the next."""
        began = time.monotonic()
        if not self._recalled:
            await self._recall()
        await self._deliver()
        try:
            page = await self._queries.outcomes(self._key.batch_id, self._journal_next)
        except BatchNotOpenError:
            return await self._finish()
        await self._tell_page(page)
        if page.more:
            return 0.0
        await self._share(page.progress)
        self.ready.set()
        self._interval = min(self._interval * 1.5, IDLE_SECONDS) if is_waiting(page.progress) else BUSY_SECONDS
        return max(self._interval - (time.monotonic() - began), 0.02)

    # --- Where the story stands -------------------------------------------------------------

    async def _recall(self) -> None:
        """Read what was told before, by whomever."""
        known = await self._log.range(self._key)
        was_told = await self._numbers.follow(known.latest, certain=known.certain)
        after = known.oldest - 1
        while known.latest and (events := await self._log.read(self._key, after, RECALL_PAGE)):
            if self._story.horizon is None and not known.complete:
                self._story.horizon = time_of(events[0].body)
            for event in events:
                self._story.recall(event.type, event.state, event.body)
            after = events[-1].seq
        self._journal_next = known.journal_next
        self._is_first = not known.latest
        # The log was lost: what it held is not told again while the batch runs, streams get a reset and a snapshot.
        self._is_silent = was_told and not known.latest
        self._recalled = True

    async def _tell_page(self, page: OutcomesPage) -> None:
        # Older entries may have been let go; the catalog still knows how their documents ended.
        were_let_go = page.first > self._journal_next and not self._is_silent
        documents = await self._all_documents() if were_let_go else []
        records = await self._records(page)
        # The story moves on here, and what it tells is kept in the same breath: no failure may come between.
        self._drafts += self._story.tell_missed(documents, page.first, datetime.now(UTC))
        self._drafts += self._story.tell(page.entries, page.first, records)
        # A workflow that was reset has a shorter journal: go on from its end.
        self._journal_next = page.next
        if self._is_silent:
            self._drafts.clear()
            self._is_first = False
            self._is_silent = page.more
        if not page.more:
            self._drafts += await self._progress(page.progress)
        await self._deliver()

    async def _records(self, page: OutcomesPage) -> dict[int, DocumentRecord]:
        ordinals = sorted({entry.ordinal for entry in page.entries if entry.ordinal is not None})
        if not ordinals:
            return {}
        records = {record.ordinal: record for record in await self._catalog.get_documents(self._key.batch_id, ordinals)}
        self._names.update((ordinal, record.filename) for ordinal, record in records.items())
        return records

    async def _all_documents(self) -> list[DocumentRecord]:
        return [record async for record in self._catalog.iterate_documents(self._key.batch_id)]

    async def _progress(self, progress: BatchProgress) -> list[Draft]:
        now = time.monotonic()
        if now - self._progress_at < PROGRESS_SECONDS:
            return []
        data = progress_data(progress, await self._slow_files(progress, now))
        if data == self._progress_told:
            return []
        self._progress_told, self._progress_at = data, now
        return [Draft(EventType.BATCH_PROGRESS, datetime.now(UTC), data, self._journal_next, self._story.state)]

    async def _slow_files(self, progress: BatchProgress, now: float) -> list[dict[str, Any]]:
        began_before = datetime.now(UTC) - SLOW_DOCUMENT
        running = self._story.running
        slow = {o: running[o] for o in progress.in_flight if o in running and running[o] <= began_before}
        if slow and now - self._beats_at >= STAGES_SECONDS:
            self._beats_at = now
            with suppress(DependencyError):
                self._beats = await self._engine.heartbeats(self._key.batch_id)
        return live_files(self._key.batch_id, slow, self._beats, self._names)

    async def _share(self, progress: BatchProgress) -> None:
        # A batch that waits is not busy: its progress can be asked for, and a shared one would only be older.
        if not is_waiting(progress):
            await self._log.put_snapshot(self._key.batch_id, progress, SNAPSHOT_SECONDS)

    # --- The end ----------------------------------------------------------------------------

    async def _finish(self) -> float:
        """Tell what the closed workflow can no longer be asked, then the last event."""
        found = await final_progress(self._key, self._catalog, self._engine, self._settle)
        if found is None:
            return IDLE_SECONDS
        progress, told = found.progress, self._story.state
        await self._log.drop_snapshot(self._key.batch_id)
        if told is None or not told.is_final or progress.version > self._story.version:
            documents = await self._all_documents()
            self._drafts += self._last_drafts(progress, found.created_at, documents)
            await self._deliver()
            log.info("stream.completed", batch_id=self._key.batch_id, latest_seq=self._numbers.last)
        self.ended = True
        return 0.0

    def _last_drafts(
        self, progress: BatchProgress, created_at: datetime, documents: list[DocumentRecord]
    ) -> list[Draft]:
        ended_at = progress.ended_at or datetime.now(UTC)
        position = self._journal_next
        self._is_silent = False
        drafts: list[Draft | None] = []
        if self._story.state is None:
            drafts.append(self._story.tell_state(BatchState.PENDING, created_at, position))
            if progress.started_at is not None:
                drafts.append(self._story.tell_state(BatchState.RUNNING, progress.started_at, position))
        drafts += self._story.tell_missed(documents, position, ended_at)
        # Also where it ends a second time as it did the first: the retry between the two went unseen.
        self._story.state = None
        self._story.version = progress.version
        drafts.append(self._story.tell_state(progress.state, ended_at, position, **final_data(progress)))
        return [draft for draft in drafts if draft is not None]

    # --- Writing ----------------------------------------------------------------------------

    async def _deliver(self) -> None:
        """Number and write what is told; a write whose answer was lost is recognised and not repeated."""
        if self._drafts:
            numbers = await self._numbers.take(len(self._drafts))
            for draft, event in numbered(self._drafts, self._key.batch_id, numbers):
                state = draft.state.value if draft.state else ""
                self._outbox.append(LoggedEvent(event.seq, event.type.value, encode(event), draft.journal_next, state))
            self._drafts.clear()
        while self._outbox:
            if await self._log.append(self._key, self._owner, list(self._outbox), first=self._is_first):
                self._outbox.clear()
                self._is_first = False
            else:
                await self._settle_refusal()

    async def _settle_refusal(self) -> None:
        if not await self._log.elect(self._key, self._owner, LEASE_SECONDS):
            raise _SupersededError
        known = await self._log.range(self._key)
        if known.latest < self._outbox[0].seq:
            return  # Only the lease was gone (an emptied Redis): the numbers are still free.
        there = await self._log.read(self._key, self._outbox[0].seq - 1, 1)
        if not there or there[0].body != self._outbox[0].body:
            raise _SupersededError
        while self._outbox and self._outbox[0].seq <= known.latest:
            self._outbox.popleft()
        self._is_first = False

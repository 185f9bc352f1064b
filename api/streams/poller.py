"""One poller per watched or announced batch in the whole deployment: asks the workflow, tells the log.

It holds a short lease in the log. Each append is checked against that lease and the last
number, so a poller that was asleep for a while cannot write beside its successor. What it
knows is in the log as well (positions in the journals, what was told of each document), so
any process can go on where it stopped.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from activities.failures import described
from api.engine import BatchEngine
from api.streams.announcing import Announcers
from api.streams.closing import Settle, final_progress
from api.streams.queries import BatchNotOpenError, BatchQueries
from api.streams.telling import Teller
from api.streams.writer import EventWriter, SupersededError
from ingather.domain.event_stream import Draft, is_waiting, live_files, progress_data
from ingather.domain.live_progress import ChildKey, merged
from ingather.models.batch import BatchProgress, BatchState, ChildProgress
from ingather.models.errors import DependencyError
from ingather.models.events import EventType
from ingather.models.messages import DocumentHeartbeat, OutcomesPage
from ingather.ports.catalog import Catalog
from ingather.ports.event_log import EventLog, StreamKey

log = structlog.get_logger(__name__)

LEASE_SECONDS = 4.0
STANDBY_SECONDS = 0.7
BUSY_SECONDS = 0.15
CHILD_SECONDS = 0.05
"""A batch with children is asked less often, by this much for each: every look is a query to each of them."""
IDLE_SECONDS = 1.0
LONGEST_TROUBLE_SECONDS = 60.0
"""Between two questions about one of many batches that nobody watches, of an engine that does not answer."""
PROGRESS_SECONDS = 0.5
"""``batch.progress`` comes at most this often."""
SNAPSHOT_SECONDS = 2.0
"""Others may read the progress shared with them for so long: longer than the longest pause between two looks."""
SHARE_SECONDS = 0.25
STAGES_SECONDS = 1.0
SLOW_DOCUMENT = timedelta(seconds=1)
"""A document in flight for longer is shown with its live stage."""


@dataclass(frozen=True, slots=True)
class PollerParts:
    """What every poller of a process shares."""

    queries: BatchQueries
    engine: BatchEngine
    log: EventLog
    catalog: Catalog
    settle: Settle
    announcers: Announcers = field(default_factory=dict)


def _idle_seconds() -> float:
    return IDLE_SECONDS


def trouble_seconds(trouble: int, idle_seconds: float) -> float:
    """Before the next question to an engine that did not answer so many in a row: ever longer.

    At most as long as between two looks at a batch that waits. Where many wait and nobody watches, which is when that is over
    a second, twice as long each time: an engine that is behind would be kept behind by their repeated questions alone.
    """
    growth = 2.0 ** min(trouble, 9)
    longest = idle_seconds
    if idle_seconds > IDLE_SECONDS:
        longest = min(idle_seconds * growth, max(idle_seconds, LONGEST_TROUBLE_SECONDS))
    return min(BUSY_SECONDS * growth, longest)


class Poller:
    """Tells one batch's story, whenever no other process does."""

    def __init__(
        self, key: StreamKey, parts: PollerParts, owner: str, idle_seconds: Callable[[], float] = _idle_seconds
    ) -> None:
        self._key = key
        self._idle_seconds = idle_seconds
        self._queries = parts.queries
        self._engine = parts.engine
        self._log = parts.log
        self._catalog = parts.catalog
        self._settle = parts.settle
        self._owner = owner
        self._writer = EventWriter(key, parts.log, parts.catalog, owner, LEASE_SECONDS, announcers=parts.announcers)
        self._teller = Teller(key.batch_id, parts.catalog, self._writer)
        self._begin_anew()
        self.ready = asyncio.Event()
        """Set once everything that has happened is told, or another process does the telling."""
        self.ended = False
        """The batch is over, and its last event is in the log."""
        self._nudged = asyncio.Event()

    def _begin_anew(self) -> None:
        self._writer.begin_anew()
        self._teller.begin_anew()
        self._interval = BUSY_SECONDS
        self._answers: dict[ChildKey, BatchProgress] = {}
        self._has_heard_all = False
        """Each child at work was heard at some time since this poller leads."""
        self._progress_told: dict[str, Any] = {}
        self._progress_at = 0.0
        self._shared_at = 0.0
        self._beats: dict[int, DocumentHeartbeat] = {}
        self._beats_at = 0.0
        self._children: tuple[ChildProgress, ...] = ()
        self._in_flight: tuple[int, ...] = ()

    async def run(self) -> None:
        """Lead, or stand by to lead, until the batch has ended. Cancel it when nobody watches any more."""
        trouble = 0
        while not self.ended:
            try:
                if await self._writer.lead():
                    pause = await self._step()
                else:
                    self.ready.set()
                    pause = STANDBY_SECONDS / IDLE_SECONDS * self._idle_seconds() * random.uniform(0.7, 1.3)
                trouble = 0
            except SupersededError:
                self._begin_anew()
                pause = STANDBY_SECONDS
            except DependencyError as error:
                trouble += 1
                pause = self._back_off(trouble, error.code)
            except Exception as error:  # noqa: BLE001  # watchers must not be left without a poller by one odd answer
                # A traceback ends in the message, which may quote what was being read.
                log.error("poller.failed", batch_id=self._key.batch_id, **described(error))  # noqa: TRY400
                trouble += 1
                pause = self._back_off(trouble, "internal_error")
            if not self.ended:
                await self._rest(pause)
        self.ready.set()

    def nudge(self) -> None:
        """Somebody has come to watch: look soon."""
        self._nudged.set()

    async def _rest(self, seconds: float) -> None:
        if seconds <= IDLE_SECONDS:
            await asyncio.sleep(seconds)
            return
        self._nudged.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._nudged.wait(), seconds)
            self._interval = BUSY_SECONDS

    async def resign(self) -> None:
        """Let another process lead at once."""
        try:
            await self._log.resign(self._key, self._owner)
        except DependencyError:
            log.debug("poller.lease_left", batch_id=self._key.batch_id)

    def _back_off(self, trouble: int, code: str) -> float:
        if trouble == 1:
            log.warning("poller.interrupted", batch_id=self._key.batch_id, code=code)
        pause = trouble_seconds(trouble, self._idle_seconds()) * random.uniform(0.7, 1.0)
        self._interval = max(self._interval, pause)
        return pause

    async def _step(self) -> float:
        """One look at the batch; answers the seconds until the next."""
        began = time.monotonic()
        await self._writer.restore()
        await self._writer.flush()
        try:
            # Side by side: what stages files are in is no reason for an event to wait.
            page, _ = await asyncio.gather(
                self._queries.outcomes(self._key.batch_id, self._writer.story.position), self._feel_pulses(began)
            )
        except BatchNotOpenError:
            return await self._finish()
        await self._teller.tell_page(page)
        if page.more or await self._tell_children(page.progress):
            return 0.0
        self._writer.speak()
        progress = merged(page.progress, self._answers)
        # Of a child that is silent nothing would be counted that the poller before this one counted and told.
        self._has_heard_all |= self._answers.keys() >= {ChildKey.of(child) for child in progress.children}
        self._writer.put(self._drafts_of(progress))
        await self._writer.flush()
        await self._share(progress)
        self.ready.set()
        busy = max(BUSY_SECONDS, CHILD_SECONDS * len(progress.children))
        self._interval = min(self._interval * 1.5, self._idle_seconds()) if is_waiting(progress) else busy
        return max(self._interval - (time.monotonic() - began), 0.02)

    async def _tell_children(self, parent: BatchProgress) -> bool:
        """Tell what children at work have in their journals; whether one of them has more to tell."""
        story = self._writer.story
        found = await self._queries.child_outcomes(self._key.batch_id, story.children) if story.children else {}
        pages: dict[ChildKey, OutcomesPage] = {child: page for child, page in found.items() if page is not None}
        await self._teller.tell_children(pages)
        at_work = {ChildKey.of(child) for child in parent.children}
        # A child that is silent, or has just ended, is counted as it was: numbers do not go back.
        self._answers |= {child: page.progress for child, page in pages.items()}
        self._answers = {child: answer for child, answer in self._answers.items() if child in at_work}
        return any(page.more for page in pages.values())

    def _drafts_of(self, progress: BatchProgress) -> list[Draft]:
        """What the numbers themselves tell."""
        story, now = self._writer.story, datetime.now(UTC)
        drafts: list[Draft] = []
        if progress.state is BatchState.PAUSED and story.state is BatchState.PAUSING:
            # Only its children know that nothing is in flight any more; no journal says so.
            paused = story.tell_state(BatchState.PAUSED, now)
            drafts += [paused] if paused else []
        if self._has_heard_all and time.monotonic() - self._progress_at >= PROGRESS_SECONDS:
            data = progress_data(progress, self._slow_files(progress))
            if data != self._progress_told:
                self._progress_told, self._progress_at = data, time.monotonic()
                drafts.append(Draft(EventType.BATCH_PROGRESS, now, data, story.state))
        return drafts

    def _slow_files(self, progress: BatchProgress) -> list[dict[str, Any]]:
        began_before = datetime.now(UTC) - SLOW_DOCUMENT
        running = self._writer.story.running
        slow = {o: running[o] for o in progress.in_flight if o in running and running[o] <= began_before}
        self._children, self._in_flight = progress.children, progress.in_flight
        return live_files(self._key.batch_id, slow, self._beats, self._teller.names, self._teller.sources)

    async def _feel_pulses(self, now: float) -> None:
        """Ask once in a while for the stages of files that are slow, or about to be."""
        running = self._writer.story.running
        # One that a pack sent back has begun, and is not in flight.
        oldest = min((running[ordinal] for ordinal in self._in_flight if ordinal in running), default=None)
        is_slow = oldest is not None and datetime.now(UTC) - oldest >= SLOW_DOCUMENT / 2
        if is_slow and now - self._beats_at >= STAGES_SECONDS:
            self._beats_at = now
            with suppress(DependencyError):
                self._beats = await self._engine.heartbeats(self._key.batch_id, self._children)

    async def _share(self, progress: BatchProgress) -> None:
        # A batch that waits is not busy: its progress can be asked for, and a shared one would only be older.
        is_exact = self._has_heard_all and not is_waiting(progress)
        if is_exact and time.monotonic() - self._shared_at >= SHARE_SECONDS:
            self._shared_at = time.monotonic()
            await self._log.put_snapshot(self._key.batch_id, progress, SNAPSHOT_SECONDS)

    async def _finish(self) -> float:
        """Tell what the closed workflow can no longer be asked, then the last event."""
        found = await final_progress(self._key, self._catalog, self._engine, self._settle)
        if found is None:
            return IDLE_SECONDS
        progress, story = found.progress, self._writer.story
        await self._log.drop_snapshot(self._key.batch_id)
        if story.state is None or not story.state.is_final or progress.version > story.version:
            await self._teller.tell_rest(progress, found.created_at)
            log.info("stream.completed", batch_id=self._key.batch_id, latest_seq=self._writer.last_seq)
        if self._writer.is_announced:
            await self._catalog.note_told(self._key.batch_id, progress.version)
        self.ended = True
        return 0.0

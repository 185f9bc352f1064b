"""How far is a batch: one answer for everybody who asks in the same moment."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

import structlog
from temporalio.client import Client

from api.engine import BatchEngine, Presence
from api.streams.queries import BatchNotOpenError, BatchQueries
from ingather.domain.live_progress import is_newer
from ingather.models.batch import BatchProgress
from ingather.models.errors import EngineUnavailableError, EventLogUnavailableError
from ingather.ports.event_log import EventLog

log = structlog.get_logger(__name__)

FRESH_SECONDS = 0.25
REMEMBERED_BATCHES = 1_000


@dataclass(frozen=True, slots=True)
class LiveProgress:
    """A batch as the engine knows it."""

    progress: BatchProgress | None
    """None when the engine has no such batch, or says nothing at all."""
    stale: bool
    """The last known numbers: no worker answered in time."""
    closed: bool
    """The workflow is over (or gone): the catalog has the last word."""


@dataclass(slots=True)
class _Known:
    live: LiveProgress
    at: float


class ProgressReader:
    """Single-flight per process; shares the poller's snapshot, so a watched batch costs no query here."""

    def __init__(self, client: Client, log: EventLog) -> None:
        self.queries = BatchQueries(client)
        """Shared with the pollers, so that one count covers all queries of the process."""
        self._engine = BatchEngine(client)
        self._log = log
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[LiveProgress]] = {}

    async def read(self, batch_id: str) -> LiveProgress:
        """Progress at most a quarter of a second old where a worker answers; never raises for a silent engine."""
        known = self._known.get(batch_id)
        if known is not None and time.monotonic() - known.at < FRESH_SECONDS:
            return known.live
        task = self._asking.get(batch_id)
        if task is None:
            task = asyncio.create_task(self._ask(batch_id), name=f"progress {batch_id}")
            self._asking[batch_id] = task
            task.add_done_callback(lambda _done: self._asking.pop(batch_id, None))
        # One caller that goes away must not take the answer from the others.
        return await asyncio.shield(task)

    def note(self, batch_id: str, progress: BatchProgress) -> None:
        """Take in an answer that came another way (an update's), so that the next read is not older."""
        if progress.children:
            # What its children know is not in it: better ask them all.
            self.forget(batch_id)
            return
        self._remember(batch_id, LiveProgress(self._newest(batch_id, progress), stale=False, closed=False))

    def forget(self, batch_id: str) -> None:
        """The batch has just changed its state: what is remembered is too old, however fresh."""
        self._known.pop(batch_id, None)

    async def _ask(self, batch_id: str) -> LiveProgress:
        started = time.monotonic()
        shared = await self._shared(batch_id)
        live = LiveProgress(shared, stale=False, closed=False) if shared else await self._query(batch_id)
        known = self._known.get(batch_id)
        if known is not None and known.at > started:
            return known.live
        if live.progress is not None and not live.closed:
            live = LiveProgress(self._newest(batch_id, live.progress), live.stale, live.closed)
        self._remember(batch_id, live)
        return live

    async def _shared(self, batch_id: str) -> BatchProgress | None:
        try:
            return await self._log.get_snapshot(batch_id)
        except EventLogUnavailableError:
            return None

    async def _query(self, batch_id: str) -> LiveProgress:
        try:
            answer = await self.queries.progress(batch_id)
            return LiveProgress(answer.progress, stale=not answer.complete, closed=False)
        except BatchNotOpenError:
            is_open = False
        except EngineUnavailableError as error:
            log.info("progress.fell_back", batch_id=batch_id, reason=error.message)
            is_open = True
        try:
            status = await self._engine.status(batch_id)
        except EngineUnavailableError:
            known = self._known.get(batch_id)
            return LiveProgress(known.live.progress if known else None, stale=True, closed=not is_open)
        closed = status.presence is not Presence.OPEN
        return LiveProgress(status.progress, stale=not closed, closed=closed)

    def _newest(self, batch_id: str, progress: BatchProgress) -> BatchProgress:
        """Never go back: a shared snapshot may be older than an answer this process has seen."""
        known = self._known.get(batch_id)
        if known is None or known.live.closed or known.live.progress is None:
            return progress
        return known.live.progress if is_newer(known.live.progress, progress) else progress

    def _remember(self, batch_id: str, live: LiveProgress) -> None:
        self._known[batch_id] = _Known(live, time.monotonic())
        self._known.move_to_end(batch_id)
        while len(self._known) > REMEMBERED_BATCHES:
            self._known.popitem(last=False)

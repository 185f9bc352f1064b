"""How far is a batch: one answer for everybody who asks in the same moment."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog
from temporalio.client import Client

from api.engine import BatchEngine, EngineStatus, Presence
from api.engine_calls import READ_TIMEOUT, SILENT_SECONDS
from api.streams.queries import BatchNotOpenError, BatchQueries
from ingather.domain.live_progress import is_newer, not_behind
from ingather.models.batch import BatchProgress
from ingather.models.errors import DependencyError, EngineUnavailableError, EventLogUnavailableError
from ingather.ports.event_log import EventLog

log = structlog.get_logger(__name__)

FRESH_SECONDS = 0.25
REMEMBERED_BATCHES = 1_000
ASIDE_SECONDS = 0.25
"""A query is silent for so long before the engine is asked, beside it, whether the batch is open: one deadline for both."""
DISTRUST_SECONDS = 2.0
"""For so long after a change the shared progress may still be of before it (``SNAPSHOT_SECONDS`` of the poller)."""


@dataclass(frozen=True, slots=True)
class LiveProgress:
    """A batch as the engine knows it."""

    progress: BatchProgress | None
    """None when the engine has no such batch, or says nothing at all."""
    stale: bool
    """The last known numbers: no worker answered in time."""
    closed: bool
    """The workflow is over (or gone): the catalog has the last word."""
    silent: bool = False
    """Not only no worker: the engine itself did not answer."""


@dataclass(slots=True)
class _Known:
    live: LiveProgress | None
    at: float
    """When it was learnt; 0 when it is too old to be told again."""
    changed_at: float = 0.0
    """When the batch took a message through this process: what was asked before may be of before it."""


class ProgressReader:
    """Single-flight per process; shares the poller's snapshot, so a watched batch costs no query here."""

    def __init__(self, client: Client, log: EventLog, *, timeout: timedelta = READ_TIMEOUT) -> None:
        self.queries = BatchQueries(client, deadline=timeout)
        """Shared with the pollers, so that one count covers all queries of the process."""
        self._engine = BatchEngine(client, read_timeout=timeout)
        self._log = log
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[LiveProgress]] = {}

    async def read(self, batch_id: str) -> LiveProgress:
        """Progress at most a quarter of a second old where a worker answers; never raises for a silent engine."""
        known = self._known.get(batch_id)
        if known is not None and known.live is not None and time.monotonic() - known.at < _good_for(known.live):
            return known.live
        task = self._asking.get(batch_id)
        if task is None:
            task = asyncio.create_task(self._ask(batch_id), name=f"progress {batch_id}")
            self._asking[batch_id] = task
            task.add_done_callback(lambda done: self._asked(batch_id, done))
        # One caller that goes away must not take the answer from the others.
        return await asyncio.shield(task)

    async def note(self, batch_id: str, progress: BatchProgress) -> None:
        """Take in an answer that came another way (an update's), so that the next read is not older."""
        await self.changed(batch_id)
        if not progress.children:
            # What its children know is not in an update's answer: such a batch is better asked.
            self._remember(
                batch_id, LiveProgress(self._newest(batch_id, progress, complete=True), stale=False, closed=False)
            )

    async def changed(self, batch_id: str) -> None:
        """The batch has just taken a message: no process may tell what was shared of it before."""
        self.forget(batch_id)
        with suppress(DependencyError):
            await self._log.drop_snapshot(batch_id)

    def forget(self, batch_id: str) -> None:
        """The batch has just changed its state: what is remembered or being asked here is too old, however fresh."""
        known = self._known.get(batch_id)
        # Numbers once told stay known: a later answer that is older than they are is none.
        self._keep(batch_id, _Known(known.live if known else None, at=0.0, changed_at=time.monotonic()))
        self._asking.pop(batch_id, None)

    def _asked(self, batch_id: str, done: "asyncio.Task[LiveProgress]") -> None:
        if self._asking.get(batch_id) is done:
            del self._asking[batch_id]
        if not done.cancelled():
            done.exception()  # seen, also where every caller has gone away

    async def _ask(self, batch_id: str) -> LiveProgress:
        started = time.monotonic()
        known = self._known.get(batch_id)
        has_changed = known is not None and started - known.changed_at < DISTRUST_SECONDS
        shared = None if has_changed else await self._shared(batch_id)
        live = LiveProgress(shared, stale=False, closed=False) if shared else await self._query(batch_id)
        known = self._known.get(batch_id)
        if known is not None and known.changed_at > started:
            # Whoever asks from now on asks anew; this answer is for those who asked before.
            return known.live if known.live is not None and known.at > started else live
        if live.progress is not None and not live.closed:
            live = replace(live, progress=self._newest(batch_id, live.progress, complete=not live.stale))
        self._remember(batch_id, live)
        return live

    async def _shared(self, batch_id: str) -> BatchProgress | None:
        try:
            return await self._log.get_snapshot(batch_id)
        except EventLogUnavailableError:
            return None

    async def _query(self, batch_id: str) -> LiveProgress:
        status: asyncio.Task[EngineStatus] | None = None
        asking = asyncio.create_task(self.queries.progress(batch_id))
        try:
            await asyncio.wait({asking}, timeout=ASIDE_SECONDS)
            if not asking.done():
                status = asyncio.create_task(self._engine.status(batch_id))
                status.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may not be needed
            answer = await asking
            return LiveProgress(answer.progress, stale=not answer.complete, closed=False)
        except BatchNotOpenError:
            return await self._described(batch_id, self._engine.status(batch_id), is_open=False)
        except EngineUnavailableError as error:
            log.info("progress.fell_back", batch_id=batch_id, reason=error.message)
            return await self._described(batch_id, status or self._engine.status(batch_id), is_open=True)
        finally:
            asking.cancel()
            if status is not None:
                status.cancel()

    async def _described(self, batch_id: str, asked: Awaitable[EngineStatus], *, is_open: bool) -> LiveProgress:
        try:
            status = await asked
        except EngineUnavailableError:
            known = self._known.get(batch_id)
            progress = known.live.progress if known is not None and known.live is not None else None
            return LiveProgress(progress, stale=True, closed=not is_open, silent=True)
        closed = status.presence is not Presence.OPEN
        return LiveProgress(status.progress, stale=not closed, closed=closed)

    def _newest(self, batch_id: str, progress: BatchProgress, *, complete: bool) -> BatchProgress:
        """Never go back: a shared snapshot may be older than an answer this process has seen, and a child be silent."""
        known = self._known.get(batch_id)
        if known is None or known.live is None or known.live.closed or known.live.progress is None:
            return progress
        if is_newer(known.live.progress, progress):
            return known.live.progress
        return progress if complete else not_behind(progress, known.live.progress)

    def _remember(self, batch_id: str, live: LiveProgress) -> None:
        known = self._known.get(batch_id)
        self._keep(batch_id, _Known(live, time.monotonic(), known.changed_at if known else 0.0))

    def _keep(self, batch_id: str, known: _Known) -> None:
        self._known[batch_id] = known
        self._known.move_to_end(batch_id)
        while len(self._known) > REMEMBERED_BATCHES:
            self._known.popitem(last=False)


def _good_for(live: LiveProgress) -> float:
    return SILENT_SECONDS if live.silent else FRESH_SECONDS

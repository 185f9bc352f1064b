"""One watcher's stream, from the first frame to the last: never a silent gap, never a duplicate.

The order matters: subscribe to the hub, then read history from the log, then drop the live
events that history had already. An event that does not follow the last one is announced with
``stream.reset`` and a snapshot.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import structlog

from api.streams.hub import Hub
from api.streams.subscription import Burst, Frame, Subscription
from api.streams.wording import WAITING, Wording
from ingather.domain.event_cursor import Mode, Start, gap
from ingather.models.errors import EventLogUnavailableError
from ingather.models.events import BATCH_END_EVENTS
from ingather.ports.event_log import EventLog, LogRange, StreamKey

log = structlog.get_logger(__name__)

READY_SECONDS = 1.5
HISTORY_PAGE = 200
RETRY_SECONDS = 1.0


class StreamSession:
    """What one client sees.

    Args:
        wording: how it is said to this client.
        told: the batch is over and the log holds its last event, so nothing has to be followed.
    """

    def __init__(self, key: StreamKey, wording: Wording, *, hub: Hub, log: EventLog, told: bool) -> None:
        self._key = key
        self._wording = wording
        self._hub = hub
        self._log = log
        self._told = told
        self._last: int | None = None
        """The last event this client has; None when any may come next."""

    async def frames(self) -> AsyncGenerator[bytes]:
        """Encoded frames until the batch ends, the client lags, or this process goes away."""
        yield self._wording.begun()
        if self._told:
            async for chunk in self._ended():
                yield chunk
            return
        async with self._hub.subscribe(self._key) as subscription:
            await subscription.ready(READY_SECONDS)
            async for chunk in self._begin(subscription):
                yield chunk
            async for chunk in self._go_on(subscription):
                yield chunk
            yield await self._farewell(subscription)

    async def _ended(self) -> AsyncIterator[bytes]:
        known = await self._range() or LogRange()
        async for chunk in self._open(known):
            yield chunk
        async for chunk in self._history():
            yield chunk
        yield await self._wording.end(self._last)

    # --- Beginning --------------------------------------------------------------------------

    async def _begin(self, subscription: Subscription) -> AsyncIterator[bytes]:
        known = await self._range()
        if known is None:
            yield self._wording.opened(WAITING, LogRange())
            yield await self._wording.snapshot()
            while known is None and not subscription.draining:
                await subscription.wait(RETRY_SECONDS)
                known = await self._range()
        async for chunk in self._open(known or LogRange()):
            yield chunk

    async def _open(self, known: LogRange) -> AsyncIterator[bytes]:
        start = self._wording.start(known)
        yield self._wording.opened(start, known)
        if start.mode is Mode.RESET:
            yield self._reset(start, known)
        if start.mode is not Mode.REPLAY:
            yield await self._wording.snapshot()
        # After a snapshot of a batch without a log, whatever comes first is next.
        self._last = start.after if start.mode is Mode.REPLAY or known.latest else None

    async def _range(self) -> LogRange | None:
        try:
            return await self._log.range(self._key)
        except EventLogUnavailableError:
            return None

    # --- Going on ---------------------------------------------------------------------------

    async def _go_on(self, subscription: Subscription) -> AsyncIterator[bytes]:
        """History until there is none left, then live events; back to history where live ones were missed."""
        while not subscription.draining and not subscription.lagged:
            subscription.catch_up()
            ended = subscription.batch_ended
            try:
                async for chunk in self._history(subscription):
                    yield chunk
            except EventLogUnavailableError:
                yield self._wording.waiting()
                await subscription.wait(RETRY_SECONDS)
                continue
            if ended:
                return
            if subscription.go_live(self._last or 0):
                async for chunk in self._live(subscription):
                    yield chunk
                if self._is_over:
                    return

    _is_over = False

    async def _history(self, subscription: Subscription | None = None) -> AsyncIterator[bytes]:
        while subscription is None or not subscription.draining:
            events = await self._log.read(self._key, self._last or 0, HISTORY_PAGE)
            if events:
                burst = Burst([Frame.of(event) for event in events])
                async for chunk in self._pass_on([burst]):
                    yield chunk
            if len(events) < HISTORY_PAGE:
                return

    async def _live(self, subscription: Subscription) -> AsyncIterator[bytes]:
        while not (subscription.draining or subscription.lagged or subscription.missed or subscription.batch_ended):
            bursts = await subscription.wait()
            if not bursts and subscription.is_idle:
                subscription.is_idle = False
                yield self._wording.alive()
            async for chunk in self._pass_on(bursts):
                yield chunk
            if bursts and bursts[-1].frames[-1].type in BATCH_END_EVENTS:
                self._is_over = True
                return

    async def _pass_on(self, bursts: Sequence[Burst]) -> AsyncIterator[bytes]:
        """Events in one piece where they follow each other; a reset where they do not."""
        ready: list[bytes] = []
        for burst in bursts:
            if self._last is not None and burst.follows == self._last:
                said = self._wording.burst(burst)
                ready += [said] if said else []
                self._last = burst.last
                continue
            async for chunk in self._pass_on_singly(burst, ready):
                yield chunk
        if ready:
            # No copy, where it is one burst.
            yield ready[0] if len(ready) == 1 else b"".join(ready)

    async def _pass_on_singly(self, burst: Burst, ready: list[bytes]) -> AsyncIterator[bytes]:
        """The same, frame by frame. What history had already is dropped: the hub may hand it out later than the log."""
        for frame in burst.frames:
            if self._last is not None and frame.seq <= self._last:
                continue
            if self._last is not None and gap(self._last, frame.seq):
                if ready:
                    yield b"".join(ready)
                    ready.clear()
                yield self._reset(Start(Mode.RESET, self._last, "lost"), LogRange(frame.seq, burst.last))
                yield await self._wording.snapshot()
            said = self._wording.frame(frame)
            ready += [said] if said else []
            self._last = frame.seq

    # --- Frames -----------------------------------------------------------------------------

    def _reset(self, start: Start, known: LogRange) -> bytes:
        log.info("stream.reset", batch_id=self._key.batch_id, reason=start.reason, cursor=self._last)
        return self._wording.reset(start, known)

    async def _farewell(self, subscription: Subscription) -> bytes:
        if subscription.draining:
            return self._wording.draining()
        if subscription.lagged:
            log.info("stream.lagged", batch_id=self._key.batch_id, cursor=self._last)
            return self._wording.lagged(self._last)
        return await self._wording.end(self._last)

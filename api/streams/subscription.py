"""One watcher's place between the hub that hands out and the stream that passes on."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from api.streams.frames import event_frame
from api.streams.poller import Poller
from ingather.ports.event_log import LoggedEvent

QUEUE_SIZE = 256
"""Events a slow client may lie behind."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An event, encoded for SSE once for all who watch."""

    event: LoggedEvent
    sse: bytes
    said: dict[Any, Any] = field(default_factory=dict)
    """The same in other words, kept by whoever words it first."""

    @classmethod
    def of(cls, event: LoggedEvent) -> Self:
        return cls(event, event_frame(event))

    @property
    def seq(self) -> int:
        return self.event.seq

    @property
    def type(self) -> str:
        return self.event.type


class Burst:
    """Live events that came together: one piece of bytes for everybody who lacks exactly these."""

    __slots__ = ("follows", "frames", "last", "sse")

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames
        self.last = frames[-1].seq
        self.sse = b"".join(frame.sse for frame in frames)
        is_gapless = self.last - frames[0].seq == len(frames) - 1
        self.follows = frames[0].seq - 1 if is_gapless else None
        """The event before them; None where they do not follow each other themselves."""


class Subscription:
    """One watcher's place in the hub: a bounded queue, filled by the hub, emptied by the watcher."""

    __slots__ = ("_is_catching_up", "_news", "_poller", "_queue", "depth", "draining", "is_idle", "lagged", "missed")

    def __init__(self, poller: Callable[[], Poller]) -> None:
        self._poller = poller
        self._queue: deque[Burst] = deque()
        self.depth = 0
        """Events in the queue."""
        self._news = asyncio.Event()
        self._is_catching_up = True
        self.lagged = False
        """Live events came faster than the client took them; the queue is gone."""
        self.missed = False
        """Live events went by while history was read: they are in the log."""
        self.draining = False
        self.is_idle = False
        """Nothing was handed out for a while: tell the client that the stream lives."""

    @property
    def is_crowded(self) -> bool:
        """The client lies behind by half of what it may."""
        return self.depth >= QUEUE_SIZE // 2

    @property
    def batch_ended(self) -> bool:
        """The batch is over, and its last event is in the log."""
        return self._poller().ended

    async def ready(self, timeout_seconds: float) -> bool:
        """Wait until everything that has happened is in the log; False when that takes too long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._poller().ready.wait()
        except TimeoutError:
            return False
        return True

    def offer(self, burst: Burst) -> None:
        """Queue live events, or note that there were too many."""
        self.is_idle = False
        if self.depth + len(burst.frames) > QUEUE_SIZE:
            self._empty()
            self.missed = self._is_catching_up
            self.lagged = not self._is_catching_up
        elif not self.missed:
            self._queue.append(burst)
            self.depth += len(burst.frames)
        self.wake()

    def _empty(self) -> None:
        self._queue.clear()
        self.depth = 0

    def wake(self) -> None:
        self._news.set()

    def go_live(self, after: int) -> bool:
        """End the reading of history at ``after``; False when it has to go on, because live events were missed."""
        if self.missed:
            self.missed = False
            return False
        while self._queue and self._queue[0].last <= after:
            self.depth -= len(self._queue.popleft().frames)
        self._is_catching_up = False
        return True

    def catch_up(self) -> None:
        """Go back to reading history: until ``go_live``, a full queue is no lag."""
        self._is_catching_up = True

    async def wait(self, timeout_seconds: float | None = None) -> list[Burst]:
        """What is queued, as soon as there is news; empty-handed after the time, or when a flag was set."""
        if not self._queue:
            try:
                # Without a time there is no timer: thousands of watchers wait here.
                async with asyncio.timeout(timeout_seconds):
                    await self._news.wait()
            except TimeoutError:
                return []
        self._news.clear()
        bursts = list(self._queue)
        self._empty()
        return bursts

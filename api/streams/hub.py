"""One hub per process: follows every watched batch with one blocking read, and hands events out in memory."""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from api.streams.frames import event_frame
from api.streams.poller import Poller, PollerParts
from ingather.models.errors import DependencyError, EventLogUnavailableError
from ingather.models.events import EventType
from ingather.ports.event_log import EventLog, LoggedEvent, StreamKey

log = structlog.get_logger(__name__)

QUEUE_SIZE = 256
"""Events a slow client may lie behind."""
CROWDED = QUEUE_SIZE // 2
WAIT_SECONDS = 5.0
LINGER_SECONDS = 5.0
"""A batch is followed this long after its last watcher left, so that a reconnect finds everything running."""
RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Frame:
    """A live event, encoded for SSE once for all who watch."""

    seq: int
    type: str
    sse: bytes


class Subscription:
    """One watcher's place in the hub: a bounded queue, filled by the hub, emptied by the watcher."""

    def __init__(self, channel: "Channel") -> None:
        self._channel = channel
        self._queue: deque[Frame] = deque()
        self._news = asyncio.Event()
        self._is_catching_up = True
        self.lagged = False
        """Live events came faster than the client took them; the queue is gone."""
        self.missed = False
        """Live events went by while history was read: they are in the log."""
        self.draining = False

    @property
    def batch_ended(self) -> bool:
        """The batch is over, and its last event is in the log."""
        return self._channel.poller.ended

    async def ready(self, timeout_seconds: float) -> bool:
        """Wait until everything that has happened is in the log; False when that takes too long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._channel.poller.ready.wait()
        except TimeoutError:
            return False
        return True

    def offer(self, frames: list[Frame]) -> None:
        """Queue live events, or note that there were too many."""
        if len(self._queue) + len(frames) > QUEUE_SIZE:
            self._queue.clear()
            self.missed = self._is_catching_up
            self.lagged = not self._is_catching_up
        elif not self.missed:
            self._queue.extend(frames)
        self.wake()

    def wake(self) -> None:
        self._news.set()

    def go_live(self, after: int) -> bool:
        """End the reading of history at ``after``; False when it has to go on, because live events were missed."""
        if self.missed:
            self.missed = False
            return False
        while self._queue and self._queue[0].seq <= after:
            self._queue.popleft()
        self._is_catching_up = False
        return True

    def catch_up(self) -> None:
        """Go back to reading history: until ``go_live``, a full queue is no lag."""
        self._is_catching_up = True

    async def wait(self, timeout_seconds: float) -> list[Frame]:
        """What is queued, as soon as there is news; empty-handed after the time, or when another flag was set."""
        if not self._queue:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._news.wait()
            except TimeoutError:
                return []
        self._news.clear()
        frames = list(self._queue)
        self._queue.clear()
        return frames

    @property
    def depth(self) -> int:
        return len(self._queue)


@dataclass(slots=True)
class Channel:
    """A batch that somebody here watches."""

    key: StreamKey
    poller: Poller
    position: int | None = None
    """Last event handed out; None until the log could be asked."""
    subscriptions: set[Subscription] = field(default_factory=set)
    polling: asyncio.Task[None] | None = None
    closing: asyncio.TimerHandle | None = None


class Hub:
    """Starts and stops pollers as watchers come and go.

    Args:
        parts: what pollers need.
        on_state: called with the batch id when a batch's state changed.
    """

    def __init__(self, parts: PollerParts, on_state: Callable[[str], None]) -> None:
        self._parts = parts
        self._log: EventLog = parts.log
        self._on_state = on_state
        self._channels: dict[StreamKey, Channel] = {}
        self._followed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._owner = str(uuid.uuid4())
        self.draining = False
        self.reads = 0
        """Blocking reads so far, for measurements."""

    @property
    def followed_count(self) -> int:
        return len(self._channels)

    def start(self) -> None:
        self._spawn(self._follow(), "hub")

    def drain(self) -> None:
        """Tell every watcher that this process is going away."""
        self.draining = True
        for channel in self._channels.values():
            for subscription in channel.subscriptions:
                subscription.draining = True
                subscription.wake()

    async def close(self) -> None:
        """Stop following; leases are given back, so that another process polls on at once."""
        self.drain()
        for channel in list(self._channels.values()):
            self._drop(channel)
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                if task.get_name() == "hub":
                    task.cancel()
            await asyncio.wait(tasks, timeout=2.0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def subscribe(self, key: StreamKey) -> AsyncIterator[Subscription]:
        """Follow a batch for as long as the block runs."""
        channel = self._channels.get(key)
        if channel is None:
            channel = Channel(key, Poller(key, self._parts, self._owner))
            self._channels[key] = channel
        if channel.closing is not None:
            channel.closing.cancel()
            channel.closing = None
        self._keep_polling(channel)
        subscription = Subscription(channel)
        subscription.draining = self.draining
        channel.subscriptions.add(subscription)
        try:
            await self._locate(channel)
            yield subscription
        finally:
            channel.subscriptions.discard(subscription)
            if not channel.subscriptions and self._channels.get(key) is channel:
                loop = asyncio.get_running_loop()
                channel.closing = loop.call_later(LINGER_SECONDS, self._drop, channel)

    # --- Pollers ------------------------------------------------------------------------------

    def _keep_polling(self, channel: Channel) -> None:
        before = channel.polling
        if channel.poller.ended:
            # The batch was over when it was last looked at; a retry may have opened it again.
            channel.poller = Poller(channel.key, self._parts, self._owner)
        elif before is not None and not before.done():
            return
        work = self._poll(channel, channel.poller, before)
        channel.polling = self._spawn(work, f"poller {channel.key.batch_id}")

    async def _poll(self, channel: Channel, poller: Poller, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            # Its lease is given back first.
            await asyncio.wait([before])
        try:
            await poller.run()
            for subscription in channel.subscriptions:
                subscription.wake()
        finally:
            # Shielded: a poller that is stopped still hands its lease over.
            await asyncio.shield(self._spawn(poller.resign(), "resign"))

    def _drop(self, channel: Channel) -> None:
        if self._channels.get(channel.key) is channel:
            del self._channels[channel.key]
        if channel.polling is not None:
            channel.polling.cancel()

    # --- Following ----------------------------------------------------------------------------

    async def _locate(self, channel: Channel) -> None:
        """Find out where following begins; while the log is away the hub's own loop does it later."""
        if channel.position is not None:
            return
        try:
            latest = (await self._log.range(channel.key)).latest
            if channel.position is None:
                channel.position = latest
            self._followed.set()
            await self._log.wake()
        except EventLogUnavailableError:
            self._followed.set()

    async def _follow(self) -> None:
        trouble = False
        while True:
            await self._followed.wait()
            try:
                await self._follow_once()
                trouble = False
            except DependencyError as error:
                if not trouble:
                    log.warning("hub.interrupted", code=error.code, batches=len(self._channels))
                trouble = True
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow_once(self) -> None:
        for channel in list(self._channels.values()):
            if channel.position is None:
                channel.position = (await self._log.range(channel.key)).latest
                for subscription in channel.subscriptions:
                    subscription.missed = True
                    subscription.wake()
        positions = {key: channel.position or 0 for key, channel in self._channels.items()}
        if not positions:
            self._followed.clear()
            return
        self.reads += 1
        found = await self._log.wait(positions, WAIT_SECONDS)
        by_key: dict[StreamKey, list[LoggedEvent]] = {}
        for key, event in found:
            by_key.setdefault(key, []).append(event)
        for key, events in by_key.items():
            channel_now = self._channels.get(key)
            if channel_now is not None:
                await self._hand_out(channel_now, events)

    async def _hand_out(self, channel: Channel, events: list[LoggedEvent]) -> None:
        position = channel.position or 0
        fresh = [event for event in events if event.seq > position]
        if not fresh:
            return
        channel.position = fresh[-1].seq
        if any(event.type.startswith("batch.") and event.type != EventType.BATCH_PROGRESS for event in fresh):
            self._on_state(channel.key.batch_id)
        frames = [Frame(event.seq, event.type, event_frame(event)) for event in fresh]
        for subscription in list(channel.subscriptions):
            subscription.offer(frames)
        # Let watchers take what is there before more comes; a crowd that stays is somebody who is slow.
        await asyncio.sleep(0)
        for _ in range(5):
            if all(subscription.depth < CROWDED for subscription in channel.subscriptions):
                break
            await asyncio.sleep(0.02)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

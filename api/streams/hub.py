"""One hub per process: follows every watched batch with one blocking read, and hands events out in memory."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from activities.failures import described
from api.streams.poller import IDLE_SECONDS, Poller, PollerParts
from api.streams.subscription import Burst, Frame, Subscription
from ingather.models.errors import DependencyError, EventLogUnavailableError
from ingather.models.events import EventType
from ingather.ports.event_log import EventLog, LoggedEvent, StreamKey

log = structlog.get_logger(__name__)

PACE_SECONDS = 0.1
"""How long a batch is held back for the sake of watchers who lie behind, half of them or more."""
PACE_STEP_SECONDS = 0.02
PING_SECONDS = 15
"""A watcher who heard nothing for so long hears that the stream lives; who, changes every second."""
WAIT_SECONDS = 5.0
WAITING_SECONDS = 0.02
"""Batches that wait and are announced to somebody are asked all together at most so often; each at most every minute."""
LONGEST_WAIT_SECONDS = 60.0
LINGER_SECONDS = 5.0
"""A batch is followed this long after its last watcher left, so that a reconnect finds everything running."""
RETRY_SECONDS = 0.5


@dataclass(slots=True)
class Channel:
    """A batch that somebody here watches, or that is told for those who listen elsewhere."""

    key: StreamKey
    poller: Poller
    position: int | None = None
    """Last event handed out; None until the log could be asked."""
    subscriptions: set[Subscription] = field(default_factory=set)
    polling: asyncio.Task[None] | None = None
    closing: asyncio.TimerHandle | None = None
    attended: bool = False
    """It is told whether or not anybody watches."""
    held_until: float = 0.0
    """Events of the batch wait in the log until then, or until its watchers have taken what they have."""

    @property
    def is_followed(self) -> bool:
        """Its events are read back, for watchers who are here or may come again in a moment."""
        return bool(self.subscriptions) or self.closing is not None

    @property
    def is_crowded(self) -> bool:
        """Half of the watchers lie behind: not one who is slow, but more than can be taken."""
        crowded = sum(subscription.is_crowded for subscription in self.subscriptions)
        return crowded > 0 and crowded * 2 >= len(self.subscriptions)


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
        self.drain_begun = asyncio.Event()
        """For connections that wait for something else than a batch's events."""
        self.reads = 0
        """Blocking reads so far, for measurements."""

    @property
    def followed_count(self) -> int:
        return len(self._channels)

    def start(self) -> None:
        self._spawn(self._follow(), "hub")
        self._spawn(self._show_life(), "hub")

    def drain(self) -> None:
        """Tell every watcher that this process is going away."""
        self.draining = True
        self.drain_begun.set()
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
        channel = self._channel(key)
        if channel.closing is not None:
            channel.closing.cancel()
            channel.closing = None
        self._keep_polling(channel)
        channel.poller.nudge()
        subscription = Subscription(lambda: channel.poller)
        subscription.draining = self.draining
        channel.subscriptions.add(subscription)
        try:
            await self._locate(channel)
            yield subscription
        finally:
            channel.subscriptions.discard(subscription)
            if not channel.subscriptions and self._channels.get(key) is channel:
                loop = asyncio.get_running_loop()
                channel.closing = loop.call_later(LINGER_SECONDS, self._let_go, channel)

    # --- Attending ------------------------------------------------------------------------------

    @property
    def attended(self) -> frozenset[StreamKey]:
        """What is told here without being watched."""
        return frozenset(key for key, channel in self._channels.items() if channel.attended)

    def attend(self, key: StreamKey) -> None:
        """Have a batch told from now on, whether or not anybody watches."""
        if self.draining:
            return
        channel = self._channel(key)
        channel.attended = True
        self._keep_polling(channel)

    def dismiss(self, key: StreamKey) -> None:
        """It is told: from now on it is for those who watch."""
        channel = self._channels.get(key)
        if channel is not None and channel.attended:
            channel.attended = False
            if not channel.is_followed:
                self._drop(channel)

    def _idle_seconds(self, key: StreamKey) -> float:
        """Between two looks at a batch that waits: longer where many do, and nobody is here to see."""
        channel = self._channels.get(key)
        if channel is None or channel.subscriptions:
            return IDLE_SECONDS
        attended = sum(channel.attended for channel in self._channels.values())
        return min(max(IDLE_SECONDS, attended * WAITING_SECONDS), LONGEST_WAIT_SECONDS)

    # --- Pollers ------------------------------------------------------------------------------

    def _channel(self, key: StreamKey) -> Channel:
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = Channel(key, self._new_poller(key))
        return channel

    def _new_poller(self, key: StreamKey) -> Poller:
        return Poller(key, self._parts, self._owner, partial(self._idle_seconds, key))

    def _keep_polling(self, channel: Channel) -> None:
        before = channel.polling
        if channel.poller.ended:
            # The batch was over when it was last looked at; a retry may have opened it again.
            channel.poller = self._new_poller(channel.key)
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

    def _let_go(self, channel: Channel) -> None:
        """Nobody watches any more."""
        channel.closing = None
        if channel.attended:
            channel.position = None
        else:
            self._drop(channel)

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
                continue
            except DependencyError as error:
                if not trouble:
                    log.warning("hub.interrupted", code=error.code, batches=len(self._channels))
            except Exception as error:  # noqa: BLE001  # one odd event must not silence every stream of the process
                # A traceback ends in the message, which may quote what was being read.
                log.error("hub.failed", batches=len(self._channels), **described(error))  # noqa: TRY400
                for channel in self._channels.values():
                    _send_back(channel)
            trouble = True
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_once(self) -> None:
        for channel in list(self._channels.values()):
            if channel.position is None and channel.is_followed:
                channel.position = (await self._log.range(channel.key)).latest
                _send_back(channel)
        now = asyncio.get_running_loop().time()
        followed = {key: each for key, each in self._channels.items() if each.is_followed and each.position is not None}
        if not followed:
            self._followed.clear()
            return
        free = {key: channel for key, channel in followed.items() if not _is_held(channel, now)}
        if not free:
            await asyncio.sleep(PACE_STEP_SECONDS)
            return
        # A batch that is held back for its watchers holds no other up.
        patience = WAIT_SECONDS if len(free) == len(followed) else PACE_STEP_SECONDS
        self.reads += 1
        found = await self._log.wait({key: channel.position or 0 for key, channel in free.items()}, patience)
        by_key: dict[StreamKey, list[LoggedEvent]] = {}
        for key, event in found:
            by_key.setdefault(key, []).append(event)
        for key, events in by_key.items():
            channel_now = self._channels.get(key)
            if channel_now is not None:
                self._hand_out(channel_now, events)
        # Let watchers take what is there before more comes.
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        for key in by_key:
            channel_now = self._channels.get(key)
            if channel_now is not None and channel_now.is_crowded:
                channel_now.held_until = now + PACE_SECONDS

    def _hand_out(self, channel: Channel, events: list[LoggedEvent]) -> None:
        if channel.position is None:
            return  # its last watcher left while the log was read: the next one is located anew
        position = channel.position
        fresh = [event for event in events if event.seq > position]
        if not fresh:
            return
        channel.position = fresh[-1].seq
        if any(event.type.startswith("batch.") and event.type != EventType.BATCH_PROGRESS for event in fresh):
            self._on_state(channel.key.batch_id)
        burst = Burst([Frame.of(event) for event in fresh])
        for subscription in channel.subscriptions:
            subscription.offer(burst)

    async def _show_life(self) -> None:
        """One timer for all watchers, a few of them every second: a timer each would cost more than the events."""
        second = 0
        while True:
            await asyncio.sleep(1)
            second = (second + 1) % PING_SECONDS
            for channel in self._channels.values():
                for subscription in channel.subscriptions:
                    if id(subscription) // 64 % PING_SECONDS == second:
                        subscription.is_idle = True
                        subscription.wake()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _send_back(channel: Channel) -> None:
    """Let watchers read the log: something may have passed them by."""
    for subscription in channel.subscriptions:
        subscription.missed = True
        subscription.wake()


def _is_held(channel: Channel, now: float) -> bool:
    """Whether a batch's watchers are still being waited for."""
    if channel.held_until > now and channel.is_crowded:
        return True
    channel.held_until = 0.0
    return False

"""Events in this process's memory: for tests, and for looking at the protocol without a server."""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from ingather.models.batch import BatchProgress
from ingather.ports.event_log import Announcement, LoggedEvent, LogRange, Notes, StreamKey

_SEQ = attrgetter("seq")


@dataclass(slots=True)
class _Lease:
    owner: str
    ends_at: float


@dataclass(slots=True)
class _Stream:
    events: list[LoggedEvent] = field(default_factory=list)
    notes: dict[str, bytes] = field(default_factory=dict)
    first: int | None = None
    expires_at: float = 0.0


class InMemoryEventLog:
    """Keeps what ``RedisEventLog`` keeps, with the same cap, lifetime and leases, by the monotonic clock."""

    def __init__(self, *, max_events: int = 20_000, ttl_seconds: float = 86_400.0) -> None:
        self._max_events = max_events
        self._ttl_seconds = ttl_seconds
        self._streams: dict[StreamKey, _Stream] = {}
        self._leases: dict[StreamKey, _Lease] = {}
        self._snapshots: dict[str, tuple[BatchProgress, float]] = {}
        self._listeners: dict[str, list[list[bytes]]] = {}
        self._changed = asyncio.Condition()
        self._woken = False

    async def append(
        self,
        key: StreamKey,
        owner: str,
        events: Sequence[LoggedEvent],
        *,
        notes: Notes | None = None,
        first: bool = False,
        announcements: Sequence[Announcement] = (),
    ) -> bool:
        lease = self._lease(key)
        if not events:
            return lease is not None and lease.owner == owner
        stream = self._stream(key) or _Stream()
        latest = stream.events[-1].seq if stream.events else 0
        if lease is None or lease.owner != owner or events[0].seq <= latest:
            return False
        if notes is not None and not notes.whole and not stream.notes:
            return False
        if notes is not None:
            stream.notes = {**({} if notes.whole else stream.notes), **notes.values}
        if first:
            stream.first = events[0].seq
        stream.events.extend(events)
        del stream.events[: -self._max_events]
        stream.expires_at = time.monotonic() + self._ttl_seconds
        self._streams[key] = stream
        for announcement in announcements:
            for heard in self._listeners.get(announcement.channel, ()):
                heard.append(announcement.body)
        await self._notify()
        return True

    async def notes(self, key: StreamKey) -> dict[str, bytes]:
        stream = self._stream(key)
        return dict(stream.notes) if stream is not None else {}

    async def read(self, key: StreamKey, after: int, limit: int) -> list[LoggedEvent]:
        stream = self._stream(key)
        if stream is None:
            return []
        start = bisect_right(stream.events, after, key=_SEQ)
        return stream.events[start : start + limit]

    async def range(self, key: StreamKey) -> LogRange:
        stream = self._stream(key)
        if stream is None:
            return LogRange()
        oldest, latest = stream.events[0], stream.events[-1]
        return LogRange(
            oldest=oldest.seq,
            latest=latest.seq,
            state=latest.state,
            complete=stream.first == oldest.seq,
            certain=True,
        )

    async def wait(self, after: Mapping[StreamKey, int], timeout_seconds: float) -> list[tuple[StreamKey, LoggedEvent]]:
        found: list[tuple[StreamKey, LoggedEvent]] = []

        def ready() -> bool:
            for key, seq in after.items():
                stream = self._stream(key)
                if stream is not None and stream.events[-1].seq > seq:
                    start = bisect_right(stream.events, seq, key=_SEQ)
                    found.extend((key, event) for event in stream.events[start : start + 100])
            return bool(found) or self._woken

        try:
            async with asyncio.timeout(timeout_seconds), self._changed:
                await self._changed.wait_for(ready)
        except TimeoutError:
            return []
        self._woken = False
        return found

    async def wake(self) -> None:
        self._woken = True
        await self._notify()

    async def elect(self, key: StreamKey, owner: str, lease_seconds: float) -> bool:
        lease = self._lease(key)
        if lease is not None and lease.owner != owner:
            return False
        self._leases[key] = _Lease(owner, time.monotonic() + lease_seconds)
        return True

    async def resign(self, key: StreamKey, owner: str) -> None:
        lease = self._lease(key)
        if lease is not None and lease.owner == owner:
            del self._leases[key]

    async def put_snapshot(self, batch_id: str, progress: BatchProgress, lease_seconds: float) -> None:
        self._snapshots[batch_id] = (progress, time.monotonic() + lease_seconds)

    async def get_snapshot(self, batch_id: str) -> BatchProgress | None:
        progress, ends_at = self._snapshots.get(batch_id, (None, 0.0))
        return progress if ends_at > time.monotonic() else None

    async def drop_snapshot(self, batch_id: str) -> None:
        self._snapshots.pop(batch_id, None)

    async def check(self) -> None:
        return None

    async def close(self) -> None:
        return None

    async def flush(self) -> None:
        """Forget everything, as a restart without a disk would."""
        self._streams.clear()
        self._leases.clear()
        self._snapshots.clear()

    def listen(self, channel: str) -> list[bytes]:
        """What is announced at a channel from now on: a list that grows."""
        heard: list[bytes] = []
        self._listeners.setdefault(channel, []).append(heard)
        return heard

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _stream(self, key: StreamKey) -> _Stream | None:
        stream = self._streams.get(key)
        if stream is not None and stream.expires_at <= time.monotonic():
            del self._streams[key]
            return None
        return stream

    def _lease(self, key: StreamKey) -> _Lease | None:
        lease = self._leases.get(key)
        return lease if lease is not None and lease.ends_at > time.monotonic() else None

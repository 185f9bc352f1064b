"""Events of batches in order: memory that can be lost and says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingather.models.batch import BatchProgress


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Whose batch: the tenant starts every name in the log."""

    tenant_id: str
    batch_id: str


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event as it is kept: encoded once by the poller, passed on untouched to every watcher."""

    seq: int
    type: str
    body: bytes
    """The envelope as JSON, exactly as clients see it."""
    state: str = ""
    """State of the batch after the event; empty before the first one is known."""


@dataclass(frozen=True, slots=True)
class LogRange:
    """What of a batch can be read."""

    oldest: int = 0
    """Lowest ``seq`` that can be read; 0 when the log is empty."""
    latest: int = 0
    state: str = ""
    complete: bool = False
    """The oldest event is the first that the batch ever had."""
    certain: bool = False
    """The log has not lost an event since the last append, so the number after ``latest`` is unused."""


@dataclass(frozen=True, slots=True)
class Notes:
    """A poller's memory, by name: it lasts as long as the events it belongs to."""

    values: Mapping[str, bytes]
    whole: bool
    """These are all there are; else they replace those of the same names."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A message for whoever listens at a channel in that moment; it is kept nowhere."""

    channel: str
    body: bytes


class EventLog(Protocol):
    """One append-only log per batch, kept for a time after its last event.

    Everything in it can be rebuilt or done without. Methods raise ``EventLogUnavailableError``.
    """

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
        """Append events with growing ``seq``, all or none, and with them what the next poller must know.

        ``announcements`` are published in the same piece, in their order: once for each time the events were
        appended, which is once. Nothing is published where nothing is appended. At most a few thousand: they are
        written in one piece. False when ``owner`` no longer holds the lease, when a ``seq`` is not above the latest,
        or when ``notes`` are changes to notes that are lost, or may be since the log restarted. ``first`` says that
        the first of them is the first the batch ever had.
        """
        ...

    async def notes(self, key: StreamKey) -> dict[str, bytes]:
        """Every note kept with the batch's events; empty when there is none, or the events are gone."""
        ...

    async def read(self, key: StreamKey, after: int, limit: int) -> list[LoggedEvent]:
        """Events above ``after`` in order; empty for an unknown batch."""
        ...

    async def range(self, key: StreamKey) -> LogRange: ...

    async def wait(self, after: Mapping[StreamKey, int], timeout_seconds: float) -> list[tuple[StreamKey, LoggedEvent]]:
        """The one blocking read of a process: events of all these batches above the given ``seq``.

        Returns empty-handed after ``timeout_seconds`` or ``wake``. One caller at a time.
        """
        ...

    async def wake(self) -> None:
        """Let this process's ``wait`` return now, or the next one at once, because the batches to follow changed."""
        ...

    async def elect(self, key: StreamKey, owner: str, lease_seconds: float) -> bool:
        """Become, or stay, the one poller of a batch. False while another owner's lease lasts."""
        ...

    async def resign(self, key: StreamKey, owner: str) -> None:
        """Give the lease back; nothing happens when another holds it."""
        ...

    async def put_snapshot(self, batch_id: str, progress: BatchProgress, lease_seconds: float) -> None:
        """Share the poller's latest progress with other processes for a moment."""
        ...

    async def get_snapshot(self, batch_id: str) -> BatchProgress | None: ...

    async def drop_snapshot(self, batch_id: str) -> None:
        """Forget the shared progress, because the batch has ended."""
        ...

    async def check(self) -> None:
        """Answer quickly when the log can be used; raise otherwise."""
        ...

    async def close(self) -> None: ...

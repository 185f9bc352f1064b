"""Events of batches in order: memory that can be lost and says so."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingather.models.batch import BatchProgress
from ingather.models.events import Event


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event and the journal position behind it, so another poller can go on from there."""

    event: Event
    journal_next: int


@dataclass(frozen=True, slots=True)
class LogRange:
    """Oldest and latest ``seq`` that can be read; both 0 when the log is empty."""

    oldest: int
    latest: int
    journal_next: int = 0


class EventLog(Protocol):
    """One append-only log per batch, kept for a time after its last event.

    Everything in it can be rebuilt or done without. Methods raise ``EventLogUnavailableError``.
    """

    async def append(self, tenant_id: str, events: Sequence[LoggedEvent]) -> bool:
        """Append events of one batch; False when a ``seq`` is already there or lies below the latest (another poller was faster)."""
        ...

    async def read(self, tenant_id: str, batch_id: str, after: int, limit: int) -> list[Event]: ...

    async def range(self, tenant_id: str, batch_id: str) -> LogRange: ...

    def follow(self, keys: "FollowedKeys") -> AsyncIterator[Event]:
        """Events of all followed batches as they are appended, through one blocking read per process."""
        ...

    async def elect(self, batch_id: str, owner: str, lease_seconds: float) -> bool:
        """Become, or stay, the one poller of a batch."""
        ...

    async def resign(self, batch_id: str, owner: str) -> None: ...

    async def put_snapshot(self, batch_id: str, progress: BatchProgress, lease_seconds: float) -> None:
        """Share the poller's latest progress with other processes for a moment."""
        ...

    async def get_snapshot(self, batch_id: str) -> BatchProgress | None: ...

    async def check(self) -> None: ...

    async def close(self) -> None: ...


class FollowedKeys(Protocol):
    """The hub's list of what to follow: it changes while ``follow`` runs."""

    def positions(self) -> dict[tuple[str, str], int]:
        """Last ``seq`` delivered, by tenant and batch."""
        ...

    async def changed(self) -> None:
        """Returns when a batch was added."""
        ...

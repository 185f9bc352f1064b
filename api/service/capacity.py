"""Room for an upload: whether the bytes a tenant has under way, and this upload's, are within its limit.

Under way are batches that have not ended and uploads that are still arriving at this process. Uploads that
arrive at other processes are seen only once they are batches, so several processes may each let one in too many.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from api.service.batches import BatchService
from ingather.models.batch import BatchState
from ingather.models.errors import CapacityExceededError
from ingather.ports.catalog import BatchFilter, Catalog

_OPEN_STATES = tuple(state for state in BatchState if not state.is_final)
_LOOKED_AT = 50
"""Batches whose end is estimated to say when to come again."""
_SHORTEST_WAIT, _USUAL_WAIT, _LONGEST_WAIT = 5, 30, 600
"""Seconds."""


@dataclass(slots=True)
class Room:
    """What one upload may take. One of unknown size takes it as it grows."""

    _others_bytes: int
    _limit: int
    _arriving: Counter[str]
    _tenant_id: str
    _retry_after: int
    reserved: int = 0

    def grow_to(self, received_bytes: int) -> None:
        """So much has arrived. Raises ``CapacityExceededError``."""
        if received_bytes > self.reserved:
            self._arriving[self._tenant_id] += received_bytes - self.reserved
            self.reserved = received_bytes
            # Only its own growth is looked at: whoever came later was counted with what was here then.
            self.check()

    def check(self) -> None:
        if self._others_bytes + self.reserved > self._limit:
            raise CapacityExceededError(
                f"{self._others_bytes:,} bytes are under way; with this upload they would pass max_concurrent_bytes "
                f"({self._limit:,}).",
                limit="max_concurrent_bytes",
                limit_value=self._limit,
                retry_after_seconds=self._retry_after,
            )


@dataclass(slots=True)
class Capacity:
    """Keeps the uploads of each tenant within ``max_concurrent_bytes``."""

    catalog: Catalog
    batches: BatchService
    _arriving: Counter[str] = field(default_factory=Counter)
    """Bytes of uploads under way in this process, by tenant."""

    @asynccontextmanager
    async def room(self, tenant_id: str, announced_bytes: int | None, limit: int) -> AsyncIterator[Room]:
        """Room for an upload, within a limit in bytes, for as long as the block lasts. Raises ``CapacityExceededError``."""
        wanted = announced_bytes or 0
        flying = await self.catalog.bytes_in_flight(tenant_id)
        retry_after = _USUAL_WAIT
        if flying + self._arriving[tenant_id] + wanted > limit and flying:
            # Before anybody is sent away: a batch that was ended from outside looks open until it is looked at.
            retry_after = await self._first_end(tenant_id)
            flying = await self.catalog.bytes_in_flight(tenant_id)
        room = Room(flying + self._arriving[tenant_id], limit, self._arriving, tenant_id, retry_after, wanted)
        room.check()
        self._arriving[tenant_id] += wanted
        try:
            yield room
        finally:
            self._arriving[tenant_id] -= room.reserved
            if not self._arriving[tenant_id]:
                del self._arriving[tenant_id]

    async def _first_end(self, tenant_id: str) -> int:
        """Seconds until the first of the tenant's batches should be done."""
        now = datetime.now(UTC)
        left: list[float] = []
        for record in await self.catalog.list_batches(
            BatchFilter(tenant_id=tenant_id, states=_OPEN_STATES), _LOOKED_AT
        ):
            snapshot = await self.batches.snapshot(tenant_id, record.batch_id)
            if snapshot.outlook is not None and snapshot.outlook.estimated_completion_at is not None:
                left.append((snapshot.outlook.estimated_completion_at - now).total_seconds())
        return round(min(max(min(left, default=_USUAL_WAIT), _SHORTEST_WAIT), _LONGEST_WAIT))

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
from ingather.models.errors import CapacityExceededError, PayloadTooLargeError
from ingather.ports.catalog import BatchFilter, Catalog

_OPEN_STATES = tuple(state for state in BatchState if not state.is_final)
_LOOKED_AT = 50
"""Batches whose end is estimated to say when to come again."""
_LOOK_AGAIN_BYTES = 64 * 1024 * 1024
"""An upload of unknown size looks at what else is under way as often as it has grown so much."""
_SHORTEST_WAIT, _USUAL_WAIT, _LONGEST_WAIT = 5, 30, 600
"""Seconds."""


@dataclass(slots=True)
class Room:
    """What one upload may take. One of unknown size takes it as it grows."""

    _catalog: Catalog
    _tenant_id: str
    _limit: int
    _arriving: Counter[str]
    _flying: int
    """Bytes of batches that have not ended."""
    _retry_after: int
    reserved: int = 0
    _looked_at: int = 0

    async def grow_to(self, received_bytes: int) -> None:
        """So much has arrived. Raises as ``reserve``."""
        if received_bytes <= self.reserved:
            return
        if received_bytes - self._looked_at >= _LOOK_AGAIN_BYTES:
            # Uploads that arrived beside this one may be batches by now.
            self._flying, self._looked_at = await self._catalog.bytes_in_flight(self._tenant_id), received_bytes
        self.reserve(received_bytes)

    def reserve(self, size_bytes: int) -> None:
        """Take so much in all. Raises ``CapacityExceededError`` where others have it, ``PayloadTooLargeError`` for good."""
        if size_bytes > self._limit:
            raise PayloadTooLargeError(
                f"The upload alone is larger than max_concurrent_bytes ({self._limit:,}).",
                limit="max_concurrent_bytes",
                limit_value=self._limit,
            )
        others = self._flying + self._arriving[self._tenant_id] - self.reserved
        if others + size_bytes > self._limit:
            self.give_back()  # at once: of two that grow side by side, one may come through
            raise CapacityExceededError(
                f"{others:,} bytes are under way; with this upload they would pass max_concurrent_bytes "
                f"({self._limit:,}).",
                limit="max_concurrent_bytes",
                limit_value=self._limit,
                retry_after_seconds=self._retry_after,
            )
        self._arriving[self._tenant_id] += size_bytes - self.reserved
        self.reserved = size_bytes

    def give_back(self) -> None:
        self._arriving[self._tenant_id] -= self.reserved
        if not self._arriving[self._tenant_id]:
            del self._arriving[self._tenant_id]
        self.reserved = 0


@dataclass(slots=True)
class Capacity:
    """Keeps the uploads of each tenant within ``max_concurrent_bytes``."""

    catalog: Catalog
    batches: BatchService
    _arriving: Counter[str] = field(default_factory=Counter)
    """Bytes of uploads under way in this process, by tenant."""

    @asynccontextmanager
    async def room(self, tenant_id: str, announced_bytes: int | None, limit: int) -> AsyncIterator[Room]:
        """Room for an upload, within a limit in bytes, for as long as the block lasts. Raises as ``Room.reserve``."""
        wanted = announced_bytes or 0
        flying = await self.catalog.bytes_in_flight(tenant_id)
        retry_after = _USUAL_WAIT
        if flying + self._arriving[tenant_id] + wanted > limit and flying:
            # Before anybody is sent away: a batch that was ended from outside looks open until it is looked at.
            retry_after = await self._first_end(tenant_id)
            flying = await self.catalog.bytes_in_flight(tenant_id)
        room = Room(self.catalog, tenant_id, limit, self._arriving, flying, retry_after)
        try:
            room.reserve(wanted)
            yield room
        finally:
            room.give_back()

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

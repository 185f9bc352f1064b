"""Lists of documents handed on, in this process."""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from ingather.domain.handoff_keys import handed_on_key, handoff_list_key
from ingather.models.handoff import HandedOn


class InMemoryHandoffQueue:
    """Markers last as long as the process."""

    def __init__(self) -> None:
        self._lists: defaultdict[str, deque[HandedOn]] = defaultdict(deque)
        self._markers: set[tuple[str, int]] = set()

    async def push(
        self, tenant_id: str, batch_id: str, documents: Mapping[int, HandedOn], *, again: str = ""
    ) -> tuple[int, ...]:
        marker = handed_on_key(tenant_id, batch_id, again)
        new = tuple(ordinal for ordinal in documents if (marker, ordinal) not in self._markers)
        for ordinal in new:
            self._lists[handoff_list_key(tenant_id)].appendleft(documents[ordinal])
            self._markers.add((marker, ordinal))
        return new

    async def pushed(self, tenant_id: str, batch_id: str, ordinals: Sequence[int]) -> tuple[int, ...]:
        marker = handed_on_key(tenant_id, batch_id)
        return tuple(ordinal for ordinal in ordinals if (marker, ordinal) in self._markers)

    def take(self, tenant_id: str) -> HandedOn | None:
        """What the next stage does: the oldest entry, taken off the list."""
        waiting = self._lists[handoff_list_key(tenant_id)]
        return waiting.pop() if waiting else None

    def clear(self) -> None:
        """Everything is forgotten, markers too: ``FLUSHALL``."""
        self._lists.clear()
        self._markers.clear()

    async def close(self) -> None:
        """Nothing to release."""

"""What tenants share in one process, so that none of them can hold all of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from activities.byte_budget import ByteBudget


class SharedBudget:
    """Something that tenants share, in the order of asking: bytes of memory, or turns.

    Args:
        total: what may be held at one time.
        own: what one tenant may hold of it. Whoever asks for more gets all of that, alone.
    """

    def __init__(self, total: int, own: int) -> None:
        self._all = ByteBudget(total)
        self._share = own
        self._own: dict[str, tuple[ByteBudget, int]] = {}
        """By tenant, with how many hold or wait."""

    @asynccontextmanager
    async def hold(self, tenant_id: str, size: int) -> AsyncIterator[None]:
        """Hold so much for the block; waits until the tenant, and then all together, have them free."""
        share = min(size, self._share)
        own, users = self._own.get(tenant_id) or (ByteBudget(self._share), 0)
        self._own[tenant_id] = (own, users + 1)
        try:
            async with own.hold(share), self._all.hold(share):
                yield
        finally:
            own, users = self._own[tenant_id]
            if users == 1:
                del self._own[tenant_id]
            else:
                self._own[tenant_id] = (own, users - 1)

"""How many bytes of documents a worker holds at one time: slots count documents, and documents differ a millionfold."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

DEFAULT_BUDGET_BYTES = 1024 * 1024 * 1024
"""Where nobody says how much memory there is."""


class ByteBudget:
    """A purse of bytes, lent in the order of asking, so that large documents are not passed by small ones for ever.

    Args:
        total_bytes: what may be held at one time. A larger document takes all of it and is then alone.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._free = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held_bytes(self) -> int:
        """Lent now."""
        return self._total - self._free

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold so many bytes for the block; waits until they are free."""
        share = min(size_bytes, self._total)
        await self._take(share)
        try:
            yield
        finally:
            self._give(share)

    async def _take(self, share: int) -> None:
        if not self._waiting and share <= self._free:
            self._free -= share
            return
        place = (share, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            await place[1]
        except asyncio.CancelledError:
            if not place[1].cancelled():
                self._give(share)  # granted and cancelled at the same moment
            elif place in self._waiting:
                self._waiting.remove(place)
                self._serve()  # those behind may fit
            raise

    def _give(self, share: int) -> None:
        self._free += share
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            share, granted = self._waiting.popleft()
            if granted.cancelled():
                continue  # its waiter is about to notice
            self._free -= share
            granted.set_result(None)

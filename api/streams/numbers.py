"""Event numbers: gapless while one poller tells, and never used twice for a batch."""

from collections.abc import Iterator

from ingather.ports.catalog import Catalog

BLOCK_SIZE = 1_000


class EventNumbers:
    """Numbers of one batch, taken from blocks that the catalog has set aside for ever.

    The event log may lose everything; the catalog's high-water mark stays, so numbers that any
    client may have seen are never given again.
    """

    def __init__(self, catalog: Catalog, batch_id: str) -> None:
        self._catalog = catalog
        self._batch_id = batch_id
        self.last = 0
        """The number given last; 0 before the first."""
        self._limit = 0
        self._leaves_gap = False

    async def follow(self, last: int, *, certain: bool) -> bool:
        """Go on after another poller's last event; answers whether the batch has been told before.

        With ``certain`` the very next number is unused and the rest of the block is ours.
        Otherwise numbers above ``last`` may be known to a client, and a new block begins.
        """
        high_water = await self._catalog.event_high_water(self._batch_id)
        self.last = last
        self._limit = max(high_water, last) if certain and last else last
        return high_water > 0

    def leave_gap(self) -> None:
        """Leave the next number out, so that every watcher sees that something is missing."""
        self._leaves_gap = True

    async def take(self, count: int) -> Iterator[int]:
        """The next ``count`` numbers, all or (when the catalog fails) none.

        There is a gap only where one was asked for, or a block of another poller lies between.
        """
        gap = int(self._leaves_gap)
        while self.last + gap + count > self._limit:
            await self._reserve()
        self.last += gap
        self._leaves_gap = False
        first = self.last + 1
        self.last += count
        return iter(range(first, first + count))

    async def _reserve(self) -> None:
        before = await self._catalog.reserve_event_numbers(self._batch_id, BLOCK_SIZE)
        if before == self._limit:
            self._limit += BLOCK_SIZE
        elif before > self.last:
            self.last, self._limit = before, before + BLOCK_SIZE
        # Else the catalog is older than the log (restored from a backup): the next block may lie above it.

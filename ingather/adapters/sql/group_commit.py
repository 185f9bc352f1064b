"""Many small writes, one transaction: what several coroutines want written is committed together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

_Item = TypeVar("_Item")

WriteGroup = Callable[[Sequence[_Item]], Awaitable[Sequence[Exception | None]]]
"""Commits a group and answers, item by item, what went wrong."""


class GroupCommit(Generic[_Item]):
    """Collects items for a moment and hands them to ``write`` as a group, one group at a time.

    Args:
        linger_seconds: how long the first item of a group waits for company.
        most: items a group holds at most.
    """

    def __init__(self, write: WriteGroup[_Item], *, linger_seconds: float, most: int) -> None:
        self._write = write
        self._linger_seconds = linger_seconds
        self._most = most
        self._waiting: list[tuple[_Item, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def add(self, item: _Item) -> None:
        """Return once the item is committed; raise what kept it from being so.

        A caller who is cancelled meanwhile does not take the item back.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_groups())
        await written

    async def close(self) -> None:
        """Wait until everything that was added is written."""
        if self._writer is not None:
            await self._writer

    async def _write_groups(self) -> None:
        while self._waiting:
            if len(self._waiting) < self._most:
                await asyncio.sleep(self._linger_seconds)
            group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            outcomes = await self._try_to_write([item for item, _ in group])
            for (_, written), failure in zip(group, outcomes, strict=True):
                if written.done():
                    continue  # its caller was cancelled
                if failure is None:
                    written.set_result(None)
                else:
                    written.set_exception(failure)

    async def _try_to_write(self, items: list[_Item]) -> Sequence[Exception | None]:
        try:
            return await self._write(items)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            return [error] * len(items)

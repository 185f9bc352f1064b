"""Locks by name, kept only while somebody holds or awaits one."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager


class KeyedLocks:
    """One holder a key at a time, in this process."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the key's lock for the block."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users > 1:
                self._locks[key] = (lock, users - 1)
            else:
                del self._locks[key]

    @asynccontextmanager
    async def hold_all(self, keys: Iterable[str], patience_seconds: float) -> AsyncIterator[set[str]]:
        """Hold several keys' locks for the block, each once; gives the keys that others do not let go of in that time."""
        until = asyncio.get_running_loop().time() + patience_seconds
        busy: set[str] = set()
        async with AsyncExitStack() as stack:
            # In one order for everybody, so that no two wait for each other.
            for key in sorted(set(keys)):
                try:
                    async with asyncio.timeout_at(until):
                        await stack.enter_async_context(self.hold(key))
                except TimeoutError:
                    busy.add(key)
            yield busy

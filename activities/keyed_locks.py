"""Locks by name, kept only while somebody holds or awaits one."""

import asyncio
from collections.abc import AsyncIterator, Container, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

_LOOK_SECONDS = 0.1
"""From one look at who holds a key to the next."""


class KeyedLocks:
    """One holder a key at a time, in this process."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._held_alone: set[str] = set()
        """Keys whose holder has no other."""

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the key's lock for the block."""
        async with self._held(key):
            self._held_alone.add(key)
            try:
                yield
            finally:
                self._held_alone.discard(key)

    @asynccontextmanager
    async def hold_all(
        self, keys: Iterable[str], patience_seconds: float, hopeless: Container[str] = ()
    ) -> AsyncIterator[set[str]]:
        """Hold several keys' locks for the block, each once; gives the keys that were not to be had.

        Those are keys of somebody else that are ``hopeless``, or that he holds alone when so much time has passed: he may
        hold his for any time. Whoever holds several has no such patience himself, and is waited for.
        """
        until = asyncio.get_running_loop().time() + patience_seconds
        busy: set[str] = set()
        async with AsyncExitStack() as stack:
            # In one order for everybody, so that no two wait for each other.
            for key in sorted(set(keys)):
                if key not in self._locks:
                    await stack.enter_async_context(self._held(key))
                elif not await self._had(key, stack, until, hopeless):
                    busy.add(key)
            yield busy

    async def _had(self, key: str, stack: AsyncExitStack, until: float, hopeless: Container[str]) -> bool:
        """Whether a key could be had that somebody holds. Our place in the line is kept while we look who does."""
        loop = asyncio.get_running_loop()
        entering = asyncio.ensure_future(stack.enter_async_context(self._held(key)))
        try:
            while not (await asyncio.wait({entering}, timeout=_LOOK_SECONDS))[0]:
                if key in hopeless or (key in self._held_alone and loop.time() >= until):
                    return False
            await entering
        finally:
            if not entering.done():
                entering.cancel()
                await asyncio.wait({entering})
        return True

    @asynccontextmanager
    async def _held(self, key: str) -> AsyncIterator[None]:
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

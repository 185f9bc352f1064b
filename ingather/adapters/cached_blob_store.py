"""A cache in front of a blob store, for objects that never change once they are there."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from ingather.models.content import BlobRef
from ingather.ports.blob_store import BlobStat, BlobStore

LARGEST_CACHED_BYTES: Final = 16 * 1024 * 1024
"""Twice a pack: an object above this goes past the cache."""

_IMMUTABLE = re.compile(r"derived/|uploads/|batches/[^/]+/[^/]+/manifest/")
_REMEMBERED_LARGE = 1_000
_PIECE_BYTES = 1024 * 1024


class CachedBlobStore:
    """Keeps up to ``max_bytes`` of what was lately read or written under keys whose content never changes.

    So indexing does not fetch what the same process has just written, and a pack is fetched
    once though a thousand documents lie in it. Callers that want the same object at the same
    time share one fetch. Other keys go straight through. An object that another process
    deletes may still be answered from here.
    """

    def __init__(self, inner: BlobStore, max_bytes: int) -> None:
        self._inner = inner
        self._max_bytes = max_bytes
        self._largest = min(LARGEST_CACHED_BYTES, max_bytes)
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._large: OrderedDict[str, None] = OrderedDict()
        self._fetches: dict[str, asyncio.Task[bytes | None]] = {}

    @property
    def kept_bytes(self) -> int:
        """Memory the kept objects take."""
        return self._kept_bytes

    async def put(self, key: str, content: bytes) -> None:
        self._forget(key)
        await self._inner.put(key, content)
        if _IMMUTABLE.match(key):
            self._keep(key, content)

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> BlobRef:
        self._forget(key)
        return await self._inner.put_stream(key, parts)

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        whole = await self._whole(key, all_of_it=offset == 0 and size is None)
        if whole is None:
            return await self._inner.get(key, offset=offset, size=size)
        if offset == 0 and (size is None or size >= len(whole)):
            return whole
        return whole[offset : None if size is None else offset + size]

    async def stream(self, key: str, *, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        kept = self._look_up(key)
        if kept is None:
            async for piece in self._inner.stream(key, offset=offset, size=size):
                yield piece
            return
        end = len(kept) if size is None else min(len(kept), offset + size)
        for start in range(offset, end, _PIECE_BYTES):
            yield kept[start : min(start + _PIECE_BYTES, end)]

    async def stat(self, key: str) -> BlobStat | None:
        kept = self._look_up(key)
        return await self._inner.stat(key) if kept is None else BlobStat(key, len(kept))

    async def copy(self, source_key: str, target_key: str) -> None:
        self._forget(target_key)
        await self._inner.copy(source_key, target_key)

    async def delete(self, key: str) -> None:
        self._forget(key)
        await self._inner.delete(key)

    async def list(self, prefix: str) -> AsyncIterator[BlobStat]:
        async for found in self._inner.list(prefix):
            yield found

    async def check(self) -> None:
        await self._inner.check()

    async def close(self) -> None:
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        self._kept.clear()
        self._kept_bytes = 0
        await self._inner.close()

    async def _whole(self, key: str, *, all_of_it: bool) -> bytes | None:
        """The whole object; None when it is not one to keep and only a part of it is wanted."""
        kept = self._look_up(key)
        if kept is not None:
            return kept
        if not _IMMUTABLE.match(key) or (key in self._large and not all_of_it):
            return None
        fetch = self._fetches.get(key)
        if fetch is None:
            fetch = asyncio.create_task(self._fetch(key, all_of_it=all_of_it))
            self._fetches[key] = fetch
            fetch.add_done_callback(lambda done: self._fetched(key, done))
        # A caller who gives up must not take the object away from the others who wait for it.
        return await asyncio.shield(fetch)

    async def _fetch(self, key: str, *, all_of_it: bool) -> bytes | None:
        if all_of_it:
            return await self._inner.get(key)
        found = await self._inner.stat(key)
        if found is not None and found.size_bytes > self._largest:
            self._large[key] = None
            if len(self._large) > _REMEMBERED_LARGE:
                self._large.popitem(last=False)
            return None
        return await self._inner.get(key)

    def _fetched(self, key: str, fetch: asyncio.Task[bytes | None]) -> None:
        if self._fetches.get(key) is not fetch:
            return  # forgotten meanwhile: what it brought may be old
        del self._fetches[key]
        if not fetch.cancelled() and fetch.exception() is None and (content := fetch.result()) is not None:
            self._keep(key, content)

    def _look_up(self, key: str) -> bytes | None:
        content = self._kept.get(key)
        if content is not None:
            self._kept.move_to_end(key)
        return content

    def _keep(self, key: str, content: bytes) -> None:
        self._forget(key)
        if len(content) > self._largest:
            return
        self._kept[key] = content
        self._kept_bytes += len(content)
        while self._kept_bytes > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)

    def _forget(self, key: str) -> None:
        self._fetches.pop(key, None)
        self._large.pop(key, None)
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._kept_bytes -= len(dropped)

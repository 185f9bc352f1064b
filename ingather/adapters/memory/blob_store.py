"""Blobs in a dictionary."""

import hashlib
from collections.abc import AsyncIterator

from ingather.models.content import BlobRef
from ingather.models.errors import BlobNotFoundError
from ingather.ports.blob_store import BlobStat

_PIECE_BYTES = 1024 * 1024


class InMemoryBlobStore:
    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    async def put(self, key: str, content: bytes) -> None:
        self._objects[key] = bytes(content)

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> BlobRef:
        content = b"".join([part async for part in parts])
        self._objects[key] = content
        return BlobRef(key=key, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        return self._find(key)[offset : None if size is None else offset + size]

    async def stream(self, key: str, *, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        content = await self.get(key, offset=offset, size=size)
        for start in range(0, len(content), _PIECE_BYTES):
            yield content[start : start + _PIECE_BYTES]

    async def stat(self, key: str) -> BlobStat | None:
        content = self._objects.get(key)
        return None if content is None else BlobStat(key, len(content))

    async def copy(self, source_key: str, target_key: str) -> None:
        self._objects[target_key] = self._find(source_key)

    async def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    async def list(self, prefix: str) -> AsyncIterator[BlobStat]:
        for key in sorted(self._objects):
            if key.startswith(prefix) and key in self._objects:
                yield BlobStat(key, len(self._objects[key]))

    async def check(self) -> None:
        """A dictionary always answers."""

    async def close(self) -> None:
        """Nothing to release; what was written stays readable for whoever still holds the store."""

    def _find(self, key: str) -> bytes:
        try:
            return self._objects[key]
        except KeyError:
            raise BlobNotFoundError(f"There is no object {key} in storage.", key=key) from None

"""Bytes out of an archive on their way into the blob store, laid out as uploads are."""

import hashlib
from collections.abc import AsyncIterator, Callable

from ingather.models.content import UPLOAD_PACK_BYTES, BlobRef
from ingather.ports.blob_store import BlobStore


class Packer:
    """Writes documents under keys that follow from their order alone, so a second run writes the same objects."""

    def __init__(self, blobs: BlobStore, key_for: Callable[[str], str]) -> None:
        self._blobs = blobs
        self._key_for = key_for
        """Object key for a part name such as ``pack-00001``."""
        self._pack = bytearray()
        self._pack_number = 1
        self._held_count = 0
        """Documents in the pack under way; they may all be empty."""
        self._file_number = 0
        self._written: list[str] = []

    async def add(self, content: bytes) -> BlobRef:
        """Put a small document into the pack under way; it is stored once ``flush`` has returned."""
        if self._pack and len(self._pack) + len(content) > UPLOAD_PACK_BYTES:
            await self.flush()
        ref = BlobRef(
            key=self._pack_key,
            offset=len(self._pack),
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        self._pack += content
        self._held_count += 1
        return ref

    async def add_stream(self, parts: AsyncIterator[bytes]) -> BlobRef:
        """Write a large document as an object of its own. When ``parts`` raises, nothing is left of it."""
        self._file_number += 1
        key = self._key_for(f"file-{self._file_number:05d}")
        ref = await self._blobs.put_stream(key, parts)
        self._written.append(key)
        return ref

    async def flush(self) -> None:
        """Write the pack under way, if there is one."""
        if not self._held_count:
            return
        key = self._pack_key
        await self._blobs.put(key, bytes(self._pack))
        self._written.append(key)
        self._pack.clear()
        self._held_count = 0
        self._pack_number += 1

    async def discard(self) -> None:
        """Take everything back: the archive was refused whole."""
        self._pack.clear()
        self._held_count = 0
        for key in self._written:
            await self._blobs.delete(key)
        self._written.clear()

    @property
    def _pack_key(self) -> str:
        return self._key_for(f"pack-{self._pack_number:05d}")

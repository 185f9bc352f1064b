"""Parts in a dictionary, with the rules that S3 has for them."""

import hashlib
import uuid
from collections.abc import Sequence

from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.models.errors import BlobNotFoundError, UploadDamagedError
from ingather.models.upload import MAX_PARTS, MIN_PART_BYTES


class InMemoryPartedObjects:
    """Objects of parts in a store of the memory kind.

    Args:
        min_part_bytes: the smallest part that is not the last.
    """

    def __init__(self, blobs: InMemoryBlobStore, min_part_bytes: int = MIN_PART_BYTES) -> None:
        self._blobs = blobs
        self._min_part_bytes = min_part_bytes
        self._open: dict[str, dict[int, bytes]] = {}

    @property
    def open_count(self) -> int:
        """Objects that parts are kept for."""
        return len(self._open)

    async def begin_parts(self, key: str) -> str:
        multipart_id = f"{key}?{uuid.uuid4()}"
        self._open[multipart_id] = {}
        return multipart_id

    async def put_part(self, key: str, multipart_id: str, number: int, content: bytes | bytearray) -> str:
        if not 1 <= number <= MAX_PARTS:
            raise UploadDamagedError(f"Part {number} is not within 1 and {MAX_PARTS:,}.")
        self._parts(key, multipart_id)[number] = bytes(content)
        return _tag(content)

    async def copy_part(self, key: str, multipart_id: str, number: int, source_key: str) -> str:
        return await self.put_part(key, multipart_id, number, await self._blobs.get(source_key))

    async def complete_parts(self, key: str, multipart_id: str, parts: Sequence[tuple[int, str]], size: int) -> None:
        found = await self._blobs.stat(key)
        if multipart_id not in self._open and found is not None and found.size_bytes == size:
            return
        held = self._open.get(multipart_id, {})
        wanted = sorted(parts)
        pieces = [held.get(number, b"") for number, _ in wanted]
        is_whole = all(number in held and _tag(held[number]) == etag for number, etag in wanted)
        if not is_whole or any(len(piece) < self._min_part_bytes for piece in pieces[:-1]):
            raise UploadDamagedError("The parts of the upload in object storage are not the ones that were received.")
        content = b"".join(pieces)
        if len(content) != size:
            raise UploadDamagedError("The parts of the upload in object storage are not the ones that were received.")
        await self._blobs.put(key, content)
        del self._open[multipart_id]

    async def abort_parts(self, key: str, multipart_id: str) -> None:  # noqa: ARG002  # the port's
        self._open.pop(multipart_id, None)

    def _parts(self, key: str, multipart_id: str) -> dict[int, bytes]:
        if multipart_id not in self._open:
            raise BlobNotFoundError(f"There is no object {key} under way in storage.", key=key)
        return self._open[multipart_id]


def _tag(content: bytes | bytearray) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()

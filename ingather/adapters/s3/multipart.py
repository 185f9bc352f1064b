"""Objects of unknown size, in parts of 8 MiB: at most three of them in memory at a time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import structlog

from ingather.models.content import BlobRef
from ingather.models.errors import BlobNotFoundError, IngatherError, StorageUnavailableError

PART_BYTES: Final = 8 * 1024 * 1024
_PARTS_IN_FLIGHT: Final = 1
_HASH_ON_LOOP_BYTES: Final = 64 * 1024

_log = structlog.get_logger(__name__)

CallBoto = Callable[[Callable[[Any], Any]], Awaitable[Any]]


class PartUploader:
    """One multipart upload: nothing of it is visible before ``complete``."""

    def __init__(self, call: CallBoto, bucket: str, key: str) -> None:
        self._call = call
        self._where = {"Bucket": bucket, "Key": key}
        self._upload_id: str | None = None
        self._etags: dict[int, str] = {}
        self._sizes: dict[int, int] = {}

    async def add(self, number: int, content: bytes | bytearray) -> None:
        """Upload part ``number``, 1-based. Parts may arrive in any order once the first call has begun the upload."""
        if self._upload_id is None:
            made = await self._call(lambda s3: s3.create_multipart_upload(**self._where))
            self._upload_id = made["UploadId"]
        part = {**self._where, "UploadId": self._upload_id, "PartNumber": number, "Body": content}
        answer = await self._call(lambda s3: s3.upload_part(**part))
        self._etags[number], self._sizes[number] = answer["ETag"], len(content)

    async def complete(self) -> None:
        """Make the object visible. Raises ``StorageUnavailableError`` where it is not, whatever the store says of the upload."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(self._etags.items())]
        done = {**self._where, "UploadId": self._upload_id, "MultipartUpload": {"Parts": parts}}
        try:
            await self._call(lambda s3: s3.complete_multipart_upload(**done))
        except BlobNotFoundError as error:
            # An answer that was lost is asked for again, and of an upload that is complete a store knows nothing.
            if not await self._is_there():
                key = self._where["Key"]
                raise StorageUnavailableError(f"Object storage lost the parts of {key}.", key=key) from error

    async def _is_there(self) -> bool:
        try:
            found = await self._call(lambda s3: s3.head_object(**self._where))
        except BlobNotFoundError:
            return False
        return bool(found["ContentLength"] == sum(self._sizes.values()))

    async def abort(self, upload_id: str | None = None) -> None:
        """Give the parts up. A store that cannot be reached keeps them until ``ensure_bucket`` drops them."""
        wanted = upload_id or self._upload_id
        if wanted is None:
            return
        try:
            await self._call(lambda s3: s3.abort_multipart_upload(**self._where, UploadId=wanted))
        except IngatherError as error:
            _log.warning("storage.abort_failed", key=self._where["Key"], reason=error.message)


async def write_stream(
    key: str,
    parts: AsyncIterator[bytes],
    *,
    put: Callable[[str, bytes], Awaitable[None]],
    open_upload: Callable[[], PartUploader],
) -> BlobRef:
    """Write what ``parts`` yields: one put below 8 MiB, a multipart upload above."""
    digest = hashlib.sha256()
    size = 0
    upload: PartUploader | None = None
    sending: list[asyncio.Task[None]] = []
    number = 0
    try:
        async for content in _regroup(parts):
            await _hash(digest, content)
            size += len(content)
            if upload is None and len(content) < PART_BYTES:
                await put(key, bytes(content))
                return BlobRef(key=key, size_bytes=size, sha256=digest.hexdigest())
            number += 1
            if upload is None:
                upload = open_upload()
                await upload.add(number, content)
                continue
            if len(sending) >= _PARTS_IN_FLIGHT:
                await sending.pop(0)
            sending.append(asyncio.create_task(upload.add(number, content)))
        if upload is None:
            await put(key, b"")
        else:
            await asyncio.gather(*sending)
            await upload.complete()
    except BaseException:
        if upload is not None:
            await _give_up(upload, sending)
        raise
    return BlobRef(key=key, size_bytes=size, sha256=digest.hexdigest())


async def _give_up(upload: PartUploader, sending: list[asyncio.Task[None]]) -> None:
    """Abort once no part is under way, even while the caller is being cancelled: a late part would stay for ever."""

    async def abort() -> None:
        await asyncio.gather(*sending, return_exceptions=True)
        await upload.abort()

    await asyncio.shield(asyncio.create_task(abort()))


async def _regroup(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes | bytearray]:
    """The same bytes in pieces of exactly ``PART_BYTES``, the last one shorter.

    Each grows in place: joined from what arrived, a piece would be in memory twice.
    """
    piece = bytearray()
    try:
        async for arrived in parts:
            rest = memoryview(arrived)
            while len(piece) + len(rest) >= PART_BYTES:
                room = PART_BYTES - len(piece)
                piece += rest[:room]
                rest = rest[room:]
                whole, piece = piece, bytearray()
                yield whole
                del whole  # otherwise it stays in memory while the next one is collected
            piece += rest
        if piece:
            last, piece = piece, bytearray()
            yield last
    finally:
        piece.clear()  # an upload that breaks off leaves its frames to the next collection, which is seldom


async def _hash(digest: Any, content: bytes | bytearray) -> None:
    if len(content) > _HASH_ON_LOOP_BYTES:
        await asyncio.to_thread(digest.update, content)
    else:
        digest.update(content)

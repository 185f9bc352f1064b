"""Uploads by offset: bytes behind the ones that are there, as far as a connection carries, through any API process.

Parts of 8 MiB go to storage as they fill, and each moves the offset in the catalog, so that a process that is killed
costs its client a part at most. What is behind the last whole part when a request ends is kept as an object of its own,
and begins the next part. Of two requests at one offset, the one that moves it first goes on; the other is refused.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
import uuid_utils
from starlette.requests import ClientDisconnect

from activities.upload_assembly import UploadAssembly
from api.service.chunked_uploads import UploadLimits
from api.shared_budget import SharedBudget
from api.uploads import IntakeLimits, Taken, taken
from ingather.domain.archives import is_archive
from ingather.domain.identifiers import as_uuid
from ingather.domain.keys import incoming_key, upload_key
from ingather.domain.upload_parts import PART_BYTES
from ingather.models.content import SMALL_UPLOAD_BYTES, BlobRef
from ingather.models.document import DocumentFailure
from ingather.models.errors import (
    InvalidStateError,
    PayloadTooLargeError,
    RequestError,
    UploadChecksumMismatchError,
    UploadIncompleteError,
    UploadNotFoundError,
    UploadOffsetConflictError,
)
from ingather.models.upload import Upload, UploadKind, UploadPiece, UploadState
from ingather.ports.blob_store import BlobStore
from ingather.ports.parted_objects import PartedObjects
from ingather.ports.uploads import Uploads

log = structlog.get_logger(__name__)

_GONE = "There is no such upload, or its time is over."
_USED_AT_LEAST = timedelta(hours=1)
_SIGNATURE_BYTES = 4

ALGORITHMS = ("sha1", "sha256", "sha512", "md5")
"""Of checksums, by their names in tus."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of one request must come to."""

    algorithm: str
    digest: bytes


@dataclass(slots=True)
class TusUploads:
    """Takes bytes."""

    blobs: BlobStore
    parted: PartedObjects
    uploads: Uploads
    limits: UploadLimits
    turns: SharedBudget

    async def create(
        self, tenant_id: str, created_by: str, length: int, filename: str, details: dict[str, Any]
    ) -> Upload:
        """An upload of so many bytes. Raises ``PayloadTooLargeError``."""
        most = self.limits.max_upload_bytes
        if length > most:
            raise PayloadTooLargeError(
                f"The upload is larger than max_upload_bytes ({most:,}).", limit="max_upload_bytes", limit_value=most
            )
        now, upload_id = datetime.now(UTC), str(uuid_utils.uuid7())
        key = upload_key(tenant_id, upload_id, "file")
        upload = Upload(
            upload_id=upload_id,
            tenant_id=tenant_id,
            kind=UploadKind.TUS,
            created_by=created_by,
            filename=filename,
            length=length,
            key=key,
            multipart_id=await self.parted.begin_parts(key),
            details=details,
            created_at=now,
            changed_at=now,
            expires_at=now + self.limits.lifetime,
        )
        await self.uploads.open_upload(upload)
        log.info("upload.begun", upload_id=upload_id, tenant_id=tenant_id, size_bytes=length)
        return await self._settled(upload) if upload.has_all else upload

    async def find(self, upload_id: str, tenant_id: str | None) -> Upload:
        """One that is there; looked for in any tenant where none is named. Raises ``UploadNotFoundError``."""
        wanted = as_uuid(upload_id)
        upload = await self.uploads.get_upload(wanted, tenant_id) if wanted else None
        if upload is None or upload.kind is not UploadKind.TUS or upload.expires_at < datetime.now(UTC):
            raise UploadNotFoundError(_GONE)
        return upload

    async def append(
        self, upload: Upload, offset: int, content: AsyncGenerator[bytes, None], checksum: Checksum | None = None
    ) -> Upload:
        """Add bytes at an offset; answers the upload as it is now.

        Where the connection breaks off, what came stays and counts, unless a checksum was announced: then all of a
        request counts, or nothing. Raises ``UploadOffsetConflictError``, ``UploadChecksumMismatchError``,
        ``UploadNotFoundError`` where the upload was removed meanwhile.
        """
        if offset != upload.received_bytes:
            raise _conflict(upload)
        if upload.state is not UploadState.RECEIVING:
            return upload
        appending = _Appending(self, upload, checksum)
        try:
            async with contextlib.AsyncExitStack() as turn, contextlib.aclosing(content) as pieces:
                async for piece in pieces:
                    if appending.is_large and not appending.has_turn:
                        await turn.enter_async_context(self.turns.hold(upload.tenant_id, 1))
                        appending.has_turn = True
                    await appending.take(piece)
                upload = await appending.end()
        except (ClientDisconnect, RequestError) as error:
            if checksum is None and not isinstance(error, UploadOffsetConflictError | UploadNotFoundError):
                await appending.end()
            raise
        finally:
            await appending.close()
        return await self._settled(upload) if upload.has_all else upload

    async def remove(self, upload: Upload) -> None:
        """Forget it. Raises ``InvalidStateError`` where a batch was made of it."""
        if upload.used_by:
            raise InvalidStateError(
                "The upload is part of a batch.", action="Cancel the batch, if it is not wanted.", current_status="used"
            )
        await UploadAssembly(self.blobs, self.parted, self.uploads).discard(upload)

    async def finished(self, upload_id: str, tenant_id: str) -> Upload:
        """One that has all its bytes, in one object. Raises ``UploadNotFoundError``, ``UploadIncompleteError``."""
        upload = await self.find(upload_id, tenant_id)
        if not upload.has_all:
            raise UploadIncompleteError(
                f"Of upload {upload.upload_id}, {upload.received_bytes:,} of {upload.length:,} bytes are there.",
                upload_id=upload.upload_id,
            )
        return await self._settled(upload)

    async def use(self, upload_id: str, tenant_id: str, batch_id: str) -> Upload:
        """The same, kept from now on as long as the batch needs it."""
        upload = await self.finished(upload_id, tenant_id)
        noted = await self.uploads.note_use(upload.upload_id, tenant_id, batch_id)
        if noted is None:
            raise UploadNotFoundError(_GONE)
        # Its time may be nearly over, and the batch is not on record yet.
        until = max(noted.expires_at, datetime.now(UTC) + _USED_AT_LEAST)
        return await self.uploads.edit_upload(upload.upload_id, {"expires_at": until}) or noted

    async def head_of(self, upload: Upload, size: int) -> bytes:
        """Its first bytes."""
        return await self.blobs.get(upload.whole_key or "", size=size)

    async def taken(self, upload: Upload, limits: IntakeLimits) -> Taken:
        """As something that was handed in."""
        size, key = upload.received_bytes, upload.whole_key or ""
        refused = await self.refusal_of(upload, limits)
        if refused is not None:
            return Taken(upload.filename, size, "", refused=refused)
        sha256 = upload.sha256
        if sha256 is None:
            # An archive is never compared by its content, and hashing a large one would hold the request up for minutes.
            sha256 = await (self._hash_of(upload) if size <= limits.max_file_bytes else self._hash_of_parts(upload))
        return Taken(upload.filename, size, sha256, BlobRef(key=key, size_bytes=size, sha256=sha256))

    async def refusal_of(self, upload: Upload, limits: IntakeLimits) -> DocumentFailure | None:
        """Why it cannot be a document. An archive may be larger than a document may."""
        measured = taken(upload.filename, upload.received_bytes, "", limits)
        is_let_in = measured.refused is None or is_archive(await self.head_of(upload, _SIGNATURE_BYTES))
        return None if is_let_in else measured.refused

    async def _hash_of(self, upload: Upload) -> str:
        """Worked out once."""
        digest = hashlib.sha256()
        async for piece in self.blobs.stream(upload.whole_key or ""):
            await asyncio.to_thread(digest.update, piece)
        await self.uploads.edit_upload(upload.upload_id, {"sha256": digest.hexdigest()})
        return digest.hexdigest()

    async def _hash_of_parts(self, upload: Upload) -> str:
        pieces = await self.uploads.list_pieces(upload.upload_id)
        return hashlib.sha256("".join(piece.etag or "" for piece in pieces).encode()).hexdigest()

    async def _settled(self, upload: Upload) -> Upload:
        """One object, where all bytes are there; from now on its time to be used begins."""
        if upload.state is not UploadState.RECEIVING:
            return upload
        upload = await UploadAssembly(self.blobs, self.parted, self.uploads).assemble(upload)
        log.info("upload.finished", upload_id=upload.upload_id, size_bytes=upload.received_bytes)
        until = {"expires_at": datetime.now(UTC) + self.limits.lifetime}
        return await self.uploads.edit_upload(upload.upload_id, until) or upload


class _Appending:
    """One request's bytes on their way: a part that fills, and one that is being stored."""

    def __init__(self, service: TusUploads, upload: Upload, checksum: Checksum | None) -> None:
        self.has_turn = False
        self._service = service
        self._upload = upload
        self._checksum = checksum
        self._check = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        self._whole = hashlib.sha256() if upload.received_bytes == 0 else None
        """Of an upload that comes in one request, known for nothing."""
        self._held: bytearray | None = None
        self._sending: asyncio.Task[UploadPiece] | None = None
        self._sent: list[UploadPiece] = []
        """Stored, and not counted yet."""
        self._next = upload.received_count
        self._tail_key = upload.tail_key

    @property
    def is_large(self) -> bool:
        """More is held than anybody may have without a turn."""
        return self._held is not None and len(self._held) > SMALL_UPLOAD_BYTES

    async def take(self, content: bytes) -> None:
        if self._check is not None:
            self._check.update(content)
        view = memoryview(content)
        while view:
            held = await self._buffer()
            room = PART_BYTES - len(held)
            held += view[:room]
            view = view[room:]
            if len(held) == PART_BYTES:
                self._held = bytearray()
                await self._send(held)
                if self._checksum is None:
                    await self._count(tail=None, but_last=True)

    async def end(self) -> Upload:
        """All that came is stored and counted when this returns."""
        if self._check is not None and self._checksum is not None and self._check.digest() != self._checksum.digest:
            raise UploadChecksumMismatchError(f"The {self._checksum.algorithm} of what arrived is another one.")
        if self._held is None:
            return self._upload  # nothing came
        held = self._held
        await self._wait()
        done = self._upload.received_bytes - self._upload.tail_bytes + sum(piece.size_bytes for piece in self._sent)
        if held and done + len(held) == self._upload.length:
            self._held = bytearray()
            await self._send(held)
            await self._wait()
            held = self._held
        tail = None
        if held:
            key = incoming_key(self._upload.tenant_id, str(uuid_utils.uuid7()))
            await self._service.blobs.put(key, bytes(held))
            tail = (key, len(held))
        await self._count(tail=tail)
        if self._whole is not None and self._upload.has_all:
            changes = {"sha256": self._whole.hexdigest()}
            self._upload = await self._service.uploads.edit_upload(self._upload.upload_id, changes) or self._upload
        return self._upload

    async def close(self) -> None:
        """Let nothing go on behind the request."""
        if self._sending is not None:
            await asyncio.gather(self._sending, return_exceptions=True)
            self._sending = None

    async def _buffer(self) -> bytearray:
        """What is held, begun with what the last request left."""
        if self._held is None:
            key = self._upload.tail_key
            self._held = bytearray(await self._service.blobs.get(key)) if key else bytearray()
        return self._held

    async def _send(self, part: bytearray) -> None:
        await self._wait()
        self._sending = asyncio.create_task(self._store(self._next, part))
        self._next += 1

    async def _store(self, index: int, part: bytearray) -> UploadPiece:
        where = (self._upload.key, self._upload.multipart_id or "", index + 1)
        storing = self._service.parted.put_part(*where, part)
        if self._whole is None:
            etag = await storing
        else:
            etag, _ = await asyncio.gather(storing, asyncio.to_thread(self._whole.update, part))
        return UploadPiece(index=index, size_bytes=len(part), etag=etag)

    async def _wait(self) -> None:
        if self._sending is not None:
            sending, self._sending = self._sending, None
            self._sent.append(await sending)

    async def _count(self, *, tail: tuple[str, int] | None, but_last: bool = False) -> None:
        """Move the offset behind what is stored; ``but_last``: without what is on its way."""
        if but_last and not self._sent:
            return
        if not self._sent and tail is None and self._tail_key is None:
            return
        counted = await self._service.uploads.advance(
            self._upload.upload_id,
            self._upload.received_bytes,
            self._sent,
            tail=tail,
            at=datetime.now(UTC),
            expires_at=self._upload.expires_at,
        )
        if counted is None:
            found = await self._service.uploads.get_upload(self._upload.upload_id)
            raise _conflict(found) if found else UploadNotFoundError("The upload was removed meanwhile.")
        old, self._tail_key = self._tail_key, tail[0] if tail else None
        self._upload, self._sent = counted, []
        if old is not None:
            await self._service.blobs.delete(old)


def _conflict(upload: Upload) -> UploadOffsetConflictError:
    return UploadOffsetConflictError(f"The upload ends at {upload.received_bytes:,}.", offset=upload.received_bytes)

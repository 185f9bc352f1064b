"""Taking files in: small ones share pack objects, large ones stream through, memory stays flat.

An intake belongs to one request. It remembers none of its files: each is answered once, when it has
ended. Its objects are provisional: where the request comes to nothing, ``discard`` removes them all.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from api.shared_budget import SharedBudget
from ingather.domain.keys import upload_key
from ingather.models.content import SMALL_UPLOAD_BYTES, UPLOAD_PACK_BYTES, BlobRef, Stage
from ingather.models.document import DocumentFailure
from ingather.models.errors import BatchTooLargeError, DocumentError, DocumentTooLargeError, StorageUnavailableError
from ingather.models.source import SourceRef
from ingather.ports.blob_store import BlobStore

log = structlog.get_logger(__name__)

LARGE_FILES_AT_ONCE = 4
"""Large files on their way through one process at a time; each has up to 24 MiB of parts in memory."""
LARGE_FILES_OF_A_TENANT = LARGE_FILES_AT_ONCE - 1
"""Of them, those of one tenant: the last turn is left to the others, however many of its own it has stand still."""
_CHUNKS_AHEAD = 16
"""Chunks of a large file that may wait for the store before the client is slowed down."""


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    max_documents: int
    max_file_bytes: int
    max_metadata_bytes: int
    documents_before: int = 0
    """That the batch has already."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One file that was handed in."""

    filename: str
    size_bytes: int
    sha256: str
    blob: BlobRef | None = None
    refused: DocumentFailure | None = None
    source: SourceRef | None = None
    """Where it lies instead; its bytes are fetched when it runs."""


class Intake(Protocol):
    """What a request's files are fed into, one at a time."""

    async def begin(self, filename: str) -> None: ...

    async def write(self, content: bytes) -> None: ...

    async def end(self) -> Taken:
        """The file is whole. Its bytes may be on their way to the store until ``finish``."""
        ...

    async def finish(self) -> None:
        """All files are in; everything is stored when this returns."""
        ...

    async def discard(self) -> None:
        """Remove what was stored. Never raises."""
        ...


def refusal(error: DocumentError) -> DocumentFailure:
    """A document that is refused before it could run."""
    return DocumentFailure(
        code=error.code, message=error.message, stage=Stage.FETCHING, action=error.action, facts=error.facts
    )


class MeasuringIntake:
    """Reads and hashes, keeps nothing: for replays and dry runs."""

    def __init__(self, limits: IntakeLimits) -> None:
        self._limits = limits
        self._filename = ""
        self._size = 0
        self._hash = hashlib.sha256()

    async def begin(self, filename: str) -> None:
        self._filename, self._size, self._hash = filename, 0, hashlib.sha256()

    async def write(self, content: bytes) -> None:
        self._size += len(content)
        if self._size <= self._limits.max_file_bytes:
            self._hash.update(content)

    async def end(self) -> Taken:
        return taken(self._filename, self._size, self._hash.hexdigest(), self._limits)

    async def finish(self) -> None:
        return

    async def discard(self) -> None:
        return


class StoringIntake:
    """Keeps the files in the blob store under an upload id of its own.

    ``turns`` is shared by all intakes of the process: it bounds how many large files are on their
    way at a time, each with some parts in memory. A client that waits for its turn is not read from;
    one that has its turn keeps a pace (``api.body.Pace``).
    """

    def __init__(
        self, blobs: BlobStore, tenant_id: str, upload_id: str, limits: IntakeLimits, turns: SharedBudget
    ) -> None:
        self._turns = turns
        self._blobs = blobs
        self._tenant_id = tenant_id
        self._upload_id = upload_id
        self._limits = limits
        self._keys: list[str] = []
        self._pack = _Pack(self._new_key("pack"))
        self._storing: asyncio.Task[None] | None = None
        self._filename = ""
        self._head = bytearray()
        self._size = 0
        self._large: StreamedObject | None = None

    async def begin(self, filename: str) -> None:
        self._filename, self._size = filename, 0
        self._head = bytearray()

    async def write(self, content: bytes) -> None:
        self._size += len(content)
        if self._size > self._limits.max_file_bytes:
            await self._drop_large()
            self._head = bytearray()
        elif self._large is not None:
            await self._large.write(content)
        else:
            self._head += content
            if len(self._head) > SMALL_UPLOAD_BYTES:
                turn = contextlib.AsyncExitStack()
                await turn.enter_async_context(self._turns.hold(self._tenant_id, 1))
                self._large = StreamedObject(self._blobs, self._new_key("file"), turn)
                head, self._head = bytes(self._head), bytearray()
                await self._large.write(head)

    async def end(self) -> Taken:
        if self._size > self._limits.max_file_bytes:
            return taken(self._filename, self._size, "", self._limits)
        if self._large is not None:
            large, self._large = self._large, None
            blob = await large.finish()
            return Taken(self._filename, blob.size_bytes, blob.sha256, blob)
        return await self._end_small()

    async def finish(self) -> None:
        await self._store_pack()
        await self._await_pack()

    async def discard(self) -> None:
        await self._drop_large()
        if self._storing is not None:
            with contextlib.suppress(Exception):
                await self._storing
            self._storing = None
        for key in self._keys:
            try:
                await self._blobs.delete(key)
            except StorageUnavailableError:
                log.warning("upload.left_behind", key=key)

    async def _end_small(self) -> Taken:
        content, self._head = bytes(self._head), bytearray()
        sha256 = hashlib.sha256(content).hexdigest()
        if len(self._pack.content) + len(content) > UPLOAD_PACK_BYTES:
            await self._store_pack()
        offset = self._pack.append(content)
        blob = BlobRef(key=self._pack.key, offset=offset, size_bytes=len(content), sha256=sha256)
        return Taken(self._filename, len(content), sha256, blob)

    async def _store_pack(self) -> None:
        """Send the pack on its way; the next one fills meanwhile."""
        await self._await_pack()
        if self._pack.file_count:
            pack, self._pack = self._pack, _Pack(self._new_key("pack"))
            self._storing = asyncio.create_task(self._blobs.put(pack.key, pack.take()))

    async def _await_pack(self) -> None:
        if self._storing is not None:
            storing, self._storing = self._storing, None
            await storing

    async def _drop_large(self) -> None:
        if self._large is not None:
            large, self._large = self._large, None
            await large.abort()

    def _new_key(self, kind: str) -> str:
        key = upload_key(self._tenant_id, self._upload_id, f"{kind}-{len(self._keys):05d}")
        self._keys.append(key)
        return key


def large_file_turns() -> SharedBudget:
    """Turns of a process, shared by its tenants."""
    return SharedBudget(LARGE_FILES_AT_ONCE, LARGE_FILES_OF_A_TENANT)


def check_count(count: int, limits: IntakeLimits) -> None:
    """Raises ``BatchTooLargeError`` when a batch would hold too many documents, with so many of this request."""
    before = limits.documents_before
    if before + count > limits.max_documents:
        already = f"; this one has {before:,} already" if before else ""
        raise BatchTooLargeError(
            f"A batch holds at most {limits.max_documents:,} documents{already}.",
            limit="max_documents_per_batch",
            limit_value=limits.max_documents,
        )


def taken(filename: str, size_bytes: int, sha256: str, limits: IntakeLimits) -> Taken:
    """A file that was read whole, refused when it is over the limit."""
    if size_bytes <= limits.max_file_bytes:
        return Taken(filename, size_bytes, sha256)
    error = DocumentTooLargeError(
        f"The file is larger than max_file_bytes ({limits.max_file_bytes:,}).",
        limit="max_file_bytes",
        limit_value=limits.max_file_bytes,
        size_bytes=size_bytes,
    )
    return Taken(filename, size_bytes, "", refused=refusal(error))


@dataclass(slots=True)
class _Pack:
    key: str
    content: bytearray = field(default_factory=bytearray)
    file_count: int = 0

    def append(self, content: bytes) -> int:
        """Add a file; answers where it starts."""
        offset = len(self.content)
        self.content += content
        self.file_count += 1
        return offset

    def take(self) -> bytes:
        """The whole pack, once: it is let go."""
        content = bytes(self.content)
        self.content = bytearray()
        return content


class _AbortedUploadError(Exception):
    """Makes ``put_stream`` give up and clean up."""


class StreamedObject:
    """One ``put_stream`` fed from a short queue: whoever writes faster than the store takes is slowed down.

    Args:
        turn: what it holds meanwhile; given back once the store is done with it.
    """

    def __init__(self, blobs: BlobStore, key: str, turn: contextlib.AsyncExitStack | None = None) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_CHUNKS_AHEAD)
        self._is_aborted = False
        self._task = asyncio.create_task(self._store(blobs, key, turn or contextlib.AsyncExitStack()))

    async def write(self, content: bytes) -> None:
        await self._put(content)

    async def finish(self) -> BlobRef:
        await self._put(None)
        return await self._task

    async def abort(self) -> None:
        self._is_aborted = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)
        # Whatever went wrong before is known to whoever aborts.
        with contextlib.suppress(Exception):
            await self._task

    async def _put(self, item: bytes | None) -> None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            waiting = asyncio.ensure_future(self._queue.put(item))
            # A store that failed takes nothing more: wait for whichever comes first.
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                await self._task
                raise StorageUnavailableError("Object storage ended an upload early.") from None

    async def _store(self, blobs: BlobStore, key: str, turn: contextlib.AsyncExitStack) -> BlobRef:
        async with turn, contextlib.aclosing(self._parts()) as parts:
            return await blobs.put_stream(key, parts)

    async def _parts(self) -> AsyncGenerator[bytes, None]:
        while (item := await self._queue.get()) is not None:
            yield item
        if self._is_aborted:
            raise _AbortedUploadError

"""One file or chunk on its way into an object of its own, counted and hashed as it passes; or counted and hashed alone."""

import asyncio
import contextlib
import hashlib
from typing import Protocol

import structlog

from api.shared_budget import SharedBudget
from ingather.models.content import SMALL_UPLOAD_BYTES, BlobRef
from ingather.models.errors import StorageUnavailableError
from ingather.models.upload import MIN_PART_BYTES
from ingather.ports.blob_store import BlobStore
from ingather.ports.parted_objects import PartedObjects

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """What a part's bytes go into."""

    size_bytes: int
    """Bytes that came, those over the limit included."""

    @property
    def is_over(self) -> bool:
        """More came than fits, and none of it is kept."""
        ...

    async def write(self, content: bytes) -> None: ...

    async def end(self) -> BlobRef:
        """All of it is stored when this returns; again, the same. Not to be called for what is over the limit."""
        ...

    async def discard(self) -> None:
        """Remove what was stored, whole or not. Never raises."""
        ...


class MeasuringSink:
    """Counts and hashes, keeps nothing: for what is there already."""

    def __init__(self, key: str, *, most: int) -> None:
        self.size_bytes = 0
        self._key = key
        self._most = most
        self._hash = hashlib.sha256()

    @property
    def is_over(self) -> bool:
        return self.size_bytes > self._most

    async def write(self, content: bytes) -> None:
        self.size_bytes += len(content)
        if not self.is_over:
            self._hash.update(content)

    async def end(self) -> BlobRef:
        return BlobRef(key=self._key, size_bytes=self.size_bytes, sha256=self._hash.hexdigest())

    async def discard(self) -> None:
        return


class ChunkSink:
    """Takes bytes up to a limit; of what goes beyond, only the count is kept.

    What is small is held until its end. Of larger ones a few are under way in a process at one time (``turns``), each
    with a part that fills and one that is being stored, of the smallest size there is, so that many of them take little
    memory. Whoever waits for a turn is not read from.
    """

    def __init__(
        self, blobs: BlobStore, parted: PartedObjects, owner: str, key: str, *, most: int, turns: SharedBudget
    ) -> None:
        self.size_bytes = 0
        self._blobs = blobs
        self._parted = parted
        self._owner = owner
        self._key = key
        self._most = most
        self._turns = turns
        self._turn = contextlib.AsyncExitStack()
        self._has_turn = False
        self._held = bytearray()
        self._hash = hashlib.sha256()
        self._multipart_id: str | None = None
        self._sending: asyncio.Task[str] | None = None
        self._tags: list[str] = []
        self._stored: BlobRef | None = None

    @property
    def is_over(self) -> bool:
        return self.size_bytes > self._most

    async def write(self, content: bytes) -> None:
        self.size_bytes += len(content)
        if self.is_over:
            await self._let_go()
            return
        view = memoryview(content)
        while view:
            room = MIN_PART_BYTES - len(self._held)
            self._held += view[:room]
            view = view[room:]
            if len(self._held) > SMALL_UPLOAD_BYTES and not self._has_turn:
                await self._turn.enter_async_context(self._turns.hold(self._owner, 1))
                self._has_turn = True
            if len(self._held) == MIN_PART_BYTES:
                await self._send()

    async def end(self) -> BlobRef:
        if self._stored is not None:
            return self._stored
        if self._multipart_id is None:
            self._hash.update(self._held)
            await self._blobs.put(self._key, bytes(self._held))
        else:
            if self._held:
                await self._send()
            await self._wait()
            tags = list(enumerate(self._tags, 1))
            await self._parted.complete_parts(self._key, self._multipart_id, tags, self.size_bytes)
            self._multipart_id = None
        self._held = bytearray()
        await self._turn.aclose()
        self._stored = BlobRef(key=self._key, size_bytes=self.size_bytes, sha256=self._hash.hexdigest())
        return self._stored

    async def discard(self) -> None:
        try:
            await self._let_go()
            await self._blobs.delete(self._key)
        except StorageUnavailableError:
            log.warning("upload.left_behind", key=self._key)

    async def _send(self) -> None:
        """Store what is held while the next part fills."""
        await self._wait()
        if self._multipart_id is None:
            self._multipart_id = await self._parted.begin_parts(self._key)
        part, self._held = self._held, bytearray()
        self._sending = asyncio.create_task(self._store(self._multipart_id, len(self._tags) + 1, part))

    async def _store(self, multipart_id: str, number: int, part: bytearray) -> str:
        storing = self._parted.put_part(self._key, multipart_id, number, part)
        tag, _ = await asyncio.gather(storing, asyncio.to_thread(self._hash.update, part))
        return tag

    async def _wait(self) -> None:
        if self._sending is not None:
            sending, self._sending = self._sending, None
            self._tags.append(await sending)

    async def _let_go(self) -> None:
        """Give up what is under way, once no part is: a late one would stay for ever."""
        self._held = bytearray()
        if self._sending is not None:
            await asyncio.gather(self._sending, return_exceptions=True)
            self._sending = None
        if self._multipart_id is not None:
            multipart_id, self._multipart_id = self._multipart_id, None
            await self._parted.abort_parts(self._key, multipart_id)
        await self._turn.aclose()

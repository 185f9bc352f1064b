"""One file or chunk on its way into an object of its own, counted and hashed as it passes."""

import contextlib
import hashlib

import structlog

from api.shared_budget import SharedBudget
from api.uploads import StreamedObject
from ingather.models.content import SMALL_UPLOAD_BYTES, BlobRef
from ingather.models.errors import StorageUnavailableError
from ingather.ports.blob_store import BlobStore

log = structlog.get_logger(__name__)


class ChunkSink:
    """Takes bytes up to a limit; of what goes beyond, only the count is kept.

    What is small is held until its end. Of larger ones a few are under way in a process at one time (``turns``), each
    with some parts in memory: whoever waits for a turn is not read from.
    """

    def __init__(self, blobs: BlobStore, tenant_id: str, key: str, most: int, turns: SharedBudget) -> None:
        self.size_bytes = 0
        """Bytes that came, those over the limit included."""
        self._blobs = blobs
        self._tenant_id = tenant_id
        self._key = key
        self._most = most
        self._turns = turns
        self._head = bytearray()
        self._large: StreamedObject | None = None

    @property
    def is_over(self) -> bool:
        """More came than fits, and none of it is kept."""
        return self.size_bytes > self._most

    async def write(self, content: bytes) -> None:
        self.size_bytes += len(content)
        if self.is_over:
            await self._let_go()
        elif self._large is not None:
            await self._large.write(content)
        else:
            self._head += content
            if len(self._head) > SMALL_UPLOAD_BYTES:
                turn = contextlib.AsyncExitStack()
                await turn.enter_async_context(self._turns.hold(self._tenant_id, 1))
                self._large = StreamedObject(self._blobs, self._key, turn)
                head, self._head = bytes(self._head), bytearray()
                await self._large.write(head)

    async def end(self) -> BlobRef:
        """All of it is stored when this returns. Not to be called for what is over the limit."""
        if self._large is not None:
            large, self._large = self._large, None
            return await large.finish()
        content, self._head = bytes(self._head), bytearray()
        await self._blobs.put(self._key, content)
        return BlobRef(key=self._key, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    async def discard(self) -> None:
        """Remove what was stored, whole or not. Never raises."""
        await self._let_go()
        try:
            await self._blobs.delete(self._key)
        except StorageUnavailableError:
            log.warning("upload.left_behind", key=self._key)

    async def _let_go(self) -> None:
        self._head = bytearray()
        if self._large is not None:
            large, self._large = self._large, None
            await large.abort()

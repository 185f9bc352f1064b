"""The lines of a submission, one a document: written as they come, never held."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import structlog

from api.uploads import StreamedObject, Taken
from ingather.models.document import Submitted
from ingather.models.errors import StorageUnavailableError
from ingather.ports.blob_store import BlobStore

log = structlog.get_logger(__name__)

_WRITTEN_AT_ONCE_BYTES = 256 * 1024


class Lines(Protocol):
    """Where a submission's lines go."""

    @property
    def key(self) -> str:
        """The object with the lines, once they are finished; empty where none are kept."""
        ...

    async def add(self, taken: Taken, metadata: dict[str, Any], /) -> None: ...

    async def finish(self) -> None:
        """All lines are in; they are stored when this returns."""
        ...

    async def edit(self, change: Callable[[Submitted], Submitted], /) -> None:
        """Go over every line once more, because something that belongs to them came behind them."""
        ...

    async def discard(self) -> None:
        """Remove what was stored. Never raises."""
        ...


class NoLines:
    """Keeps nothing: for replays."""

    key = ""

    async def add(self, _taken: Taken, _metadata: dict[str, Any]) -> None:
        return

    async def finish(self) -> None:
        return

    async def edit(self, _change: Callable[[Submitted], Submitted]) -> None:
        return

    async def discard(self) -> None:
        return


class StoredLines:
    """Writes the lines to an object of this upload's own.

    Args:
        key_for: the object key that belongs to a name.
    """

    def __init__(self, blobs: BlobStore, key_for: Callable[[str], str], upload_id: str) -> None:
        self._blobs = blobs
        self._key_for = key_for
        self._upload_id = upload_id
        self._keys = [key_for(upload_id)]
        self._waiting = bytearray()
        self._object: StreamedObject | None = None

    @property
    def key(self) -> str:
        return self._keys[-1]

    async def add(self, taken: Taken, metadata: dict[str, Any]) -> None:
        line = Submitted(
            filename=taken.filename, blob=taken.blob, metadata=metadata, refused=taken.refused, source=taken.source
        )
        self._waiting += line.model_dump_json().encode()
        self._waiting += b"\n"
        if len(self._waiting) >= _WRITTEN_AT_ONCE_BYTES:
            await self._write()

    async def finish(self) -> None:
        await self._write()
        if self._object is not None:
            done, self._object = self._object, None
            await done.finish()

    async def edit(self, change: Callable[[Submitted], Submitted]) -> None:
        """To another object: nothing is read from one that is being written."""
        plain = self.key
        self._keys.append(self._key_for(f"{self._upload_id}-described"))
        await self._blobs.put_stream(self.key, _edited(self._blobs, plain, change))
        await self._blobs.delete(plain)

    async def discard(self) -> None:
        if self._object is not None:
            left, self._object = self._object, None
            await left.abort()
        for key in self._keys:
            try:
                await self._blobs.delete(key)
            except StorageUnavailableError:
                log.warning("upload.left_behind", key=key)

    async def _write(self) -> None:
        if self._waiting:
            if self._object is None:
                self._object = StreamedObject(self._blobs, self.key)
            content, self._waiting = bytes(self._waiting), bytearray()
            await self._object.write(content)


async def _edited(blobs: BlobStore, key: str, change: Callable[[Submitted], Submitted]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in blobs.stream(key):
        *lines, rest = (rest + piece).split(b"\n")
        changed = (change(Submitted.model_validate_json(line)).model_dump_json() for line in lines)
        yield "".join(f"{line}\n" for line in changed).encode()

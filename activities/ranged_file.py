"""An object of the blob store as a file that is read by ranges, for code that seeks and blocks in a thread."""

import asyncio
import io
from collections import OrderedDict

from ingather.ports.blob_store import BlobStore

WINDOW_BYTES = 4 * 1024 * 1024
WINDOWS = 3
"""Kept at a time: one moves through the bytes, the others stay where a directory or a header is."""
_ANSWER_SECONDS = 300.0


class RangedFile(io.RawIOBase):
    """Reads windows of an object as they are needed, and keeps the last few.

    Every method but the constructor is called from a thread other than the event loop's.

    Args:
        blobs: the store.
        key: the object.
        size_bytes: of the object.
        loop: where the store's calls run.
    """

    def __init__(self, blobs: BlobStore, key: str, size_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._blobs = blobs
        self._key = key
        self._size_bytes = size_bytes
        self._loop = loop
        self._position = 0
        self._windows: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Raises ``OSError`` with ``EINVAL`` for a place before the beginning, as files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        if base + offset < 0:
            raise OSError(22, "Invalid argument")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Raises what the store raises."""
        left = max(0, self._size_bytes - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        pieces = bytearray()
        while len(pieces) < wanted:
            number, within = divmod(self._position, WINDOW_BYTES)
            piece = self._window(number)[within : within + wanted - len(pieces)]
            if not piece:
                break
            pieces += piece
            self._position += len(piece)
        return bytes(pieces)

    def _window(self, number: int) -> bytes:
        if number in self._windows:
            self._windows.move_to_end(number)
            return self._windows[number]
        reading = self._blobs.get(self._key, offset=number * WINDOW_BYTES, size=WINDOW_BYTES)
        window = asyncio.run_coroutine_threadsafe(reading, self._loop).result(_ANSWER_SECONDS)
        self._windows[number] = window
        while len(self._windows) > WINDOWS:
            self._windows.popitem(last=False)
        return window

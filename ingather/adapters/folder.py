"""Blobs in a folder: for one machine, without a server."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self, TypeVar

from ingather.models.content import BlobRef
from ingather.models.errors import BlobNotFoundError, StorageUnavailableError
from ingather.ports.blob_store import BlobStat

_Answer = TypeVar("_Answer")

_PIECE_BYTES = 1024 * 1024
_TEMPORARY = ".incoming"


class FolderBlobStore:
    """An object is a file under ``root``, its key the path.

    Files are written beside the others and renamed into place, so that a reader sees an
    object whole or not at all. A key cannot continue another one (``a`` and ``a/b``): the
    second write raises ``StorageUnavailableError``.
    """

    def __init__(self, root: Path, *, max_threads: int = 8) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(max_threads, thread_name_prefix="folder")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def put(self, key: str, content: bytes) -> None:
        def write() -> None:
            with self._replacing(key) as file:
                file.write(content)

        await self._call("write", key, write)

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> BlobRef:
        digest = hashlib.sha256()
        size = 0
        file = await self._call("write", key, lambda: self._begin(key))

        def add(part: bytes) -> None:
            digest.update(part)
            file.write(part)

        try:
            async for part in parts:
                await self._call("write", key, partial(add, part))
                size += len(part)
            await self._call("write", key, lambda: self._finish(file, key))
        except BaseException:
            _discard(file)
            raise
        return BlobRef(key=key, size_bytes=size, sha256=digest.hexdigest())

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        def read() -> bytes:
            with self._path(key).open("rb") as file:
                file.seek(offset)
                return file.read(-1 if size is None else size)

        return await self._call("read", key, read)

    async def stream(self, key: str, *, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        file = await self._call("read", key, lambda: self._path(key).open("rb"))
        with file:
            await self._call("read", key, lambda: file.seek(offset))
            left = size
            while left is None or left > 0:
                wanted = _PIECE_BYTES if left is None else min(_PIECE_BYTES, left)
                piece = await self._call("read", key, partial(file.read, wanted))
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece

    async def stat(self, key: str) -> BlobStat | None:
        try:
            size = await self._call("look up", key, lambda: self._path(key).stat().st_size)
        except BlobNotFoundError:
            return None
        return BlobStat(key, size)

    async def copy(self, source_key: str, target_key: str) -> None:
        def copy() -> None:
            with self._path(source_key).open("rb") as source, self._replacing(target_key) as target:
                shutil.copyfileobj(source, target, _PIECE_BYTES)

        await self._call("copy", source_key, copy)

    async def delete(self, key: str) -> None:
        with contextlib.suppress(BlobNotFoundError):
            await self._call("delete", key, lambda: self._path(key).unlink())

    async def list(self, prefix: str) -> AsyncIterator[BlobStat]:
        for found in await self._call("list", prefix, lambda: sorted(self._walk(prefix), key=lambda stat: stat.key)):
            yield found

    async def check(self) -> None:
        await self._call("check", "", lambda: self._root.mkdir(parents=True, exist_ok=True))

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _path(self, key: str) -> Path:
        if "\0" in key or key.startswith(_TEMPORARY) or any(part in {"", ".", ".."} for part in key.split("/")):
            raise ValueError(f"not an object key: {key!r}")
        return self._root / key

    def _begin(self, key: str) -> BinaryIO:
        self._path(key)
        incoming = self._root / _TEMPORARY
        incoming.mkdir(parents=True, exist_ok=True)
        return (incoming / uuid.uuid4().hex).open("xb")

    def _finish(self, file: BinaryIO, key: str) -> None:
        target = self._path(key)
        file.close()
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(file.name).replace(target)

    @contextlib.contextmanager
    def _replacing(self, key: str) -> Iterator[BinaryIO]:
        file = self._begin(key)
        try:
            yield file
            self._finish(file, key)
        except BaseException:
            _discard(file)
            raise

    def _walk(self, prefix: str) -> Iterator[BlobStat]:
        # Only the folder that the prefix names is walked, not the whole store.
        top = self._root / prefix.rpartition("/")[0]
        for folder, folders, names in os.walk(top):
            if _TEMPORARY in folders and Path(folder) == self._root:
                folders.remove(_TEMPORARY)
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix):
                    with contextlib.suppress(FileNotFoundError):  # removed since the folder was read
                        yield BlobStat(key, path.stat().st_size)

    async def _call(self, verb: str, key: str, operation: Callable[[], _Answer]) -> _Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, operation)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BlobNotFoundError(f"There is no object {key} in storage.", key=key) from error
        except OSError as error:
            raise StorageUnavailableError(f"Cannot {verb} {key}: {error.strerror or error}.", key=key) from error


def _discard(file: BinaryIO) -> None:
    file.close()
    Path(file.name).unlink(missing_ok=True)

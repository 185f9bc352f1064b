"""The files below one folder of the workers' disk."""

import heapq
import os
import stat
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ingather.adapters.sources.disk_threads import DiskThreads
from ingather.adapters.sources.paths import below_root, opened_file, opened_folder, parts_of
from ingather.domain.filenames import shown
from ingather.models.connection_settings import LocalDirectorySettings
from ingather.models.errors import SourceUnavailableError
from ingather.models.source import SourceFile
from ingather.ports.source import Download, SourcePage

PIECE_BYTES = 256 * 1024


class LocalDirectorySource:
    """File ids are paths relative to the folder.

    Raises:
        SourceAccessDeniedError: the folder lies below none of ``roots``.
    """

    def __init__(self, settings: LocalDirectorySettings, roots: tuple[Path, ...]) -> None:
        self._root, self._folder = below_root(settings.path, roots)
        self._threads = DiskThreads()

    async def list_files(self, folder: str | None = None, *, cursor: str | None = None, limit: int = 100) -> SourcePage:
        return await self._threads.run(self._list, folder, cursor, limit)

    async def describe(self, file_id: str) -> SourceFile:
        return await self._threads.run(self._describe, file_id)

    def download(self, file_id: str) -> AbstractAsyncContextManager[Download]:
        return self._download(file_id)

    async def check(self) -> None:
        await self.list_files(limit=1)

    async def close(self) -> None:
        self._threads.close()

    def _list(self, folder: str | None, cursor: str | None, limit: int) -> SourcePage:
        """By name. The whole folder is read for each page, and no more of it is held than the page."""
        below = parts_of(folder) if folder else ()
        with opened_folder(self._root, (*self._folder, *below)) as here, os.scandir(here) as entries:
            names = (
                entry.name
                for entry in entries
                if (cursor is None or entry.name > cursor) and not entry.is_symlink() and _is_sayable(entry.name)
            )
            page = heapq.nsmallest(limit + 1, names)
            files = [described(here, name, "/".join((*below, name))) for name in page[:limit]]
        return SourcePage(
            tuple(file for file in files if file is not None), page[limit - 1] if len(page) > limit else None
        )

    def _describe(self, file_id: str) -> SourceFile:
        with opened_file(self._root, (*self._folder, *parts_of(file_id))) as (_, facts):
            return _file(file_id, facts)

    @asynccontextmanager
    async def _download(self, file_id: str) -> AsyncIterator[Download]:
        file, facts = await self._threads.run(self._open, file_id)
        with closing(file):
            yield Download(_file(file_id, facts), self._chunks(file, file_id, facts.st_size))

    def _open(self, file_id: str) -> tuple[BinaryIO, os.stat_result]:
        with opened_file(self._root, (*self._folder, *parts_of(file_id))) as (descriptor, facts):
            return os.fdopen(os.dup(descriptor), "rb", buffering=0), facts

    async def _chunks(self, file: BinaryIO, file_id: str, announced: int) -> AsyncIterator[bytes]:
        size = 0
        while True:
            try:
                chunk = await self._threads.run(file.read, PIECE_BYTES)
            except OSError as error:
                raise SourceUnavailableError(f"{shown(file_id)!r} cannot be read: {error.strerror}.") from error
            if not chunk:
                break
            size += len(chunk)
            yield chunk
        if size != announced:
            raise SourceUnavailableError(f"{shown(file_id)!r} changed while it was read.")


def described(folder: int, name: str, file_id: str) -> SourceFile | None:
    """What goes by a name in an open folder; None for what is neither a folder nor an ordinary file, or is gone by now."""
    try:
        facts = os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(facts.st_mode):
        return SourceFile(file_id=file_id, name=file_id.rsplit("/", 1)[-1], is_folder=True)
    return _file(file_id, facts) if stat.S_ISREG(facts.st_mode) else None


def _file(file_id: str, facts: os.stat_result) -> SourceFile:
    return SourceFile(
        file_id=file_id,
        name=file_id.rsplit("/", 1)[-1],
        size_bytes=facts.st_size,
        modified_at=moment(facts.st_mtime),
    )


def moment(seconds: float) -> datetime | None:
    """None beyond the calendar, where a disk may put a file by mistake."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _is_sayable(name: str) -> bool:
    """Whether a name is text: one that is not could not be sent back as a file id."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

"""The entries of one ZIP archive on the workers' disk, under the same rules as a ZIP that was handed in."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ingather.adapters.sources.disk_threads import DiskThreads
from ingather.adapters.sources.paths import below_root, opened_file
from ingather.adapters.zip_archive import ZipArchive, ZipArchiveReader
from ingather.domain.archives import EntryJudge, UnpackMeter, metered, wanted_entries
from ingather.domain.filenames import shown
from ingather.models.archive import ArchiveEntry, ArchiveLimits
from ingather.models.connection_settings import LocalZipSettings
from ingather.models.errors import (
    ArchiveError,
    ArchiveTooLargeError,
    SourceAccessDeniedError,
    SourceFileNotFoundError,
    SourceUnavailableError,
)
from ingather.models.source import SourceFile
from ingather.ports.source import Download, SourcePage

_Version = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Directory:
    """What an archive held when it was this version."""

    version: _Version
    archive: ZipArchive
    entries: dict[str, ArchiveEntry]
    refused: dict[str, ArchiveError]
    """Entries that are there and may not be unpacked."""


class LocalZipSource:
    """File ids are the entries' names. What an archive's own directory claims is believed nowhere.

    The directory is read once for each version of the archive.

    Raises:
        SourceAccessDeniedError: the archive lies below none of ``roots``.
    """

    def __init__(self, settings: LocalZipSettings, roots: tuple[Path, ...], limits: ArchiveLimits) -> None:
        self._root, self._parts = below_root(settings.path, roots)
        if not self._parts:
            raise SourceAccessDeniedError("The path is an allowed folder itself, and not an archive in it.")
        self._limits = limits
        self._threads = DiskThreads()
        self._known: _Directory | None = None
        self._reading = asyncio.Lock()

    async def list_files(self, folder: str | None = None, *, cursor: str | None = None, limit: int = 100) -> SourcePage:
        directory = await self._directory()
        prefix = f"{folder.rstrip('/')}/" if folder else ""
        names = _names_below(directory.entries, prefix)
        if folder and not names:
            raise SourceFileNotFoundError(f"There is no folder {shown(folder)!r} in the archive.")
        after = sorted(name for name in names if cursor is None or name > cursor)
        files = [_listed(prefix + name, directory.entries) for name in after[:limit]]
        return SourcePage(tuple(files), after[limit - 1] if len(after) > limit else None)

    async def describe(self, file_id: str) -> SourceFile:
        return _file(self._entry(await self._directory(), file_id))

    def download(self, file_id: str) -> AbstractAsyncContextManager[Download]:
        return self._download(file_id)

    async def check(self) -> None:
        await self._directory()

    async def close(self) -> None:
        self._threads.close()

    async def _directory(self) -> _Directory:
        async with self._reading:
            self._known = await self._threads.run(self._read, self._known)
            return self._known

    def _read(self, known: _Directory | None) -> _Directory:
        file, version = self._open()
        with closing(file):
            if known is not None and known.version == version:
                return known
            name = self._parts[-1]
            archive = ZipArchiveReader().open(file, name, self._limits)
            entries: dict[str, ArchiveEntry] = {}
            refused: dict[str, ArchiveError] = {}
            judge = EntryJudge()
            for entry in wanted_entries(archive.entries, name, self._limits):
                refusal = judge.refusal(entry)
                if entry.name not in entries and refusal is None:
                    entries[entry.name] = entry
                elif refusal is not None:
                    refused.setdefault(entry.name, refusal)
            self._refuse_too_much(entries, name)
            return _Directory(version, archive, entries, refused)

    def _refuse_too_much(self, entries: dict[str, ArchiveEntry], name: str) -> None:
        """Each entry is unpacked by itself, and none to more than it claims: so what they claim together is a bound."""
        if sum(entry.size_bytes for entry in entries.values()) > self._limits.unpacked_bytes:
            raise ArchiveTooLargeError(
                f"Archive {shown(name)!r} claims to unpack to more than {self._limits.unpacked_bytes:,} bytes "
                "(zip_unpacked_bytes).",
                limit=self._limits.unpacked_bytes,
            )

    def _open(self) -> tuple[BinaryIO, _Version]:
        with opened_file(self._root, self._parts) as (descriptor, facts):
            file = os.fdopen(os.dup(descriptor), "rb")
            return file, (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)

    def _entry(self, directory: _Directory, file_id: str) -> ArchiveEntry:
        entry = directory.entries.get(file_id)
        if entry is not None:
            return entry
        if file_id in directory.refused:
            raise directory.refused[file_id].with_traceback(None)
        raise SourceFileNotFoundError(f"There is no {shown(file_id)!r} in the archive.")

    @asynccontextmanager
    async def _download(self, file_id: str) -> AsyncIterator[Download]:
        directory = await self._directory()
        entry = self._entry(directory, file_id)
        file, version = await self._threads.run(self._open)
        with closing(file):
            if version != directory.version:
                raise SourceUnavailableError("The archive changed while it was read.")
            pieces = directory.archive.read_through(file).unpack(entry)
            meter = UnpackMeter(self._parts[-1], directory.version[2], self._limits)
            yield Download(_file(entry), _chunks(metered(pieces, entry, meter), self._threads))


def _names_below(entries: dict[str, ArchiveEntry], prefix: str) -> set[str]:
    """What is right below a folder; folders end in a slash."""
    found = set()
    for name in entries:
        if name.startswith(prefix):
            first, slash, _ = name[len(prefix) :].partition("/")
            found.add(first + slash)
    return found


def _listed(name: str, entries: dict[str, ArchiveEntry]) -> SourceFile:
    if name.endswith("/"):
        return SourceFile(file_id=name[:-1], name=name[:-1].rsplit("/", 1)[-1], is_folder=True)
    return _file(entries[name])


def _file(entry: ArchiveEntry) -> SourceFile:
    return SourceFile(file_id=entry.name, name=entry.name.rsplit("/", 1)[-1], size_bytes=entry.size_bytes)


async def _chunks(pieces: Iterator[bytes], threads: DiskThreads) -> AsyncIterator[bytes]:
    while (piece := await threads.run(_next, pieces)) is not None:
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)

"""What one submitted thing becomes: itself, or the files of the archive it is.

An archive is unpacked from a temporary file without a name, piece by piece in a thread, so
that memory stays flat and the event loop free. Nothing is ever written to a path taken
from an archive. A refused entry becomes a failed document of its own; a refused archive
becomes one, and takes nothing else with it.
"""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO, cast

from activities.failures import to_document_failure
from activities.packing import Packer
from activities.unpacked import PIECE_BYTES, in_thread, pulled, store_entry
from ingather.domain.archives import (
    HEAD_BYTES,
    EntryJudge,
    UnpackMeter,
    claims_to_be_archive,
    is_archive,
    is_document,
    metered,
    wanted_entries,
)
from ingather.domain.filenames import shown
from ingather.models.archive import ArchiveEntry, ArchiveLimits
from ingather.models.content import SMALL_UPLOAD_BYTES, BlobRef, Stage
from ingather.models.document import DocumentFailure
from ingather.models.errors import (
    ArchiveCorruptError,
    ArchiveTooDeepError,
    BatchTooLargeError,
    DocumentError,
    StorageUnavailableError,
)
from ingather.ports.archive_reader import Archive, ArchiveReader
from ingather.ports.blob_store import BlobStore

IN_MEMORY_BYTES = 8 * 1024 * 1024
"""An archive up to this size is unpacked without touching the disk."""


@dataclass(frozen=True, slots=True)
class Found:
    """One document to be: a name as the sender wrote it, and its bytes or the reason it has none."""

    name: str
    blob: BlobRef | None = None
    refused: DocumentFailure | None = None


class DocumentCount:
    """How many documents the batch will have, as far as is known; raises as soon as that is too many."""

    def __init__(self, submitted_count: int, limit: int) -> None:
        self.expected = 0
        self._limit = limit
        self.add(submitted_count)

    def add(self, count: int) -> None:
        """Expect ``count`` documents more. Raises ``BatchTooLargeError``."""
        self.expected += count
        if self.expected > self._limit:
            raise BatchTooLargeError(
                f"The batch has at least {self.expected:,} documents; the limit is {self._limit:,}.",
                count=self.expected,
                limit=self._limit,
            )

    def reset_to(self, expected: int) -> None:
        """Forget what was added since: an archive was refused and counts as the one it was before."""
        self.expected = expected


class ArchiveExpander:
    """Unpacks the archives of one batch."""

    def __init__(self, blobs: BlobStore, archives: ArchiveReader, limits: ArchiveLimits, count: DocumentCount) -> None:
        self._blobs = blobs
        self._archives = archives
        self._limits = limits
        self._count = count

    async def expand(self, name: str, blob: BlobRef, packer: Packer) -> list[Found] | None:
        """The documents of an archive, stored; None when the thing is a document itself, to be left as it is.

        Raises ``BatchTooLargeError`` when the batch grows over its limit by it.
        """
        expected = self._count.expected
        with closing(_temporary_file()) as file:
            try:
                await self._download(blob, file)
                archive = await self._open(file, name)
                if archive is None:
                    return None
                meter = UnpackMeter(name, blob.size_bytes, self._limits)
                found = await self._unpack_all(archive, meter, packer)
                await packer.flush()
            except DocumentError as error:
                await packer.discard()
                self._count.reset_to(expected)
                return [_refusal(name, error)]
            except OSError as error:
                raise StorageUnavailableError(
                    "An archive cannot be unpacked: the worker's temporary folder takes no more bytes.",
                    action="Free space in the worker's temporary folder (TMPDIR).",
                ) from error
        return found

    async def _download(self, blob: BlobRef, file: BinaryIO) -> None:
        async for piece in self._blobs.stream(blob.key, offset=blob.offset, size=blob.size_bytes):
            await in_thread(file.write, piece)

    async def _open(self, file: BinaryIO, name: str) -> Archive | None:
        """An archive to unpack; None when the file is a document. Raises when it is an archive that cannot be read."""
        try:
            archive = await in_thread(self._archives.open, file, name, self._limits)
        except ArchiveCorruptError:
            file.seek(0)
            if claims_to_be_archive(name, file.read(HEAD_BYTES)):
                raise
            return None
        return None if is_document(entry.name for entry in archive.entries) else archive

    async def _unpack_all(self, archive: Archive, meter: UnpackMeter, packer: Packer) -> list[Found]:
        meter.add_entries(len(archive.entries))
        entries = wanted_entries(archive.entries, meter.archive_name, self._limits)
        self._count.add(len(entries) - 1)
        judge = EntryJudge()
        found: list[Found] = []
        for entry in entries:
            error = judge.refusal(entry)
            if error is None:
                found += await self._unpack(archive, entry, meter, packer)
            else:
                found.append(_refusal(entry.name, error))
        return found

    async def _unpack(self, archive: Archive, entry: ArchiveEntry, meter: UnpackMeter, packer: Packer) -> list[Found]:
        """One entry, or all of the archive it is. Raises only what ends the archive around it."""
        pieces = metered(archive.unpack(entry), entry, meter)
        try:
            head = await in_thread(pulled, pieces, SMALL_UPLOAD_BYTES)
            if is_archive(head):
                return await self._unpack_inner(entry, head, pieces, meter, packer)
            return [Found(entry.name, await store_entry(head, pieces, packer))]
        except DocumentError as error:
            if meter.is_over:
                raise
            return [_refusal(entry.name, error)]

    async def _unpack_inner(
        self, entry: ArchiveEntry, head: bytes, pieces: Iterator[bytes], meter: UnpackMeter, packer: Packer
    ) -> list[Found]:
        """An entry that starts as a ZIP does: a document such as a DOCX, or an archive within the archive."""
        expected = self._count.expected
        with closing(_temporary_file()) as file:
            size_bytes = await in_thread(_spool, head, pieces, file)
            archive = await self._open(file, entry.name)
            if archive is None:
                file.seek(0)
                stored = iter(lambda: file.read(PIECE_BYTES), b"")
                return [
                    Found(
                        entry.name,
                        await store_entry(await in_thread(pulled, stored, SMALL_UPLOAD_BYTES), stored, packer),
                    )
                ]
            if meter.depth >= self._limits.depth:
                raise ArchiveTooDeepError(
                    f"Archive {shown(entry.name)!r} lies {meter.depth + 1} archives deep; "
                    f"the limit is {self._limits.depth} (zip_depth).",
                    limit=self._limits.depth,
                )
            try:
                inner = UnpackMeter(entry.name, size_bytes, self._limits, outer=meter)
                return await self._unpack_all(archive, inner, packer)
            except DocumentError:
                self._count.reset_to(expected)
                raise


def _spool(head: bytes, pieces: Iterator[bytes], file: BinaryIO) -> int:
    size_bytes = file.write(head)
    for piece in pieces:
        size_bytes += file.write(piece)
    return size_bytes


def _refusal(name: str, error: DocumentError) -> Found:
    return Found(name, refused=to_document_failure(error, Stage.EXPANDING))


def _temporary_file() -> BinaryIO:
    """In memory while it is small, then on disk without a name: nothing is left behind, whatever crashes."""
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES))

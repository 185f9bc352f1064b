"""Files of sheets out of the archives of an upload, read by ranges where they lie.

The archive is never whole anywhere but in the store: its directory and a few windows of it are in memory. What comes
out goes back into the store, small files several to an object. Defences are those of every archive
(``ingather.domain.archives``): a refused entry becomes a sheet that fails alone, a refused archive costs the batch.
"""

import asyncio
import hashlib
from collections import Counter
from typing import BinaryIO, cast

from activities.failures import to_document_failure
from activities.packing import Packer
from activities.ranged_file import RangedFile
from activities.unpacked import in_thread, pulled, store_entry
from ingather.domain.archives import EntryJudge, UnpackMeter, metered, wanted_entries
from ingather.domain.filenames import shown
from ingather.domain.sheet_groups import is_inner_archive, skip_reason
from ingather.models.archive import ArchiveEntry, ArchiveLimits
from ingather.models.content import SMALL_UPLOAD_BYTES, BlobRef, Stage
from ingather.models.errors import (
    ArchiveTooDeepError,
    BatchTooLargeError,
    BlobNotFoundError,
    DocumentError,
    DocumentTooLargeError,
)
from ingather.models.sheets import SheetFile, SheetObject, SheetUpload, SkippedFile
from ingather.ports.archive_reader import Archive, ArchiveReader
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog

_HEAD_BYTES = 1_024
_LONGEST_NAME = 10_000


async def uploaded(blobs: BlobStore, catalog: Catalog, tenant_id: str, batch_id: str) -> SheetUpload:
    """What a batch of sheets was made of. Raises ``BlobNotFoundError`` where that is gone, or another tenant's."""
    parts = await catalog.list_parts(batch_id)
    if not parts:
        raise BlobNotFoundError(f"The upload of batch {batch_id} is missing.")
    upload = SheetUpload.model_validate_json(await blobs.get(parts[0].key))
    if upload.tenant_id != tenant_id:
        raise BlobNotFoundError(f"The upload of batch {batch_id} is another tenant's.")
    return upload


class SheetExtraction:
    """One upload's files, as they are found.

    Args:
        max_files: sheets and covers together.
    """

    def __init__(self, blobs: BlobStore, archives: ArchiveReader, limits: ArchiveLimits, max_files: int) -> None:
        self._blobs = blobs
        self._archives = archives
        self._limits = limits
        self._max_files = max_files
        self.files: list[SheetFile] = []
        self.skipped: list[SkippedFile] = []

    @property
    def skipped_by_reason(self) -> dict[str, int]:
        """How many files are no sheets, and why."""
        return dict(Counter(file.reason for file in self.skipped))

    async def add_file(self, stored: SheetObject) -> None:
        """A file that was uploaded as it is."""
        head = await self._blobs.get(stored.key, offset=0, size=_HEAD_BYTES) if stored.size_bytes else b""
        reason = skip_reason(stored.filename, head)
        if reason is not None:
            self._skip(stored.filename, reason)
        elif stored.size_bytes > self._limits.entry_bytes:
            self._refuse(stored.filename, _too_large(stored.filename, self._limits.entry_bytes))
        else:
            sha256 = stored.sha256 or await self._sha256(stored)
            self._take(stored.filename, BlobRef(key=stored.key, size_bytes=stored.size_bytes, sha256=sha256))

    async def add_archive(self, stored: SheetObject, packer: Packer) -> None:
        """The files of an archive. Raises the ``DocumentError`` that refuses it whole."""
        file = RangedFile(self._blobs, stored.key, stored.size_bytes, asyncio.get_running_loop())
        archive = await in_thread(self._archives.open, cast(BinaryIO, file), stored.filename, self._limits)
        meter = UnpackMeter(stored.filename, stored.size_bytes, self._limits)
        meter.add_entries(len(archive.entries))
        wanted = {entry.index for entry in wanted_entries(archive.entries, stored.filename, self._limits)}
        for entry in archive.entries:
            if entry.index not in wanted and not entry.is_directory:
                self._skip(entry.name, skip_reason(entry.name, b"") or "")
        judge = EntryJudge()
        refusals = {entry.index: judge.refusal(entry) for entry in archive.entries if entry.index in wanted}
        # In the order of their bytes, so that each window of the archive is fetched once.
        for entry in sorted(archive.entries, key=lambda entry: (entry.offset, entry.index)):
            if entry.index not in wanted:
                continue
            refusal = refusals[entry.index]
            if refusal is None:
                await self._unpack(archive, entry, meter, packer)
            elif (reason := skip_reason(entry.name, b"")) is not None:
                self._skip(entry.name, reason)
            else:
                self._refuse(entry.name, refusal)
        await packer.flush()

    async def _unpack(self, archive: Archive, entry: ArchiveEntry, meter: UnpackMeter, packer: Packer) -> None:
        """One entry. Raises only what ends the archive."""
        pieces = metered(archive.unpack(entry), entry, meter)
        try:
            head = await in_thread(pulled, pieces, SMALL_UPLOAD_BYTES)
            if is_inner_archive(entry.name, head):
                raise ArchiveTooDeepError(
                    f"Archive {shown(entry.name)!r} lies within an archive; sheets are taken from the outer one alone."
                )
            reason = skip_reason(entry.name, head[:_HEAD_BYTES])
            if reason is not None:
                self._skip(entry.name, reason)
                return
            self._take(entry.name, await store_entry(head, pieces, packer))
        except DocumentError as error:
            if meter.is_over:
                raise
            self._refuse(entry.name, error)

    async def _sha256(self, stored: SheetObject) -> str:
        digest = hashlib.sha256()
        async for piece in self._blobs.stream(stored.key):
            digest.update(piece)
        return digest.hexdigest()

    def _take(self, name: str, blob: BlobRef) -> None:
        self._add(SheetFile(name=name[:_LONGEST_NAME], blob=blob))

    def _refuse(self, name: str, error: DocumentError) -> None:
        self._add(SheetFile(name=name[:_LONGEST_NAME], refused=to_document_failure(error, Stage.EXPANDING)))

    def _add(self, file: SheetFile) -> None:
        if len(self.files) >= self._max_files:
            raise BatchTooLargeError(
                f"The upload has more than {self._max_files:,} sheets (max_documents_per_batch).", limit=self._max_files
            )
        self.files.append(file)

    def _skip(self, name: str, reason: str) -> None:
        self.skipped.append(SkippedFile(name=name[:_LONGEST_NAME], reason=reason))


def _too_large(name: str, limit: int) -> DocumentTooLargeError:
    return DocumentTooLargeError(f"{shown(name)!r} is larger than max_file_bytes ({limit:,}).", limit="max_file_bytes")

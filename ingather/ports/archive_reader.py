"""Looking into archives."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

from ingather.models.archive import ArchiveEntry, ArchiveLimits


class Archive(Protocol):
    """An archive whose directory was read. It belongs to one thread at a time, as its file does."""

    @property
    def entries(self) -> Sequence[ArchiveEntry]:
        """Everything in the directory, folders included, in its order."""
        ...

    def unpack(self, entry: ArchiveEntry) -> Iterator[bytes]:
        """The entry's bytes in pieces of at most 256 KiB, with flat memory. Blocking; may be begun again.

        The whole of it is only to be trusted when the iterator has ended without an error.
        Raises ``ArchiveCorruptError`` when bytes are missing, broken or fail their checksum,
        ``ArchiveSizeMismatchError`` as soon as there are more or fewer than the directory
        claims, ``ArchiveUnsupportedCompressionError`` and ``ArchiveEncryptedError``.
        """
        ...


class ArchiveReader(Protocol):
    """One archive format."""

    def open(self, file: BinaryIO, name: str, limits: ArchiveLimits) -> Archive:
        """Read the directory of an archive in a seekable file. Blocking; the file stays the caller's.

        ``name`` is for messages. Raises ``ArchiveCorruptError`` when the directory cannot be
        read, ``ArchiveTooManyEntriesError`` before a directory too large is in memory.
        """
        ...

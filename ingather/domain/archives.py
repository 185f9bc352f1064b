"""What to make of an archive and its entries: which to take, which to refuse and why.

Everything here decides from what the archive's directory claims, and from counts of bytes
that really came out. Reading is the adapter's part.
"""

import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ingather.domain.filenames import shown
from ingather.models.archive import ArchiveEntry, ArchiveLimits
from ingather.models.errors import (
    ArchiveDuplicateNameError,
    ArchiveEncryptedError,
    ArchiveError,
    ArchiveOverlapError,
    ArchiveSymlinkError,
    ArchiveTooLargeError,
    ArchiveTooManyEntriesError,
    ArchiveUnsafePathError,
    ArchiveUnsupportedCompressionError,
    DocumentEmptyError,
    DocumentTooLargeError,
)

HEAD_BYTES = 64
"""Enough of a file to tell an archive, and the name of an archive's first entry."""
HARMLESS_BYTES = 1024 * 1024
"""Nothing that unpacks to less is a bomb, whatever its ratio: a page of blanks packs a thousand to one."""
UNDERSTOOD_METHODS = frozenset({0, 8})
"""Stored and deflated. The others are rare, and their decoders take memory an attacker chooses."""

_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_LOCAL_HEADER_BYTES = 30
_DOCUMENT_MEMBERS = frozenset(
    {"[content_types].xml", "mimetype", "meta-inf/manifest.mf", "androidmanifest.xml", "index/document.iwa"}
)
"""Members that make a ZIP a document of its own: Office, OpenDocument and EPUB, Java, Android, iWork."""
_DOCUMENT_HEADS = ("[content_types].xml", "mimetype", "_rels/", "docprops/", "word/", "xl/", "ppt/", "meta-inf/")
_JUNK_NAMES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_DRIVE = re.compile(r"^[A-Za-z]:")


def is_archive(head: bytes) -> bool:
    """Whether a file that starts like this is a ZIP of some kind."""
    return head.startswith(_SIGNATURES)


def is_document(names: Iterable[str]) -> bool:
    """Whether a ZIP with these members is one document (DOCX, ODT, EPUB, JAR …) rather than a bag of files."""
    return any(name.lower() in _DOCUMENT_MEMBERS for name in names)


def claims_to_be_archive(filename: str, head: bytes) -> bool:
    """Whether an unreadable ZIP was meant as an archive.

    Half a DOCX has no directory either: by its name or its first member it stays a document,
    and its parser says what is wrong with it.
    """
    if not filename.lower().rstrip().endswith(".zip"):
        return False
    first_member = head[_LOCAL_HEADER_BYTES:].decode("utf-8", "replace").lower()
    return not first_member.startswith(_DOCUMENT_HEADS)


def is_junk(name: str) -> bool:
    """What operating systems leave in archives and nobody meant to submit."""
    parts = name.replace("\\", "/").split("/")
    return "__MACOSX" in parts[:-1] or parts[-1].lower() in _JUNK_NAMES


def wanted_entries(entries: Sequence[ArchiveEntry], archive_name: str, limits: ArchiveLimits) -> list[ArchiveEntry]:
    """The entries that become documents, in the archive's order.

    Raises:
        ArchiveError: the archive is refused whole: too many entries, entries laid over each
            other, or nothing that can be read without a password.
        DocumentEmptyError: there is no file in it.
    """
    if len(entries) > limits.entries:
        raise too_many_entries(archive_name, len(entries), limits)
    files = [entry for entry in entries if not entry.is_directory and not is_junk(entry.name)]
    if not files:
        raise DocumentEmptyError(
            f"Archive {shown(archive_name)!r} has no files in it.",
            action="Check the program that made the archive and submit it again.",
        )
    if all(entry.is_encrypted for entry in files):
        raise ArchiveEncryptedError(f"Every file in archive {shown(archive_name)!r} is encrypted.")
    _refuse_overlap(files, archive_name)
    return files


def too_many_entries(archive_name: str, count: int, limits: ArchiveLimits) -> ArchiveTooManyEntriesError:
    """The refusal of an archive over ``zip_entries``."""
    return ArchiveTooManyEntriesError(
        f"Archive {shown(archive_name)!r} has {count:,} entries or more; the limit is {limits.entries:,} (zip_entries).",
        count=count,
        limit=limits.entries,
    )


def _refuse_overlap(files: Sequence[ArchiveEntry], archive_name: str) -> None:
    """Entries that share packed bytes make a small file unpack to terabytes without any nesting."""
    end = 0
    previous = ""
    for entry in sorted(files, key=lambda entry: (entry.offset, entry.index)):
        if entry.offset < end:
            raise ArchiveOverlapError(
                f"Entries {shown(previous)!r} and {shown(entry.name)!r} of archive {shown(archive_name)!r} "
                "lie over each other."
            )
        # The header's own variable fields are not counted: a lower bound is enough, and never refuses an honest file.
        end = entry.offset + _LOCAL_HEADER_BYTES + entry.packed_bytes
        previous = entry.name


class EntryJudge:
    """Says for each entry of one archive, in order, why it is refused, if it is."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def refusal(self, entry: ArchiveEntry) -> ArchiveError | None:
        """The reason to leave an entry packed; None when it may be read."""
        label = shown(entry.name)
        problem = path_problem(entry.name)
        if problem:
            return ArchiveUnsafePathError(f"Entry {label!r} has {problem} in its path.", problem=problem)
        key = unicodedata.normalize("NFC", posixpath.normpath(entry.name)).casefold()
        if key in self._seen:
            return ArchiveDuplicateNameError(f"Entry {label!r} has the name of an earlier one; case does not count.")
        self._seen.add(key)
        return _kind_refusal(entry, label)


def _kind_refusal(entry: ArchiveEntry, label: str) -> ArchiveError | None:
    if entry.is_symlink:
        return ArchiveSymlinkError(f"Entry {label!r} is a symbolic link.")
    if entry.is_special:
        return ArchiveError(f"Entry {label!r} is not an ordinary file.")
    if entry.is_encrypted:
        return ArchiveEncryptedError(f"Entry {label!r} is encrypted.")
    if entry.method not in UNDERSTOOD_METHODS:
        return ArchiveUnsupportedCompressionError(
            f"Entry {label!r} is packed with method {entry.method}; stored and deflated are understood.",
            method=entry.method,
        )
    return None


def path_problem(name: str) -> str | None:
    """What makes a path dangerous to whoever unpacks it to a disk; None for an honest one."""
    if "\\" in name:
        return "a backslash"
    if name.startswith("/"):
        return "a leading slash"
    if _DRIVE.match(name):
        return "a drive letter"
    if ".." in name.split("/"):
        return "'..'"
    return None


@dataclass
class UnpackMeter:
    """Counts what really came out of one archive, and of the archives it was found in.

    A count that goes over marks the archive it goes over *in*: an inner bomb costs the inner
    archive, a flood of small ones the outer.
    """

    archive_name: str
    packed_bytes: int
    """Size of the archive itself; what it claims about its entries is not asked."""
    limits: ArchiveLimits
    outer: "UnpackMeter | None" = None
    unpacked_bytes: int = 0
    entry_count: int = 0

    @property
    def depth(self) -> int:
        """1 for a submitted archive, 2 for one found in it."""
        return 1 + (self.outer.depth if self.outer else 0)

    @property
    def is_over(self) -> bool:
        """This archive, or one around it, has used up what it may."""
        return self._is_bomb or self._is_too_much or bool(self.outer and self.outer.is_over)

    def add_entries(self, count: int) -> None:
        """Count entries of the directory; raises when this archive and those around it have too many together."""
        total = count
        meter: UnpackMeter | None = self
        while meter is not None:
            meter.entry_count += count
            total = meter.entry_count
            meter = meter.outer
        if total > self.limits.entries:
            raise too_many_entries(self.archive_name, total, self.limits)

    def add_bytes(self, count: int) -> None:
        """Count unpacked bytes; raises ``ArchiveTooLargeError`` when they are too many."""
        self.unpacked_bytes += count
        if self.outer is not None:
            self.outer.add_bytes(count)
        if self._is_bomb:
            raise ArchiveTooLargeError(
                f"Archive {shown(self.archive_name)!r} of {self.packed_bytes:,} bytes unpacks to more than "
                f"{self.limits.ratio} times its size (zip_ratio).",
                limit=self.limits.ratio,
            )
        if self._is_too_much:
            raise ArchiveTooLargeError(
                f"Archive {shown(self.archive_name)!r} unpacks to more than {self.limits.unpacked_bytes:,} bytes "
                "(zip_unpacked_bytes).",
                limit=self.limits.unpacked_bytes,
            )

    @property
    def _is_bomb(self) -> bool:
        return self.unpacked_bytes > max(HARMLESS_BYTES, self.packed_bytes * self.limits.ratio)

    @property
    def _is_too_much(self) -> bool:
        return self.unpacked_bytes > self.limits.unpacked_bytes


def metered(pieces: Iterable[bytes], entry: ArchiveEntry, meter: UnpackMeter) -> Iterator[bytes]:
    """The pieces of an entry as they come out, counted against every limit before they go on.

    Raises:
        ArchiveTooLargeError: the archive has unpacked to too much; ``meter.is_over`` is set.
        DocumentTooLargeError: this entry alone has.
    """
    size_bytes = 0
    for piece in pieces:
        size_bytes += len(piece)
        meter.add_bytes(len(piece))
        if size_bytes > meter.limits.entry_bytes:
            raise DocumentTooLargeError(
                f"Entry {shown(entry.name)!r} unpacks to more than {meter.limits.entry_bytes:,} bytes (max_file_bytes).",
                limit=meter.limits.entry_bytes,
            )
        yield piece

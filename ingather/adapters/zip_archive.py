"""ZIP archives, read without trust.

``zipfile`` reads the directory: ZIP64, prefixes and comments are its business. The bytes of
an entry are taken from here, because ``zipfile`` stops at the size the directory claims, and
would neither notice a lie nor an entry that goes on.
"""

import errno
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from ingather.domain.filenames import shown
from ingather.models.archive import ArchiveEntry, ArchiveLimits
from ingather.models.errors import (
    ArchiveCorruptError,
    ArchiveEncryptedError,
    ArchiveSizeMismatchError,
    ArchiveTooManyEntriesError,
    ArchiveUnsupportedCompressionError,
)

PIECE_BYTES = 256 * 1024
_STORED, _DEFLATED = 0, 8
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_DIRECTORY_SIGNATURE = b"PK\x01\x02"
_DIRECTORY_BYTES_AN_ENTRY = 1024
"""A generous average: entry with a long path, extra fields and a comment."""
_MIN_DIRECTORY_BYTES = 1024 * 1024
_ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
"""Encrypted, strongly encrypted, directory masked."""
_PATCHED_FLAG = 0x20
_UTF8_FLAG = 0x800
_DOS_DIRECTORY = 0x10
_ORDINARY_KINDS = frozenset({0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
_UNREADABLE = (
    zipfile.BadZipFile,
    NotImplementedError,  # a ZIP version from the future
    ValueError,  # offsets before the file's start, names that are not the UTF-8 they claim
    struct.error,
    OverflowError,
    EOFError,
)


class ZipArchiveReader:
    """Opens ZIP archives."""

    def open(self, file: BinaryIO, name: str, limits: ArchiveLimits) -> "ZipArchive":
        """Read the directory; see the port for what is raised."""
        guard = _DirectoryGuard(file, name, limits)
        try:
            with zipfile.ZipFile(guard) as directory:
                infos = directory.infolist()
        except _UNREADABLE as error:
            raise _corrupt_directory(name) from error
        except OSError as error:
            if error.errno != errno.EINVAL:  # anything but a seek to nowhere is the disk's fault, not the archive's
                raise
            raise _corrupt_directory(name) from error
        return ZipArchive(file, infos)


class ZipArchive:
    """A ZIP whose directory was read."""

    def __init__(self, file: BinaryIO, infos: Sequence[zipfile.ZipInfo]) -> None:
        self._file = file
        self._infos = infos
        self.entries = tuple(_entry(index, info) for index, info in enumerate(infos))

    def read_through(self, file: BinaryIO) -> "ZipArchive":
        """The same archive through another opened file, for another thread: its directory is not read again."""
        other = ZipArchive(file, ())
        other._infos, other.entries = self._infos, self.entries
        return other

    def unpack(self, entry: ArchiveEntry) -> Iterator[bytes]:
        """The entry's real bytes, checked against what the directory claims; see the port."""
        info = self._infos[entry.index]
        label = shown(entry.name)
        size_bytes = checksum = 0
        for piece in self._decoded(info, label):
            size_bytes += len(piece)
            checksum = zlib.crc32(piece, checksum)
            if size_bytes > info.file_size:
                raise ArchiveSizeMismatchError(
                    f"Entry {label!r} unpacks to more than the {info.file_size:,} bytes it claims.",
                    claimed=info.file_size,
                )
            yield piece
        if size_bytes != info.file_size:
            raise ArchiveSizeMismatchError(
                f"Entry {label!r} unpacks to {size_bytes:,} bytes and claims {info.file_size:,}.",
                claimed=info.file_size,
                real=size_bytes,
            )
        if checksum != info.CRC:
            raise ArchiveCorruptError(f"Entry {label!r} does not match its checksum: the archive is damaged.")

    def _decoded(self, info: zipfile.ZipInfo, label: str) -> Iterator[bytes]:
        if info.flag_bits & _ENCRYPTED_FLAGS:
            raise ArchiveEncryptedError(f"Entry {label!r} is encrypted.")
        packed = self._packed(info, label)
        if info.flag_bits & _PATCHED_FLAG or info.compress_type not in {_STORED, _DEFLATED}:
            raise ArchiveUnsupportedCompressionError(
                f"Entry {label!r} is packed with method {info.compress_type}; stored and deflated are understood.",
                method=info.compress_type,
            )
        if not info.compress_size and not info.file_size:
            return iter(())  # some programs leave even the end mark of an empty file out
        return packed if info.compress_type == _STORED else _inflated(packed, label)

    def _packed(self, info: zipfile.ZipInfo, label: str) -> Iterator[bytes]:
        """The entry's bytes as they lie in the file."""
        position = self._data_offset(info, label)
        left = info.compress_size
        while left:
            # Sought every time: several entries may be read in turn from one file.
            self._file.seek(position)
            piece = self._file.read(min(PIECE_BYTES, left))
            if not piece:
                raise ArchiveCorruptError(f"Entry {label!r} goes on past the end of the archive: it is cut short.")
            position += len(piece)
            left -= len(piece)
            yield piece

    def _data_offset(self, info: zipfile.ZipInfo, label: str) -> int:
        if info.header_offset < 0:
            raise ArchiveCorruptError(f"Entry {label!r} lies before the archive's start.")
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER.size)
        if len(header) != _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise ArchiveCorruptError(f"Entry {label!r} is not where the archive's directory says.")
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        return info.header_offset + _LOCAL_HEADER.size + int(name_length) + int(extra_length)


def _inflated(packed: Iterator[bytes], label: str) -> Iterator[bytes]:
    """Deflated bytes unpacked, never more than a piece of them at a time."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in packed:
            waiting = piece
            while waiting and not inflater.eof:
                out = inflater.decompress(waiting, PIECE_BYTES)
                waiting = inflater.unconsumed_tail
                if out:
                    yield out
            if inflater.eof:
                return
        # The last input is in; what the inflater still holds comes out without any more of it.
        while out := inflater.decompress(b"", PIECE_BYTES):
            yield out
    except zlib.error as error:
        raise ArchiveCorruptError(f"Entry {label!r} cannot be unpacked: its bytes are damaged.") from error
    if not inflater.eof:
        raise ArchiveCorruptError(f"Entry {label!r} ends in the middle: the archive is cut short.")


def _entry(index: int, info: zipfile.ZipInfo) -> ArchiveEntry:
    name = _name(info)
    mode = stat.S_IFMT(info.external_attr >> 16)
    return ArchiveEntry(
        index=index,
        name=name,
        size_bytes=info.file_size,
        packed_bytes=info.compress_size,
        offset=info.header_offset,
        method=info.compress_type,
        # With bytes in it, it is a file whatever it says.
        is_directory=not info.file_size
        and (name.endswith("/") or mode == stat.S_IFDIR or bool(info.external_attr & _DOS_DIRECTORY)),
        is_encrypted=bool(info.flag_bits & _ENCRYPTED_FLAGS),
        is_symlink=mode == stat.S_IFLNK,
        is_special=mode not in _ORDINARY_KINDS,
    )


def _name(info: zipfile.ZipInfo) -> str:
    """The name as it was packed: without the flag it may still be UTF-8, as macOS and Linux tools write it."""
    name = info.orig_filename  # `filename` ends at the first NUL
    if info.flag_bits & _UTF8_FLAG:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _corrupt_directory(name: str) -> ArchiveCorruptError:
    return ArchiveCorruptError(
        f"The directory of archive {shown(name)!r} cannot be read: the file is cut short or damaged.",
        action="Test the archive with an ordinary ZIP program, pack it again and submit the new copy.",
    )


class _DirectoryGuard(io.RawIOBase):
    """The file as ``zipfile`` sees it while it reads the directory, which it takes into memory whole.

    A directory of a gigabyte, or of millions of entries, is refused where it would be read.
    """

    def __init__(self, file: BinaryIO, name: str, limits: ArchiveLimits) -> None:
        super().__init__()
        self._inner = file
        self._name = name
        self._limits = limits
        self._most_bytes = max(_MIN_DIRECTORY_BYTES, limits.entries * _DIRECTORY_BYTES_AN_ENTRY)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def read(self, size: int = -1) -> bytes:
        position = self._inner.tell()
        left = max(0, self._inner.seek(0, io.SEEK_END) - position)
        self._inner.seek(position)
        if min(left, size if size >= 0 else left) > self._most_bytes:
            raise self._refusal(self._limits.entries + 1)
        content = self._inner.read(size)
        # A read without a size looks for the end record and may see the inside of stored archives.
        count = content.count(_DIRECTORY_SIGNATURE) if size >= 0 else 0
        if count > self._limits.entries:
            raise self._refusal(count)
        return content

    def _refusal(self, count: int) -> ArchiveTooManyEntriesError:
        return ArchiveTooManyEntriesError(
            f"Archive {shown(self._name)!r} has {count:,} entries or more; "
            f"the limit is {self._limits.entries:,} (zip_entries).",
            count=count,
            limit=self._limits.entries,
        )

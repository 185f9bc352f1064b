"""Builders of ZIPs, honest and hostile. The hostile ones are real: every byte is what an attacker would send."""

import io
import random
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

STORED, DEFLATED, BZIP2, AES = 0, 8, 12, 99
ENCRYPTED_FLAG, UTF8_FLAG = 0x1, 0x800


@dataclass(frozen=True)
class RawEntry:
    """One entry, every field of which may lie."""

    name: bytes | str
    content: bytes = b"text"
    method: int = DEFLATED
    flags: int = UTF8_FLAG
    mode: int = stat.S_IFREG | 0o644
    claimed_size: int | None = None
    claimed_packed: int | None = None
    claimed_checksum: int | None = None

    @property
    def name_bytes(self) -> bytes:
        return self.name.encode() if isinstance(self.name, str) else self.name

    @property
    def packed(self) -> bytes:
        return deflated(self.content) if self.method == DEFLATED else self.content


def deflated(content: bytes) -> bytes:
    """A raw deflate stream."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def zip_of(files: Mapping[str, bytes], method: int = DEFLATED) -> bytes:
    """An honest archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            # A time of its own, so that the same files are always the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no method packs."""
    return random.Random(seed).randbytes(size)


def raw_zip(entries: Iterable[RawEntry]) -> bytes:
    """An archive of entries that may claim anything."""
    body, directory = bytearray(), bytearray()
    count = 0
    for entry in entries:
        offset = len(body)
        body += local_header(entry) + entry.packed
        directory += directory_line(entry, offset)
        count += 1
    return bytes(body + directory + end_record(count, len(directory), len(body)))


def local_header(entry: RawEntry) -> bytes:
    return struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, *_common(entry), len(entry.name_bytes), 0) + entry.name_bytes


def directory_line(entry: RawEntry, offset: int) -> bytes:
    unix = 3 << 8 | 20
    fields = struct.pack(
        "<4s6H3L5H2L",
        b"PK\x01\x02", unix, 20, *_common(entry), len(entry.name_bytes), 0, 0, 0, 0, entry.mode << 16, offset,
    )  # fmt: skip
    return fields + entry.name_bytes


def end_record(count: int, directory_bytes: int, directory_offset: int) -> bytes:
    shown_count = min(count, 0xFFFF)
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, shown_count, shown_count, directory_bytes, directory_offset, 0)


def _common(entry: RawEntry) -> tuple[int, ...]:
    checksum = zlib.crc32(entry.content) if entry.claimed_checksum is None else entry.claimed_checksum
    packed = len(entry.packed) if entry.claimed_packed is None else entry.claimed_packed
    size = len(entry.content) if entry.claimed_size is None else entry.claimed_size
    return entry.flags, entry.method, 0, 0x21, checksum, packed, size


def bomb(unpacked_bytes: int = 64 * 1024 * 1024) -> bytes:
    """One entry of zeros, packed about a thousand to one."""
    return zip_of({"zeros.txt": bytes(unpacked_bytes)})


def matryoshka_bomb(width: int = 8, zeros: int = 8 * 1024 * 1024) -> bytes:
    """The kind of 42.zip: an archive of archives of zeros, each harmless alone as far as its claims go."""
    inner = zip_of({"zeros.txt": bytes(zeros)})
    return zip_of({f"{number}.zip": inner for number in range(width)})


def overlapping_zip(count: int = 50, kernel_bytes: int = 1024 * 1024) -> bytes:
    """One packed kernel that every entry of the directory claims as its own."""
    entry = RawEntry("0.txt", bytes(kernel_bytes))
    body = local_header(entry) + entry.packed
    directory = b"".join(directory_line(RawEntry(f"{n}.txt", bytes(kernel_bytes)), 0) for n in range(count))
    return body + directory + end_record(count, len(directory), len(body))


def quoted_overlap_zip(count: int = 50, kernel_bytes: int = 256 * 1024) -> bytes:
    """Fifield's better bomb: each entry quotes the next one's header, then runs on into its bytes."""
    kernel = RawEntry(f"{count - 1}.txt", bytes(kernel_bytes))
    content, packed = kernel.content, kernel.packed
    file = local_header(kernel) + packed
    # From the last entry to the first, each begins with a stored block that holds the header after it.
    offsets_from_end = [len(file)]
    lines: list[RawEntry] = [kernel]
    for number in range(count - 2, -1, -1):
        header = file[: 30 + len(lines[-1].name_bytes)]
        quote = struct.pack("<BHH", 0, len(header), len(header) ^ 0xFFFF)
        content = header + content
        entry = RawEntry(f"{number}.txt", content, claimed_packed=len(quote) + len(file))
        file = local_header(entry) + quote + file
        offsets_from_end.append(len(file))
        lines.append(entry)
    directory = b"".join(
        directory_line(entry, len(file) - back) for entry, back in zip(lines, offsets_from_end, strict=True)
    )
    return file + directory + end_record(count, len(directory), len(file))


def nested_zip(depth: int, name: str = "heart.txt", content: bytes = b"found me") -> bytes:
    """A file inside ``depth`` archives."""
    packed = zip_of({name: content})
    for level in range(depth - 1, 0, -1):
        packed = zip_of({f"level-{level}.zip": packed})
    return packed


def streamed_zip(files: Mapping[str, bytes]) -> bytes:
    """Written to a pipe: sizes follow the bytes, in data descriptors."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            super().__init__()
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, piece: bytes) -> int:  # type: ignore[override]  # bytes are all that zipfile writes
            self.content += piece
            return len(piece)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return bytes(pipe.content)


def zip64_of(name: str, content: bytes) -> bytes:
    """A small file written as if it might pass four gigabytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as entry:
        entry.write(content)
    return out.getvalue()


def docx_like() -> bytes:
    """A ZIP that is a document: what tells it is its content types."""
    return zip_of({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w:document/>"})

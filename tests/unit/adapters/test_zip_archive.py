"""ZIPs are read without trust: what comes out is what was packed, or a typed error."""

import io
import stat
import tracemalloc

import pytest

from ingather.adapters.zip_archive import PIECE_BYTES, ZipArchive, ZipArchiveReader
from ingather.models.archive import ArchiveLimits
from ingather.models.errors import IngatherError
from tests.support import zips
from tests.support.zips import RawEntry, raw_zip


def opened(content: bytes, limits: ArchiveLimits | None = None) -> ZipArchive:
    return ZipArchiveReader().open(io.BytesIO(content), "x.zip", limits or ArchiveLimits())


def unpacked(archive: ZipArchive, index: int = 0) -> bytes:
    return b"".join(archive.unpack(archive.entries[index]))


def code_of_opening(content: bytes, limits: ArchiveLimits | None = None) -> str:
    with pytest.raises(IngatherError) as caught:
        opened(content, limits)
    return caught.value.code


def code_of_unpacking(content: bytes) -> str:
    archive = opened(content)
    with pytest.raises(IngatherError) as caught:
        unpacked(archive)
    return caught.value.code


FILES = {"a.txt": b"alpha", "empty.txt": b"", "noise.bin": bytes(range(256)) * 5_000, "ключ.txt": "текст".encode()}


@pytest.mark.parametrize(
    "content",
    [
        zips.zip_of(FILES),
        zips.zip_of(FILES, zips.STORED),
        zips.streamed_zip(FILES),
        b"MZ prefix of a self-extractor" + zips.zip_of(FILES),
    ],
    ids=["deflated", "stored", "streamed", "prefixed"],
)
def test_an_honest_archive_comes_out_as_it_went_in(content: bytes) -> None:
    """However it was written."""
    archive = opened(content)
    assert {entry.name: unpacked(archive, entry.index) for entry in archive.entries} == FILES


def test_a_zip64_archive_is_read() -> None:
    """Sizes may be in the extra field."""
    archive = opened(zips.zip64_of("big.txt", b"not that big"))
    assert unpacked(archive) == b"not that big"


def test_an_empty_archive_opens() -> None:
    """It has no entries."""
    assert opened(zips.zip_of({})).entries == ()


def test_an_entry_can_be_read_again_and_in_turn_with_others() -> None:
    """Reading keeps no position of its own in the file."""
    content = {"a": b"a" * PIECE_BYTES * 2, "b": b"b" * PIECE_BYTES * 2}
    archive = opened(zips.zip_of(content, zips.STORED))
    a, b = (archive.unpack(entry) for entry in archive.entries)
    taken = [next(a), next(b), next(a), next(b)]
    assert b"".join(taken[::2]) == content["a"]
    assert b"".join(taken[1::2]) == content["b"]
    assert unpacked(archive) == content["a"]


def test_pieces_are_small_whatever_the_ratio() -> None:
    """A bomb comes out in pieces of 256 KiB, so whoever counts can stop it."""
    archive = opened(zips.bomb(32 * 1024 * 1024))
    tracemalloc.start()
    total = longest = 0
    for piece in archive.unpack(archive.entries[0]):
        total += len(piece)
        longest = max(longest, len(piece))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 32 * 1024 * 1024
    assert longest <= PIECE_BYTES
    assert peak < 3 * 1024 * 1024


@pytest.mark.parametrize(
    "content",
    [
        zips.zip_of(FILES)[:-30],
        zips.zip_of(FILES)[:100],
        b"PK\x03\x04",
        b"PK\x03\x04" + b"\xff" * 200,
        b"PK\x05\x06" + b"\xff" * 18,
        zips.zip_of({"a": b"x"}).replace(b"PK\x01\x02", b"PK\x09\x09"),
        raw_zip([RawEntry(b"\xff\xfe.txt")]),
    ],
    ids=["cut end", "cut middle", "magic alone", "garbage", "mad end", "bad directory", "false utf-8"],
)
def test_a_directory_that_cannot_be_read_is_one_typed_error(content: bytes) -> None:
    """No vendor exception leaves the adapter."""
    assert code_of_opening(content) == "archive_corrupt"


def test_every_cut_and_every_flipped_byte_gives_a_typed_error_or_the_truth() -> None:
    """Fuzzed by hand: an archive that opens tells the truth or raises one of our errors."""
    honest = zips.zip_of({"a.txt": b"alpha" * 20, "b.txt": b"beta"})
    damaged = [honest[:length] for length in range(len(honest))]
    for position in range(len(honest)):
        flipped = (bytes([honest[position] ^ bit]) for bit in (0x01, 0x80))
        damaged += [honest[:position] + byte + honest[position + 1 :] for byte in flipped]
    for content in damaged:
        try:
            archive = opened(content)
        except IngatherError:
            continue
        for entry in archive.entries:
            try:
                text = b"".join(archive.unpack(entry))
            except IngatherError:
                continue
            assert text in {b"alpha" * 20, b"beta", b""}


def test_an_entry_larger_than_it_claims_is_stopped_at_its_claim() -> None:
    """`zipfile` would hand out a truncated text without a word."""
    lying = RawEntry("a.txt", bytes(10_000_000), claimed_size=100)
    assert code_of_unpacking(raw_zip([lying])) == "archive_size_mismatch"


def test_an_entry_smaller_than_it_claims_is_noticed() -> None:
    """At its end, by the count of real bytes."""
    assert code_of_unpacking(raw_zip([RawEntry("a.txt", b"abc", claimed_size=4)])) == "archive_size_mismatch"
    stored = RawEntry("a.txt", b"abc", zips.STORED, claimed_size=4)
    assert code_of_unpacking(raw_zip([stored])) == "archive_size_mismatch"


def test_damaged_bytes_are_noticed() -> None:
    """By the checksum, or by the inflater before it."""
    assert code_of_unpacking(raw_zip([RawEntry("a.txt", b"abc", claimed_checksum=1)])) == "archive_corrupt"
    broken = raw_zip([RawEntry("a.txt", b"abc")]).replace(zips.deflated(b"abc"), b"\xff" * 5)
    assert code_of_unpacking(broken) == "archive_corrupt"


def test_an_entry_that_ends_in_the_middle_is_noticed() -> None:
    """Its stream stops before its end mark, or the file does."""
    assert code_of_unpacking(raw_zip([RawEntry("a.txt", b"abc" * 99, claimed_packed=3)])) == "archive_corrupt"
    assert code_of_unpacking(raw_zip([RawEntry("a.txt", b"x", zips.STORED, claimed_packed=99)])) in {
        "archive_corrupt",
        "archive_size_mismatch",
    }


def test_an_entry_that_is_nowhere_is_noticed() -> None:
    """A directory that claims to lie far behind the file's end puts its entries before the start."""
    far = zips.zip_of({"a": b"x"})[:-22] + zips.end_record(1, 47, 2**31)
    assert code_of_unpacking(far) == "archive_corrupt"


@pytest.mark.parametrize("method", [zips.BZIP2, 14, 9, zips.AES])
def test_other_methods_are_named(method: int) -> None:
    """Decoders whose memory an attacker chooses are not even loaded."""
    assert code_of_unpacking(raw_zip([RawEntry("a", method=method)])) == "archive_unsupported_compression"


def test_encrypted_entries_are_told_apart() -> None:
    """By the flag, and they do not unpack."""
    content = raw_zip([RawEntry("a", flags=zips.ENCRYPTED_FLAG), RawEntry("b")])
    archive = opened(content)
    assert [entry.is_encrypted for entry in archive.entries] == [True, False]
    assert code_of_unpacking(content) == "archive_encrypted"


def test_kinds_of_entries_are_told_apart() -> None:
    """Links, folders, devices and plain files."""
    entries = opened(
        raw_zip(
            [
                RawEntry("link", b"/etc/passwd", mode=stat.S_IFLNK | 0o777),
                RawEntry("folder/", b"", mode=stat.S_IFDIR | 0o755),
                RawEntry("pipe", mode=stat.S_IFIFO | 0o644),
                RawEntry("file"),
                RawEntry("no-mode", mode=0),
                RawEntry("folder-with-bytes/", b"hidden"),
            ]
        )
    ).entries
    assert [entry.is_symlink for entry in entries] == [True, False, False, False, False, False]
    assert [entry.is_directory for entry in entries] == [False, True, False, False, False, False]
    assert [entry.is_special for entry in entries] == [False, False, True, False, False, False]


def test_names_come_as_they_were_packed() -> None:
    """NUL and backslash included; UTF-8 without its flag is recognised, other bytes read as the old code page."""
    entries = opened(
        raw_zip(
            [
                RawEntry("a\x00.exe"),
                RawEntry("b\\c.txt"),
                RawEntry("été.txt".encode(), flags=0),
                RawEntry(b"\x82.txt", flags=0),
            ]
        )
    ).entries
    assert [entry.name for entry in entries] == ["a\x00.exe", "b\\c.txt", "été.txt", "é.txt"]


def test_too_many_entries_are_refused_before_they_are_read() -> None:
    """By count, and by the sheer size of the directory, with flat memory."""
    many = raw_zip(RawEntry(f"{n}", b"", zips.STORED) for n in range(21))
    assert len(opened(many, ArchiveLimits(entries=21)).entries) == 21
    assert code_of_opening(many, ArchiveLimits(entries=20)) == "archive_too_many_entries"
    flood = raw_zip(RawEntry(f"{n:060d}", b"", zips.STORED) for n in range(30_000))
    tracemalloc.start()
    assert code_of_opening(flood, ArchiveLimits(entries=100)) == "archive_too_many_entries"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1024 * 1024


def test_entries_of_stored_archives_inside_are_not_counted() -> None:
    """An archive kept whole in another has a directory of its own."""
    inner = raw_zip(RawEntry(f"{n}", b"", zips.STORED) for n in range(50))
    assert len(opened(zips.zip_of({"inner.zip": inner}, zips.STORED), ArchiveLimits(entries=3)).entries) == 1

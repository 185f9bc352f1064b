"""What is decided about an archive from its directory and from counts of real bytes."""

import pytest

from ingather.domain.archives import (
    HARMLESS_BYTES,
    EntryJudge,
    UnpackMeter,
    claims_to_be_archive,
    is_archive,
    is_document,
    is_junk,
    metered,
    path_problem,
    wanted_entries,
)
from ingather.models.archive import ArchiveEntry, ArchiveLimits
from ingather.models.errors import (
    ArchiveEncryptedError,
    ArchiveOverlapError,
    ArchiveTooLargeError,
    ArchiveTooManyEntriesError,
    DocumentEmptyError,
    DocumentTooLargeError,
)
from tests.support.zips import zip_of

LIMITS = ArchiveLimits()


def entry(name: str = "a.txt", index: int = 0, **changes: object) -> ArchiveEntry:
    fields: dict[str, object] = {"size_bytes": 10, "packed_bytes": 10, "offset": index * 100} | changes
    return ArchiveEntry(index=index, name=name, **fields)  # type: ignore[arg-type]  # a builder for tests


def code_of(judged: ArchiveEntry, judge: EntryJudge | None = None) -> str | None:
    error = (judge or EntryJudge()).refusal(judged)
    return error.code if error else None


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"PK\x05\x06\0\0", b"PK\x07\x08"])
def test_an_archive_is_told_by_its_first_bytes(head: bytes) -> None:
    """The name plays no part."""
    assert is_archive(head)


@pytest.mark.parametrize("head", [b"", b"PK", b"%PDF-1.7", b"PK is a brand"])
def test_other_bytes_are_no_archive(head: bytes) -> None:
    """Text that begins with PK is text."""
    assert not is_archive(head)


@pytest.mark.parametrize(
    "names",
    [
        ["[Content_Types].xml", "word/document.xml"],
        ["mimetype", "content.xml"],
        ["META-INF/MANIFEST.MF", "A.class"],
        ["Index/Document.iwa"],
    ],
)
def test_a_zip_that_is_a_document_is_left_whole(names: list[str]) -> None:
    """Office, OpenDocument, EPUB, Java and iWork files are ZIPs, and one document each."""
    assert is_document(names)


def test_a_bag_of_files_is_no_document() -> None:
    """A member of such a name in a folder does not make the whole a document."""
    assert not is_document(["docs/mimetype", "a.docx", "taxonomy/META-INF/taxonomyPackage.xml"])


def test_a_broken_docx_stays_a_document() -> None:
    """A ZIP without a directory is an archive only when its name says so and its first member does not deny it."""
    plain = zip_of({"a.txt": b"x"})[:64]
    office = zip_of({"[Content_Types].xml": b"x"})[:64]
    assert claims_to_be_archive("A.ZIP", plain)
    assert not claims_to_be_archive("a.docx", plain)
    assert not claims_to_be_archive("a.zip", office)


@pytest.mark.parametrize("name", ["__MACOSX/._a.txt", "x/__MACOSX/a", ".DS_Store", "a/.DS_Store", "a/Thumbs.db"])
def test_what_systems_leave_behind_is_junk(name: str) -> None:
    """Nobody meant to submit it."""
    assert is_junk(name)


@pytest.mark.parametrize("name", ["__MACOSX", "a/Thumbs.db.txt", "DS_Store"])
def test_similar_names_are_not_junk(name: str) -> None:
    """Only the exact names are left out."""
    assert not is_junk(name)


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "..", "/etc/passwd", "\\\\host\\share", "a\\b", "C:/a", "c:a", "a/.."]
)
def test_paths_that_leave_their_folder_are_unsafe(name: str) -> None:
    """Slips, absolute paths, drives and backslashes have the same code and say which they are."""
    assert path_problem(name)
    assert code_of(entry(name)) == "archive_unsafe_path"


@pytest.mark.parametrize("name", ["a/b.txt", "a..b", "...", "./a.txt", "week 1: notes.txt"])
def test_honest_paths_pass(name: str) -> None:
    """Dots within a name harm nobody."""
    assert path_problem(name) is None
    assert code_of(entry(name)) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"is_symlink": True}, "archive_symlink"),
        ({"is_special": True}, "archive_refused"),
        ({"is_encrypted": True}, "archive_encrypted"),
        ({"method": 12}, "archive_unsupported_compression"),
    ],
)
def test_an_entry_that_is_no_plain_file_is_refused(changes: dict[str, object], code: str) -> None:
    """Each reason has its own code."""
    assert code_of(entry(**changes)) == code


def test_the_same_path_twice_is_refused_whatever_the_case() -> None:
    """The first stands; equal base names in different folders are no duplicates."""
    judge = EntryJudge()
    names = ["docs/A.txt", "docs/a.TXT", "./docs/a.txt", "other/a.txt", "Stra\u00dfe", "STRASSE", "e\u0301", "é"]
    codes = [code_of(entry(name), judge) for name in names]
    duplicate = "archive_duplicate_name"
    assert codes == [None, duplicate, duplicate, None, None, duplicate, None, duplicate]


def test_folders_and_junk_are_left_out() -> None:
    """What is left keeps the archive's order."""
    entries = [
        entry("docs/", 0, is_directory=True),
        entry("docs/b.txt", 1),
        entry("__MACOSX/._b.txt", 2),
        entry("a.txt", 3),
    ]
    assert [e.name for e in wanted_entries(entries, "x.zip", LIMITS)] == ["docs/b.txt", "a.txt"]


@pytest.mark.parametrize("entries", [[], [entry("d/", is_directory=True)], [entry(".DS_Store")]])
def test_an_archive_without_files_is_empty(entries: list[ArchiveEntry]) -> None:
    """Folders and junk alone are nothing to ingest."""
    with pytest.raises(DocumentEmptyError, match=r"'x\.zip' has no files"):
        wanted_entries(entries, "x.zip", LIMITS)


def test_too_many_entries_are_refused_with_count_and_limit() -> None:
    """Folders and junk count: they cost time too."""
    with pytest.raises(ArchiveTooManyEntriesError) as caught:
        wanted_entries([entry(f"{n}/", n, is_directory=True) for n in range(4)], "x.zip", ArchiveLimits(entries=3))
    assert caught.value.facts == {"count": 4, "limit": 3}


def test_an_archive_that_is_encrypted_throughout_is_refused_whole() -> None:
    """One message says it better than one for each file."""
    with pytest.raises(ArchiveEncryptedError):
        wanted_entries([entry("d/", 0, is_directory=True), entry("a", 1, is_encrypted=True)], "x.zip", LIMITS)
    assert len(wanted_entries([entry("a", 0, is_encrypted=True), entry("b", 1)], "x.zip", LIMITS)) == 2


def test_entries_laid_over_each_other_are_refused_whole() -> None:
    """Shared bytes are a bomb's way around every other count; the directory's order does not hide it."""
    overlapping = [entry("b", 0, offset=50, packed_bytes=100), entry("a", 1, offset=0, packed_bytes=60)]
    with pytest.raises(ArchiveOverlapError):
        wanted_entries(overlapping, "x.zip", LIMITS)
    neighbours = [entry("a", 0, offset=0, packed_bytes=20), entry("b", 1, offset=51, packed_bytes=20)]
    assert len(wanted_entries(neighbours, "x.zip", LIMITS)) == 2


def test_real_bytes_decide_what_is_a_bomb() -> None:
    """More than a hundred bytes for each packed one, once they are more than a mebibyte."""
    meter = UnpackMeter("x.zip", 20_000, LIMITS)
    meter.add_bytes(2_000_000)
    assert not meter.is_over
    with pytest.raises(ArchiveTooLargeError, match="zip_ratio"):
        meter.add_bytes(1)
    assert meter.is_over


def test_a_small_archive_is_never_a_bomb() -> None:
    """A page of blanks packs a thousand to one and harms nobody."""
    meter = UnpackMeter("x.zip", 100, LIMITS)
    meter.add_bytes(HARMLESS_BYTES)
    assert not meter.is_over


def test_unpacked_bytes_have_a_limit_of_their_own() -> None:
    """Even when they are packed honestly."""
    meter = UnpackMeter("x.zip", 10_000, ArchiveLimits(unpacked_bytes=15_000))
    with pytest.raises(ArchiveTooLargeError, match="zip_unpacked_bytes"):
        meter.add_bytes(15_001)


def test_an_inner_bomb_is_told_from_an_outer_one() -> None:
    """The inner archive is over, the outer is not, and the bytes count for both."""
    outer = UnpackMeter("outer.zip", 10_000_000, LIMITS)
    inner = UnpackMeter("inner.zip", 20_000, LIMITS, outer=outer)
    with pytest.raises(ArchiveTooLargeError, match=r"inner\.zip"):
        inner.add_bytes(3_000_000)
    assert (inner.is_over, outer.is_over, outer.unpacked_bytes) == (True, False, 3_000_000)
    assert (inner.depth, outer.depth) == (2, 1)


def test_entries_of_inner_archives_count_for_the_outer() -> None:
    """Twenty thousand archives of twenty thousand entries are no way around the limit."""
    outer = UnpackMeter("outer.zip", 1, ArchiveLimits(entries=10))
    outer.add_entries(4)
    UnpackMeter("a.zip", 1, outer.limits, outer=outer).add_entries(6)
    with pytest.raises(ArchiveTooManyEntriesError):
        UnpackMeter("b.zip", 1, outer.limits, outer=outer).add_entries(1)


def test_one_entry_has_the_limit_of_any_document() -> None:
    """It is refused alone, and not a byte over the limit goes on."""
    meter = UnpackMeter("x.zip", 1_000, ArchiveLimits(entry_bytes=25))
    taken = []
    with pytest.raises(DocumentTooLargeError, match="max_file_bytes"):
        taken.extend(metered([b"x" * 10] * 3, entry(), meter))
    assert not meter.is_over
    assert b"".join(metered([b"ab", b"c"], entry(), meter)) == b"abc"

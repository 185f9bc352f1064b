"""Archives become their files; whatever is wrong with them costs one document."""

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from ingather.models.archive import ArchiveLimits
from ingather.models.content import SMALL_UPLOAD_BYTES, UPLOAD_PACK_BYTES
from tests.support import zips
from tests.support.corpus import FILES, needs_corpus
from tests.support.submissions import Submission, expanded
from tests.support.zips import RawEntry, raw_zip, zip_of

# --- What is an archive ---


@pytest.mark.parametrize("name", ["x.docx", "x.zip", "x"])
async def test_a_zip_that_is_a_document_is_one_document(name: str) -> None:
    """Whatever it is called."""
    content = zips.docx_like()
    assert await expanded(content, name=name) == {name: content}


@pytest.mark.parametrize("name", ["x.zip", "x.pdf", "x"])
async def test_a_plain_zip_is_an_archive_whatever_it_is_called(name: str) -> None:
    """Content decides."""
    assert await expanded(zip_of({"a.txt": b"A"}), name=name) == {"a.txt": b"A"}


async def test_half_a_docx_is_left_to_its_parser() -> None:
    """It is a broken document, not a broken archive."""
    content = zips.docx_like()[:60]
    assert await expanded(content, name="x.docx") == {"x.docx": content}


async def test_a_document_inside_an_archive_stays_whole() -> None:
    """Large or small."""
    small, large = zips.docx_like(), zip_of({"mimetype": b"epub", "noise": zips.noise(2_000_000)}, zips.STORED)
    outcome = await expanded(zip_of({"a.docx": small, "b.epub": large}))
    assert outcome == {"a.docx": small, "b.epub": large}


# --- Bytes ---


async def test_small_entries_share_packs_and_large_ones_do_not() -> None:
    """As uploads do: packs of at most 4 MiB, an object for each larger file."""
    large = bytes(range(256)) * 5_000
    files = {f"{n}.bin": bytes([n]) * SMALL_UPLOAD_BYTES for n in range(10)} | {"large.bin": large, "empty.txt": b""}
    submission = Submission()
    await submission.add("x.zip", zip_of(files, zips.STORED))
    await submission.build()
    assert await submission.outcome() == files
    written = {key.rsplit("/", 1)[-1]: len(content) for key, content in submission.blobs.content().items()}
    assert written["zip-1-pack-00001"] == written["zip-1-pack-00002"] == UPLOAD_PACK_BYTES
    assert written["zip-1-pack-00003"] == 2 * SMALL_UPLOAD_BYTES
    assert written["zip-1-file-00001"] == len(large)


async def test_an_archive_of_empty_files_has_an_object_behind_every_document() -> None:
    """Zero bytes are for the parser to refuse, as with any upload."""
    assert await expanded(zip_of({"a.txt": b"", "b.txt": b""})) == {"a.txt": b"", "b.txt": b""}


def test_an_archive_over_eight_mebibytes_goes_through_the_disk(tmp_path: Path, monkeypatch: Any) -> None:
    """And leaves nothing in the temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files = {"a.bin": bytes(range(256)) * 40_000, "b.txt": b"B"}
    assert asyncio.run(expanded(zip_of(files, zips.STORED))) == files
    assert list(tmp_path.iterdir()) == []


# --- Hostile archives ---


async def test_a_bad_entry_fails_alone() -> None:
    """Each for its own reason, with advice; its neighbours are taken."""
    entries = [
        RawEntry("good.txt", b"good"),
        RawEntry("../slip.txt"),
        RawEntry("/etc/absolute.txt"),
        RawEntry("C:\\drive.txt"),
        RawEntry("link.txt", b"/etc/passwd", mode=stat.S_IFLNK | 0o777),
        RawEntry("GOOD.txt", b"again"),
        RawEntry("secret.txt", flags=zips.ENCRYPTED_FLAG),
        RawEntry("bzip2.txt", method=zips.BZIP2),
        RawEntry("more.txt", b"abc", claimed_size=2),
        RawEntry("less.txt", b"abc", claimed_size=4),
        RawEntry("damaged.txt", b"abc", claimed_checksum=1),
        RawEntry("__MACOSX/._good.txt"),
        RawEntry("nul\x00byte.txt", b"nul"),
        RawEntry("last.txt", b"last"),
    ]
    submission = Submission()
    await submission.add("x.zip", raw_zip(entries))
    await submission.build()
    assert await submission.outcome() == {
        "good.txt": b"good",
        "slip.txt": "archive_unsafe_path",
        "absolute.txt": "archive_unsafe_path",
        "drive.txt": "archive_unsafe_path",
        "link.txt": "archive_symlink",
        "GOOD (2).txt": "archive_duplicate_name",
        "secret.txt": "archive_encrypted",
        "bzip2.txt": "archive_unsupported_compression",
        "more.txt": "archive_size_mismatch",
        "less.txt": "archive_size_mismatch",
        "damaged.txt": "archive_corrupt",
        "nulbyte.txt": b"nul",
        "last.txt": b"last",
    }
    for ref in submission.refs():
        assert ref.refused is None or (ref.refused.action and ref.refused.stage == "expanding" and ref.blob is None)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (zips.bomb(), "archive_too_large"),
        (zips.overlapping_zip(), "archive_overlap"),
        (zips.quoted_overlap_zip(), "archive_overlap"),
        (raw_zip([RawEntry("a", flags=1), RawEntry("b", flags=1)]), "archive_encrypted"),
        (zip_of({"a.txt": b"a" * 100})[:-5], "archive_corrupt"),
        (zip_of({}), "empty"),
        (zip_of({"docs/": b"", "__MACOSX/._x": b"x"}), "empty"),
    ],
    ids=["bomb", "overlap", "quoted overlap", "encrypted", "cut short", "empty", "junk only"],
)
async def test_a_bad_archive_is_one_failed_document(content: bytes, code: str) -> None:
    """And nothing of it is left in the store."""
    submission = Submission()
    await submission.add("bad.zip", content)
    await submission.add("good.txt", b"good")
    answer = await submission.build()
    assert await submission.outcome() == {"bad.zip": code, "good.txt": b"good"}
    assert not [key for key in submission.blobs.content() if "/zip-" in key]
    assert answer.sources[0].name == "bad.zip"


async def test_too_many_entries_cost_one_document() -> None:
    """The limit is named, and the archive's own name stays."""
    outcome = await expanded(zip_of({f"{n}": b"" for n in range(30)}), ArchiveLimits(entries=29))
    assert outcome == {"x.zip": "archive_too_many_entries"}


@pytest.mark.parametrize(
    "limited",
    [
        {"limits": ArchiveLimits(entry_bytes=2_000_000)},
        {"limits": ArchiveLimits(), "max_file_bytes": 2_000_000},
    ],
    ids=["deployment", "batch"],
)
async def test_an_entry_over_the_limit_of_a_file_fails_alone(limited: dict[str, Any]) -> None:
    """The rest of the archive goes on, and no part of the large one is stored; a batch's own limit comes first."""
    submission = Submission(**limited)
    await submission.add("x.zip", zip_of({"a.bin": bytes(range(256)) * 10_000, "b.txt": b"B"}, zips.STORED))
    await submission.build()
    assert await submission.outcome() == {"a.bin": "too_large", "b.txt": b"B"}
    assert not [key for key in submission.blobs.content() if "file-00001" in key]


async def test_unpacked_bytes_of_all_entries_together_are_limited() -> None:
    """A flood of honest files is stopped as well, and taken back."""
    limits = ArchiveLimits(unpacked_bytes=5_000_000)
    submission = Submission(limits=limits)
    await submission.add("x.zip", zip_of({f"{n}": bytes(range(256)) * 8_000 for n in range(4)}, zips.STORED))
    await submission.build()
    assert await submission.outcome() == {"x.zip": "archive_too_large"}
    assert not [key for key in submission.blobs.content() if "/zip-" in key]


async def test_archives_in_archives_are_expanded_to_the_depth_allowed() -> None:
    """Deeper ones fail with their name and the limit."""
    assert await expanded(zips.nested_zip(1)) == {"heart.txt": b"found me"}
    assert await expanded(zips.nested_zip(2)) == {"heart.txt": b"found me"}
    assert await expanded(zips.nested_zip(3)) == {"level-2.zip": "archive_too_deep"}
    assert await expanded(zips.nested_zip(5), ArchiveLimits(depth=5)) == {"heart.txt": b"found me"}
    assert await expanded(zips.nested_zip(2), ArchiveLimits(depth=1)) == {"level-1.zip": "archive_too_deep"}


async def test_an_inner_archive_that_is_bad_fails_alone() -> None:
    """The outer one's other files go on."""
    noise = bytes(range(256)) * 4_000
    files = {
        "noise.bin": noise,
        "bomb.zip": zips.bomb(8 * 1024 * 1024),
        "cut.zip": zip_of({"a": b"a"})[:-5],
        "overlap.zip": zips.overlapping_zip(5),
        "last.txt": b"last",
    }
    assert await expanded(zip_of(files, zips.STORED)) == {
        "noise.bin": noise,
        "bomb.zip": "archive_too_large",
        "cut.zip": "archive_corrupt",
        "overlap.zip": "archive_overlap",
        "last.txt": b"last",
    }


async def test_a_bomb_of_archives_is_stopped_as_one() -> None:
    """Each inner archive is counted against the outer one's size."""
    assert await expanded(zips.matryoshka_bomb()) == {"x.zip": "archive_too_large"}


async def test_a_batch_goes_on_beside_every_kind_of_bad_archive() -> None:
    """Names of a kilobyte in messages stay short enough to keep."""
    submission = Submission()
    await submission.add("a" * 9_000 + ".zip", zips.bomb())
    await submission.add("x.zip", raw_zip([RawEntry("n" * 60_000, flags=1), RawEntry("b" * 60_000, b"b")]))
    answer = await submission.build()
    assert answer.document_count == 3
    messages = [ref.refused.message for ref in submission.refs() if ref.refused]
    assert len(messages) == 2
    assert all(len(message) < 400 for message in messages)


# --- Real archives ---


@needs_corpus
@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("uns__simple.zip", [None, None]),
        ("tika__droste.zip", [None, None, "archive_too_deep"]),
        ("tika__gbk.zip", [None]),
        ("tika__test-zip-of-zip.zip", [None]),
        ("tika__testZIP_corrupted_oom.zip", ["archive_corrupt"]),
        ("tika__testZipEncrypted.zip", [None, "archive_encrypted"]),
    ],
)
async def test_archives_from_the_wild_come_to_the_end_they_must(name: str, codes: list[str | None]) -> None:
    """Simple, self-containing, oddly named, nested, corrupt and half encrypted ones."""
    submission = Submission()
    await submission.add(name, (FILES / name).read_bytes())
    await submission.build()
    assert [ref.refused.code if ref.refused else None for ref in submission.refs()] == codes

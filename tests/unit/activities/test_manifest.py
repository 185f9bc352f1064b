"""The manifest: archives unpacked without trust, names made unique, the same after any crash."""

import asyncio
import hashlib
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.manifest import ManifestActivities, ManifestReader
from activities.packing import PACK_BYTES, SMALL_BYTES
from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.adapters.zip_archive import ZipArchiveReader
from ingather.domain.keys import manifest_key, submission_key, upload_key
from ingather.domain.manifest_pages import decode_page
from ingather.models.archive import ArchiveLimits
from ingather.models.batch import BatchRecord, BatchSpec, BatchState, Counts
from ingather.models.content import BlobRef
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentRef, DocumentStatus, Submitted
from ingather.models.errors import BlobNotFoundError, StorageUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.messages import BuildManifestInput, BuildManifestOutput, ReadManifestInput
from tests.support import zips
from tests.support.zips import RawEntry, raw_zip, zip_of

TENANT = DEFAULT_TENANT_ID
BATCH = "0192f0c1-2345-7abc-8def-0123456789ab"
CORPUS = Path(__file__).parents[4] / "shared" / "corpus" / "files"


class CountingBlobStore(InMemoryBlobStore):
    """Counts reads, and fails at the write it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.writes = 0
        self.fail_at: int | None = None

    def _write(self) -> None:
        self.writes += 1
        if self.writes == self.fail_at:
            raise StorageUnavailableError("pulled the plug")

    async def put(self, key: str, content: bytes) -> None:
        self._write()
        await super().put(key, content)

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> BlobRef:
        self._write()
        return await super().put_stream(key, parts)

    async def delete(self, key: str) -> None:
        self._write()
        await super().delete(key)

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        self.reads.append(key)
        return await super().get(key, offset=offset, size=size)

    def content(self) -> dict[str, bytes]:
        return dict(self._objects)


class FailingCatalog(InMemoryCatalog):
    """Fails at the block of rows it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = 0
        self.fail_at: int | None = None

    async def add_documents(self, records: Sequence[DocumentRecord]) -> None:
        self.blocks += 1
        if self.blocks == self.fail_at:
            raise StorageUnavailableError("pulled the plug")
        await super().add_documents(records)


@dataclass
class Submission:
    """A batch as the API leaves it: bytes in the store, one line for each thing handed in."""

    blobs: CountingBlobStore = field(default_factory=CountingBlobStore)
    catalog: FailingCatalog = field(default_factory=FailingCatalog)
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    lines: list[Submitted] = field(default_factory=list)

    async def add(self, filename: str, content: bytes, **metadata: Any) -> None:
        key = upload_key(TENANT, BATCH, f"file-{len(self.lines):05d}")
        await InMemoryBlobStore.put(self.blobs, key, content)
        blob = BlobRef(key=key, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        self.lines.append(Submitted(filename=filename, blob=blob, metadata=metadata))

    async def prepare(self) -> None:
        text = "".join(line.model_dump_json() + "\n" for line in self.lines)
        await InMemoryBlobStore.put(self.blobs, submission_key(TENANT, BATCH), text.encode())
        spec = BatchSpec(batch_id=BATCH, tenant_id=TENANT, name="b", submitted_count=len(self.lines))
        await self.catalog.add_batch(
            BatchRecord(
                batch_id=BATCH, tenant_id=TENANT, spec=spec, state=BatchState.PENDING, counts=Counts(), name="b",
                created_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
        )  # fmt: skip

    async def build(self, max_documents: int = 1_000) -> BuildManifestOutput:
        await self.prepare()
        return await self.run(max_documents)

    async def run(self, max_documents: int = 1_000) -> BuildManifestOutput:
        activities = ManifestActivities(self.blobs, self.catalog, ZipArchiveReader(), self.limits)
        request = BuildManifestInput(
            tenant_id=TENANT, batch_id=BATCH, collection="default", max_documents=max_documents
        )
        return await ActivityEnvironment().run(activities.build_manifest, request)

    def refs(self) -> list[DocumentRef]:
        return decode_page(self.blobs.content().get(manifest_key(TENANT, BATCH, 0), b""))

    async def bytes_of(self, ref: DocumentRef) -> bytes:
        assert ref.blob is not None
        content = await InMemoryBlobStore.get(
            self.blobs, ref.blob.key, offset=ref.blob.offset, size=ref.blob.size_bytes
        )
        assert hashlib.sha256(content).hexdigest() == ref.blob.sha256
        return content

    async def rows(self) -> list[DocumentRecord]:
        return [record async for record in self.catalog.iterate_documents(BATCH)]

    async def outcome(self) -> dict[str, str | bytes]:
        """What every document became: its bytes, or the code it was refused with."""
        return {ref.filename: ref.refused.code if ref.refused else await self.bytes_of(ref) for ref in self.refs()}


async def expanded(content: bytes, limits: ArchiveLimits | None = None, name: str = "x.zip") -> dict[str, str | bytes]:
    """What one archive, alone in its batch, becomes."""
    submission = Submission(limits=limits or ArchiveLimits())
    await submission.add(name, content)
    await submission.build()
    return await submission.outcome()


# --- Order, names, sources ------------------------------------------------------------------


async def test_documents_keep_the_order_they_were_handed_in() -> None:
    """An archive's entries stand at the archive's place, in the archive's order."""
    submission = Submission()
    await submission.add("a.txt", b"A", lang="en")
    await submission.add("b.zip", zip_of({"z.txt": b"Z", "docs/": b"", "docs/y.txt": b"Y"}), lang="de")
    await submission.add("c.txt", b"C")
    answer = await submission.build()
    refs = submission.refs()
    assert [(r.ordinal, r.filename, r.original_filename, r.metadata) for r in refs] == [
        (0, "a.txt", None, {"lang": "en"}),
        (1, "z.txt", None, {"lang": "de"}),
        (2, "y.txt", "docs/y.txt", {"lang": "de"}),
        (3, "c.txt", None, {}),
    ]
    assert [await submission.bytes_of(ref) for ref in refs] == [b"A", b"Z", b"Y", b"C"]
    assert (answer.document_count, answer.page_count) == (4, 1)
    assert [(s.name, s.source_type, s.first_ordinal, s.document_count) for s in answer.sources] == [
        ("upload", "upload", 0, 1),
        ("b.zip", "zip", 1, 2),
        ("upload", "upload", 3, 1),
    ]


async def test_names_are_made_unique_across_archives() -> None:
    """The client's own names are kept beside them."""
    submission = Submission()
    for name in ["../a.txt", "A.txt", "", "bad\n.txt"]:
        await submission.add(name, b"x")
    await submission.add("x.zip", zip_of({"one/a.txt": b"1", "two/a.txt": b"2"}))
    await submission.build()
    assert [(r.filename, r.original_filename) for r in submission.refs()] == [
        ("a.txt", "../a.txt"),
        ("A (2).txt", "A.txt"),
        ("document-0000002", ""),
        ("bad .txt", "bad\n.txt"),
        ("a (3).txt", "one/a.txt"),
        ("a (4).txt", "two/a.txt"),
    ]


async def test_every_document_has_a_pending_row() -> None:
    """The catalog knows each by the id that follows from batch and ordinal."""
    submission = Submission()
    await submission.add("a.txt", b"A", n=1)
    await submission.add("x.zip", raw_zip([RawEntry("b.txt", b"B"), RawEntry("../c.txt")]))
    await submission.build()
    rows = await submission.rows()
    assert [row.file_id for row in rows] == [file_id_for(BATCH, ordinal) for ordinal in range(3)]
    assert {row.status for row in rows} == {DocumentStatus.PENDING}
    assert [(row.filename, row.size_bytes, row.metadata) for row in rows] == [
        ("a.txt", 1, {"n": 1}),
        ("b.txt", 1, {}),
        ("c.txt", None, {}),
    ]


async def test_what_was_refused_at_the_door_goes_on_as_refused() -> None:
    """Broken base64 has no bytes, and a place in the manifest all the same."""
    submission = Submission()
    failure = DocumentFailure(code="content_invalid", message="not base64")
    submission.lines.append(Submitted(filename="a.txt", refused=failure))
    await submission.build()
    assert submission.refs() == [DocumentRef(ordinal=0, filename="a.txt", refused=failure)]


async def test_a_submission_of_many_megabytes_is_read_line_by_line() -> None:
    """Lines that cross the windows it is read in come out whole."""
    submission = Submission()
    for number in range(100):
        submission.lines.append(
            Submitted(
                filename=f"{number}.txt",
                metadata={"text": "é" * 20_000},
                refused=DocumentFailure(code="content_invalid", message="x"),
            )
        )
    answer = await submission.build()
    assert answer.document_count == 100
    assert [ref.metadata for ref in submission.refs()] == [line.metadata for line in submission.lines]


async def test_a_missing_submission_is_not_tried_again() -> None:
    """Waiting does not bring it back."""
    with pytest.raises(ApplicationError) as caught:
        await Submission().run()
    assert (caught.value.type, caught.value.non_retryable) == ("blob_not_found", True)


async def test_an_empty_submission_makes_an_empty_manifest() -> None:
    """No pages, no rows; what that means is for the workflow to say."""
    assert await Submission().build() == BuildManifestOutput(document_count=0, page_count=0)


async def test_a_page_is_answered_as_file_names() -> None:
    """The Temporal UI shows names; the references stay in storage."""
    submission = Submission()
    await submission.add("a.txt", b"x")
    await submission.add("b.txt", b"x")
    await submission.build()
    activities = ManifestActivities(submission.blobs, submission.catalog, ZipArchiveReader(), submission.limits)
    page = await ActivityEnvironment().run(
        activities.read_manifest_page, ReadManifestInput(tenant_id=TENANT, batch_id=BATCH, page=0)
    )
    assert (page.first_ordinal, page.filenames) == (0, ("a.txt", "b.txt"))


async def test_small_files_of_one_pack_are_looked_at_in_one_read() -> None:
    """Five hundred texts cost the store one read, not five hundred."""
    submission = Submission()
    pack, key = b"", upload_key(TENANT, BATCH, "pack-00001")
    for number in range(500):
        content = f"text {number}".encode()
        blob = BlobRef(key=key, offset=len(pack), size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        submission.lines.append(Submitted(filename=f"{number}.txt", blob=blob))
        pack += content
    await InMemoryBlobStore.put(submission.blobs, key, pack)
    answer = await submission.build()
    assert answer.document_count == 500
    assert submission.blobs.reads.count(key) == 1


async def test_an_archive_in_a_pack_is_found() -> None:
    """Small archives share an object with their neighbours, as any small upload does."""
    submission = Submission()
    archive, key = zip_of({"a.txt": b"A"}), upload_key(TENANT, BATCH, "pack-00001")
    await InMemoryBlobStore.put(submission.blobs, key, b"neighbour" + archive + b"neighbour")
    sha256 = hashlib.sha256(archive).hexdigest()
    blob = BlobRef(key=key, offset=9, size_bytes=len(archive), sha256=sha256)
    submission.lines.append(Submitted(filename="x.zip", blob=blob))
    await submission.build()
    assert await submission.outcome() == {"a.txt": b"A"}


# --- Too many -------------------------------------------------------------------------------


async def test_a_batch_over_its_limit_is_refused_by_count_and_limit() -> None:
    """Before anything is unpacked, written or inserted; Temporal does not try again."""
    submission = Submission()
    await submission.add("a.txt", b"x")
    await submission.add("x.zip", zip_of({f"{n}.txt": b"x" for n in range(10)}))
    await submission.add("b.txt", b"x")
    await submission.prepare()
    with pytest.raises(ApplicationError, match=r"12 documents; the limit is 11") as caught:
        await submission.run(max_documents=11)
    assert caught.value.type == "batch_too_large"
    assert caught.value.non_retryable
    assert caught.value.details[0]["count"] == 12
    assert caught.value.details[0]["limit"] == 11
    assert submission.blobs.writes == 0
    assert await submission.rows() == []
    assert (await submission.run(max_documents=12)).document_count == 12


async def test_an_archive_that_is_refused_counts_as_one_document() -> None:
    """A bomb of many entries does not make a batch too large."""
    submission = Submission(limits=ArchiveLimits(ratio=10))
    await submission.add("x.zip", zip_of({f"{n}.txt": bytes(2_000_000) for n in range(5)}))
    await submission.add("y.txt", b"x")
    assert (await submission.build(max_documents=6)).document_count == 2
    assert list((await submission.outcome()).values()) == ["archive_too_large", b"x"]


async def test_a_thousand_documents_fit_and_fill_one_page() -> None:
    """The limit itself is allowed."""
    submission = Submission()
    await submission.add("x.zip", zip_of({f"{n}.txt": b"x" for n in range(1_000)}))
    answer = await submission.build()
    assert (answer.document_count, answer.page_count) == (1_000, 1)
    assert len(await submission.rows()) == 1_000


async def test_larger_batches_fill_more_pages() -> None:
    """The manifest has no limit of its own."""
    submission = Submission()
    await submission.add("x.zip", zip_of({f"{n}.txt": b"x" for n in range(2_500)}))
    answer = await submission.build(max_documents=10_000)
    assert (answer.document_count, answer.page_count) == (2_500, 3)
    reader = ManifestReader(submission.blobs)
    assert [(await reader.document(TENANT, BATCH, n)).filename for n in (0, 999, 1_000, 2_499)] == [
        "0.txt", "999.txt", "1000.txt", "2499.txt",
    ]  # fmt: skip


# --- What is an archive ---------------------------------------------------------------------


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


# --- Bytes ----------------------------------------------------------------------------------


async def test_small_entries_share_packs_and_large_ones_do_not() -> None:
    """As uploads do: packs of at most 8 MiB, an object for each larger file."""
    large = bytes(range(256)) * 5_000
    files = {f"{n}.bin": bytes([n]) * SMALL_BYTES for n in range(10)} | {"large.bin": large, "empty.txt": b""}
    submission = Submission()
    await submission.add("x.zip", zip_of(files, zips.STORED))
    await submission.build()
    assert await submission.outcome() == files
    written = {key.rsplit("/", 1)[-1]: len(content) for key, content in submission.blobs.content().items()}
    assert written["zip-1-pack-00001"] == PACK_BYTES
    assert written["zip-1-pack-00002"] == 2 * SMALL_BYTES
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


# --- Hostile archives -----------------------------------------------------------------------


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


async def test_an_entry_over_the_limit_of_a_file_fails_alone() -> None:
    """The rest of the archive goes on, and no part of the large one is stored."""
    submission = Submission(limits=ArchiveLimits(entry_bytes=2_000_000))
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


# --- Crashes --------------------------------------------------------------------------------


async def mixed_submission() -> Submission:
    submission = Submission(limits=ArchiveLimits(entry_bytes=2_000_000))
    await submission.add("a.txt", b"A")
    files = {f"{n}.bin": bytes([n]) * SMALL_BYTES for n in range(9)}
    files |= {"large.bin": bytes(range(256)) * 6_000, "over.bin": bytes(range(256)) * 9_000}
    await submission.add("first.zip", zip_of(files, zips.STORED))
    bomb = {"1.bin": bytes(range(256)) * 4_500, "2.txt": b"2", "zeros.bin": bytes(1_900_000)}
    await submission.add("bomb.zip", zip_of(bomb | {f"z{n}": bytes(1_900_000) for n in range(3)}))
    await submission.add("third.zip", zip_of({"b.txt": b"B", "inner.zip": zip_of({"c.txt": b"C"})}))
    return submission


async def test_a_crash_at_any_write_leaves_the_same_manifest_after_the_next_run() -> None:
    """Same objects, same bytes, same ordinals, same rows, nothing besides."""
    clean = await mixed_submission()
    expected = await clean.build()
    assert expected.document_count == 15
    assert clean.blobs.writes >= 8
    for fail_at in range(1, clean.blobs.writes + 1):
        crashed = await mixed_submission()
        await crashed.prepare()
        crashed.blobs.fail_at = fail_at
        with pytest.raises(ApplicationError) as caught:
            await crashed.run()
        assert not caught.value.non_retryable
        assert await crashed.run() == expected
        assert crashed.blobs.content() == clean.blobs.content()
        assert await crashed.rows() == await clean.rows()


async def test_a_crash_between_rows_leaves_each_row_once() -> None:
    """Rows already there stay as they are."""
    clean = Submission()
    await clean.add("x.zip", zip_of({f"{n}.txt": b"x" for n in range(700)}))
    await clean.build()
    for fail_at in range(1, clean.catalog.blocks + 1):
        crashed = Submission()
        await crashed.add("x.zip", zip_of({f"{n}.txt": b"x" for n in range(700)}))
        await crashed.prepare()
        crashed.catalog.fail_at = fail_at
        with pytest.raises(ApplicationError):
            await crashed.run()
        await crashed.run()
        assert await crashed.rows() == await clean.rows()


async def test_a_second_run_changes_nothing() -> None:
    """Two attempts that overlap write the same."""
    submission = await mixed_submission()
    first = await submission.build()
    before = submission.blobs.content()
    assert await submission.run() == first
    assert submission.blobs.content() == before


async def test_a_cancelled_build_stops_at_once() -> None:
    """In the middle of an archive of a quarter of a gigabyte unpacked."""
    submission = Submission(limits=ArchiveLimits(ratio=10_000, entry_bytes=10**9))
    await submission.add("x.zip", zips.bomb(256 * 1024 * 1024))
    await submission.prepare()
    task = asyncio.create_task(submission.run())
    await asyncio.sleep(0.1)
    task.cancel()
    begun = asyncio.get_running_loop().time()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() - begun < 0.5
    assert not [key for key in submission.blobs.content() if "/zip-" in key]


# --- Reading one document -------------------------------------------------------------------


async def test_a_page_is_read_once_however_many_ask() -> None:
    """At the same time, and afterwards."""
    submission = Submission()
    for number in range(50):
        await submission.add(f"{number}.txt", b"x")
    await submission.build()
    submission.blobs.reads.clear()
    reader = ManifestReader(submission.blobs)
    refs = await asyncio.gather(*(reader.document(TENANT, BATCH, ordinal) for ordinal in range(50)))
    assert [ref.ordinal for ref in refs] == list(range(50))
    await reader.document(TENANT, BATCH, 7)
    assert len(submission.blobs.reads) == 1


async def test_pages_are_let_go_when_there_is_no_room() -> None:
    """The least recently used first; the one asked for always stays."""
    submission = Submission()
    await submission.add("x.zip", zip_of({f"{n}.txt": b"x" for n in range(2_500)}))
    await submission.build(max_documents=10_000)
    reader = ManifestReader(submission.blobs, cache_bytes=1)
    submission.blobs.reads.clear()
    for ordinal in (0, 1, 1_000, 0):
        await reader.document(TENANT, BATCH, ordinal)
    assert len(submission.blobs.reads) == 3


async def test_a_failed_read_is_not_remembered() -> None:
    """The next to ask reads again."""
    reader = ManifestReader(blobs := CountingBlobStore())
    with pytest.raises(BlobNotFoundError):
        await reader.document(TENANT, BATCH, 0)
    submission = Submission(blobs=blobs)
    await submission.add("a.txt", b"x")
    await submission.build()
    assert (await reader.document(TENANT, BATCH, 0)).filename == "a.txt"
    with pytest.raises(BlobNotFoundError, match="no document 7"):
        await reader.document(TENANT, BATCH, 7)


async def test_a_reader_that_gives_up_takes_nobody_with_it() -> None:
    """The read goes on for the others."""
    submission = Submission()
    await submission.add("a.txt", b"x")
    await submission.build()
    reader = ManifestReader(submission.blobs)
    first = asyncio.create_task(reader.document(TENANT, BATCH, 0))
    second = asyncio.create_task(reader.document(TENANT, BATCH, 0))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).filename == "a.txt"


# --- Real archives --------------------------------------------------------------------------


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the shared corpus is not beside this checkout")
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
    await submission.add(name, (CORPUS / name).read_bytes())
    await submission.build()
    assert [ref.refused.code if ref.refused else None for ref in submission.refs()] == codes

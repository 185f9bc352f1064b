"""The manifest: documents in order, names of their own, the same after any crash."""

import asyncio
import hashlib
from datetime import UTC, datetime

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.manifest import ManifestActivities, ManifestReader
from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.adapters.zip_archive import ZipArchiveReader
from ingather.domain.bitmap import encode_bitmap
from ingather.domain.keys import submission_part_key, upload_key
from ingather.models.archive import ArchiveLimits
from ingather.models.batch import SubmissionPart
from ingather.models.content import SMALL_UPLOAD_BYTES, BlobRef
from ingather.models.document import DocumentFailure, DocumentRef, DocumentStatus, Submitted
from ingather.models.engine import LARGE_BYTES, MOST_LARGE_BYTES, PACKABLE_BYTES
from ingather.models.identity import file_id_for
from ingather.models.messages import BuildManifestOutput, ReadManifestInput, ReadManifestOutput
from ingather.models.source import SourceRef, SourceType
from ingather.ports.audit import AuditFilter
from tests.support import zips
from tests.support.submissions import BATCH, TENANT, Submission
from tests.support.zips import RawEntry, raw_zip, zip_of

# --- Order, names, sources ---


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


@pytest.mark.parametrize("hold", [False, True])
async def test_that_a_batch_was_taken_up_is_on_record(hold: bool) -> None:
    """Once, by the system; where somebody holds it, that is for whoever starts it to say."""
    submission = Submission(hold=hold)
    await submission.add("a.txt", b"A")
    await submission.build()
    await submission.run()
    events = await submission.catalog.audit.list_events(AuditFilter(TENANT), 10)
    told = [(event.event_type, event.resource_id, event.actor, event.details) for event in events]
    assert told == ([] if hold else [("BATCH_STARTED", BATCH, "system", {"document_count": 1})])


async def test_what_was_refused_at_the_door_goes_on_as_refused() -> None:
    """Broken base64 has no bytes, and a place in the manifest all the same."""
    submission = Submission()
    failure = DocumentFailure(code="content_invalid", message="not base64")
    submission.lines.append(Submitted(filename="a.txt", refused=failure))
    await submission.build()
    assert submission.refs() == [DocumentRef(ordinal=0, filename="a.txt", refused=failure)]


async def test_files_of_sources_go_on_without_bytes() -> None:
    """Nothing is asked of a source yet; they share no activity, and each selection's progress is told."""
    submission = Submission()
    await submission.add("a.txt", b"A")
    refs = [
        SourceRef(connection_id="shelf", source_type=SourceType.LOCAL_DIRECTORY, file_id=f"{name}/b.txt")
        for name in ("one", "two")
    ]
    submission.lines += [Submitted(filename="b.txt", source=ref) for ref in refs]
    answer = await submission.build()
    assert submission.refs()[1:] == [
        DocumentRef(ordinal=1, filename="b.txt", source=refs[0]),
        DocumentRef(ordinal=2, filename="b (2).txt", original_filename="b.txt", source=refs[1]),
    ]
    assert [(s.connection_id, s.source_type, s.document_count) for s in answer.sources] == [
        (None, "upload", 1),
        ("shelf", "local_directory", 2),
    ]


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


async def test_a_workflow_hears_names_and_which_documents_are_small() -> None:
    """The Temporal UI shows names; small documents may share an activity; the references stay in storage."""
    submission = Submission()
    for name, content in {"a.txt": b"x", "b.txt": bytes(PACKABLE_BYTES + 1), "c.txt": bytes(PACKABLE_BYTES)}.items():
        await submission.add(name, content)
    submission.lines.append(
        Submitted(filename="d.txt", refused=DocumentFailure(code="content_invalid", message="not base64"))
    )
    await submission.build()
    activities = ManifestActivities(submission.blobs, submission.catalog, ZipArchiveReader(), submission.limits)

    async def read(*ordinals: int) -> ReadManifestOutput:
        request = ReadManifestInput(tenant_id=TENANT, batch_id=BATCH, ordinals=encode_bitmap(ordinals))
        return await ActivityEnvironment().run(activities.read_manifest, request)

    assert await read(0, 1, 2, 3) == ReadManifestOutput(
        filenames=("a.txt", "b.txt", "c.txt", "d.txt"), packable=encode_bitmap([0, 2])
    )
    assert await read(1, 2) == ReadManifestOutput(filenames=("b.txt", "c.txt"), packable=encode_bitmap([1]))


async def test_a_page_says_which_documents_are_large() -> None:
    """Those begin before their turn, but for the very largest; what was refused has nothing to begin with."""
    submission = Submission()
    sizes = {"a.txt": LARGE_BYTES - 1, "b.txt": LARGE_BYTES, "c.txt": MOST_LARGE_BYTES, "d.txt": MOST_LARGE_BYTES + 1}
    for name, size in sizes.items():
        await submission.add(name, bytes(size))
    await submission.add("e.txt", bytes(LARGE_BYTES))
    refused = DocumentFailure(code="file_too_large", message="too large")
    submission.lines[-1] = submission.lines[-1].model_copy(update={"refused": refused})
    await submission.build()
    activities = ManifestActivities(submission.blobs, submission.catalog, ZipArchiveReader(), submission.limits)
    request = ReadManifestInput(tenant_id=TENANT, batch_id=BATCH, ordinals=encode_bitmap(range(5)))
    page = await ActivityEnvironment().run(activities.read_manifest, request)
    assert page.large == encode_bitmap([1, 2])


async def test_a_page_says_which_documents_are_still_in_a_source() -> None:
    """Those wait for it somewhere else than documents whose bytes are here."""
    submission = Submission()
    await submission.add("a.txt", b"A")
    there = SourceRef(connection_id="shelf", source_type=SourceType.S3, file_id="b.txt")
    submission.lines.append(Submitted(filename="b.txt", source=there))
    await submission.build()
    activities = ManifestActivities(submission.blobs, submission.catalog, ZipArchiveReader(), submission.limits)
    request = ReadManifestInput(tenant_id=TENANT, batch_id=BATCH, ordinals=encode_bitmap([0, 1]))
    page = await ActivityEnvironment().run(activities.read_manifest, request)
    assert (page.filenames, page.in_sources) == (("a.txt", "b.txt"), encode_bitmap([1]))


async def test_a_submission_may_come_in_parts() -> None:
    """Their documents follow one another in the order of the parts."""
    submission = Submission()
    await submission.add("a.txt", b"A")
    await submission.prepare()
    key = submission_part_key(TENANT, BATCH, "two")
    line = Submitted(filename="a.txt", refused=DocumentFailure(code="content_invalid", message="not base64"))
    await submission.blobs.put(key, line.model_dump_json().encode())
    await submission.catalog.add_part(
        SubmissionPart(batch_id=BATCH, part_id="two", key=key, document_count=1, created_at=datetime.now(UTC))
    )

    answer = await submission.run()

    assert answer.document_count == 2
    assert [ref.filename for ref in submission.refs()] == ["a.txt", "a (2).txt"]


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


# --- Too many ---


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


# --- Crashes ---


async def mixed_submission() -> Submission:
    submission = Submission(limits=ArchiveLimits(entry_bytes=2_000_000))
    await submission.add("a.txt", b"A")
    files = {f"{n}.bin": bytes([n]) * SMALL_UPLOAD_BYTES for n in range(9)}
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


async def test_a_cancelled_build_stops() -> None:
    """In the middle of an archive of a quarter of a gigabyte unpacked, and leaves nothing of it."""
    submission = Submission(limits=ArchiveLimits(ratio=10_000, entry_bytes=10**9))
    await submission.add("x.zip", zips.bomb(256 * 1024 * 1024))
    await submission.prepare()
    task = asyncio.create_task(submission.run())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [key for key in submission.blobs.content() if "/zip-" in key]


async def test_a_long_build_says_that_it_lives() -> None:
    """Heartbeats go out while an archive is unpacked; without them nobody could cancel it."""
    submission = Submission(limits=ArchiveLimits(ratio=10_000, entry_bytes=10**9))
    await submission.add("x.zip", zips.bomb(64 * 1024 * 1024))
    await submission.prepare()
    beats: list[tuple[object, ...]] = []
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *details: beats.append(details)
    activities = ManifestActivities(submission.blobs, submission.catalog, ZipArchiveReader(), submission.limits)
    await environment.run(activities.build_manifest, submission.request())
    assert beats

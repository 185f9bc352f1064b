"""The stages of a batch of sheets, one after the other, over ports in memory and with the real parsers."""

import base64
import functools
import hashlib
import json
import random
import uuid
from datetime import UTC, datetime

import pytest

from activities.byte_budget import DEFAULT_BUDGET_BYTES, ByteBudget
from activities.manifest import ManifestReader
from activities.sheet_intake import SheetIntakeActivities
from activities.sheet_results import SheetResultActivities
from activities.sheets import SheetActivities
from bench.sheet_pages import cover, encoded, sheet
from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.adapters.memory.sheet_progress import InMemorySheetProgress
from ingather.adapters.prepare import InProcessPreparer
from ingather.adapters.zip_archive import ZipArchiveReader
from ingather.domain.bitmap import encode_bitmap
from ingather.domain.keys import (
    sheet_csv_key,
    sheet_rows_key,
    skipped_files_key,
    submission_part_key,
    upload_key,
    upload_prefix,
)
from ingather.domain.ledger import Ledger
from ingather.models.archive import ArchiveLimits
from ingather.models.batch import (
    BatchRecord,
    BatchSpec,
    BatchState,
    BatchSummary,
    Counts,
    ProcessingOptions,
    SubmissionPart,
)
from ingather.models.document import DocumentStatus
from ingather.models.errors import (
    ArchiveCorruptError,
    ArchiveEncryptedError,
    ArchiveOverlapError,
    ArchiveTooLargeError,
    ArchiveTooManyEntriesError,
    BatchTooLargeError,
    DocumentEmptyError,
    EventLogUnavailableError,
    ParserKilledError,
    ParserTimeoutError,
)
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import (
    ClosedBatch,
    ExtractSheetsInput,
    FinishSheetsInput,
    IngestDocumentInput,
    IngestPackInput,
    OrganizeSheetsInput,
    ReadSheetCodesInput,
)
from ingather.models.sheets import SheetObject, SheetRow, SheetUpload, UploadType
from tests.support.catalog_records import done_record
from tests.support.ingesting import WatchedPreparer, run_activity
from tests.support.zips import (
    DEFLATED,
    ENCRYPTED_FLAG,
    STORED,
    UTF8_FLAG,
    RawEntry,
    bomb,
    nested_zip,
    noise,
    overlapping_zip,
    quoted_overlap_zip,
    raw_zip,
    zip_of,
)

TENANT = DEFAULT_TENANT_ID
SMALL = (310, 438)
WITH_QR, WITHOUT, IMAGES = UploadType.ZIP_WITH_QR, UploadType.ZIP_NO_QR, UploadType.IMAGES


@functools.cache
def page(seed, *codes):
    return encoded(sheet(random.Random(seed), SMALL, codes), "png")


@functools.cache
def cover_page(code):
    return encoded(cover(code, SMALL), "png")


UPLOAD = {
    "s/01_cover.png": cover_page("14900113"),
    "s/02.png": page(1),
    "s/03.png": page(2),
    "s/04_cover.png": cover_page("14900114"),
    "s/05.png": page(3),
    "s/06.jpg": b"no image at all",
    "s/07.png": page(1),
    "__MACOSX/s/._02.png": b"x",
    "s/Thumbs.db": b"x",
    "notes.txt": b"Scanned on Monday.",
}


class AwayLog(InMemorySheetProgress):
    """Takes nothing, and remembers the stages of which it was to be told."""

    def __init__(self):
        super().__init__()
        self.tried = []

    async def tell(self, event):
        self.tried.append(event.stage.value)
        raise EventLogUnavailableError("away")


class PieceByPiece(InMemoryBlobStore):
    """Gives and takes small pieces, and remembers how many lines it was given at once at most."""

    def __init__(self):
        super().__init__()
        self.most_lines = 0

    async def put_stream(self, key, parts):
        async def counted():
            async for part in parts:
                self.most_lines = max(self.most_lines, part.count(b"\n"))
                yield part

        return await super().put_stream(key, counted())

    async def stream(self, key, *, offset=0, size=None):
        content = await self.get(key, offset=offset, size=size)
        for start in range(0, len(content), 1_000):
            yield content[start : start + 1_000]


class SheetRoom:
    """One batch of sheets, and the activities around it."""

    def __init__(self, limits=None, progress=None, preparer=None, *, ocr=False, blobs=None):
        self.blobs, self.catalog = blobs or InMemoryBlobStore(), InMemoryCatalog()
        self.progress = progress or InMemorySheetProgress()
        self.preparer = preparer or WatchedPreparer(InProcessPreparer(None))
        stores, manifest = (self.blobs, self.catalog), ManifestReader(self.blobs)
        shared = {"progress": self.progress, "budget": ByteBudget(DEFAULT_BUDGET_BYTES), "ocr": ocr}
        self.intake = SheetIntakeActivities(
            *stores, self.preparer, archives=ZipArchiveReader(), limits=limits or ArchiveLimits(), **shared
        )
        self.sheets = SheetActivities(*stores, self.preparer, manifest, **shared)
        self.last_stages = SheetResultActivities(*stores, manifest, progress=self.progress)
        self.batch_id = str(uuid.uuid4())

    async def hand_in(self, *files, upload_type=WITH_QR, task_id="12345678"):
        objects = []
        for number, (name, content) in enumerate(files):
            key = upload_key(TENANT, self.batch_id, f"whole-{number}")
            await self.blobs.put(key, content)
            objects.append(SheetObject(key=key, filename=name, size_bytes=len(content)))
        upload = SheetUpload(
            batch_id=self.batch_id,
            tenant_id=TENANT,
            created_by="somebody",
            upload_type=upload_type,
            task_id=task_id,
            objects=tuple(objects),
        )
        key = submission_part_key(TENANT, self.batch_id, self.batch_id)
        await self.blobs.put(key, upload.model_dump_json().encode())
        now = datetime.now(UTC)
        part = SubmissionPart(batch_id=self.batch_id, part_id="upload", key=key, document_count=1, created_at=now)
        spec = BatchSpec(batch_id=self.batch_id, tenant_id=TENANT, name="b", pipeline="sheets", submitted_count=1)
        await self.catalog.add_batch(
            BatchRecord(
                batch_id=self.batch_id, tenant_id=TENANT, spec=spec, state=BatchState.RUNNING, counts=Counts(),
                name="b", created_at=now,
            ),
            part,
        )  # fmt: skip

    async def extract(self, max_documents=1_000):
        request = ExtractSheetsInput(tenant_id=TENANT, batch_id=self.batch_id, max_documents=max_documents)
        return await run_activity(self.intake.extract_sheets, request)

    async def look(self, extracted):
        for number in range(extracted.page_count):
            request = ReadSheetCodesInput(tenant_id=TENANT, batch_id=self.batch_id, page=number)
            await run_activity(self.intake.read_sheet_codes, request)

    async def organize(self, extracted):
        request = OrganizeSheetsInput(
            tenant_id=TENANT,
            batch_id=self.batch_id,
            collection="default",
            page_count=extracted.page_count,
            reads_codes=extracted.reads_codes,
        )
        return await run_activity(self.intake.organize_sheets, request)

    async def make_manifest(self):
        extracted = await self.extract()
        if extracted.reads_codes:
            await self.look(extracted)
        return await self.organize(extracted)

    async def process(self, *ordinals, retry_round=0, attempt=1):
        answers = []
        for ordinal in ordinals:
            request = IngestDocumentInput(
                tenant_id=TENANT,
                batch_id=self.batch_id,
                ordinal=ordinal,
                collection="default",
                options=ProcessingOptions(skip_existing=False),
                retry_round=retry_round,
            )
            answers.append(await run_activity(self.sheets.process_sheet, request, attempt=attempt))
        return [(answer.status.value, answer.code) for answer in answers]

    async def finish(self, retry_round=0, version=5):
        """The stages after the sheets, as the workflow runs them."""
        ledger = Ledger(len(await self.rows()))
        for record in await self.rows():
            ledger.move(record.ordinal, record.status, record.error.code if record.error else None)
        counts = ledger.counts
        state = BatchState.COMPLETED_WITH_FAILURES if counts.failed else BatchState.COMPLETED
        now = datetime.now(UTC)
        summary = BatchSummary(
            batch_id=self.batch_id, state=state, counts=counts, version=version, retry_round=retry_round, ended_at=now
        )
        closed = ClosedBatch(summary=summary, ledger=ledger.letters(), failures=ledger.failures())
        request = FinishSheetsInput(tenant_id=TENANT, batch_id=self.batch_id, summary=summary)
        steps = self.last_stages
        output = await run_activity(steps.collect_sheets, request.model_copy(update={"closed": closed}))
        request = request.model_copy(update={"row_count": output.row_count})
        for step in (steps.write_sheet_csv, steps.load_sheets, steps.clean_up_sheets):
            await run_activity(step, request)
        await self.catalog.finish_batch(summary)
        await run_activity(steps.conclude_sheets, request)

    async def run(self):
        manifest = await self.make_manifest()
        await self.process(*range(manifest.document_count))
        await self.finish()

    async def rows(self):
        return [record async for record in self.catalog.iterate_documents(self.batch_id)]

    async def results(self):
        return await self.catalog.sheets.list_rows(self.batch_id, 1_000)

    async def told(self):
        return [json.loads(event.body) for event in await self.progress.read(self.batch_id)]

    async def keys(self, prefix=""):
        return [blob.key async for blob in self.blobs.list(prefix)]


@pytest.fixture
def room():
    return SheetRoom()


async def test_an_upload_becomes_a_table_of_its_sheets(room):
    """Covers are left out, codes group what follows them, and what cannot be read fails alone."""
    await room.hand_in(("scan.zip", zip_of(UPLOAD)))
    await room.run()

    rows = await room.results()
    assert [(row.filename, row.group_code, row.status.value) for row in rows] == [
        ("02.png", "14900113", "done"),
        ("03.png", "14900113", "done"),
        ("05.png", "14900114", "done"),
        ("06.jpg", "14900114", "failed"),
        ("07.png", "14900114", "done"),
    ]
    first, broken, copy = rows[0], rows[3], rows[4]
    assert (first.width, first.height, first.page_count, first.media_type) == (*SMALL, 1, "image/*")
    assert first.sha256 == hashlib.sha256(UPLOAD["s/02.png"]).hexdigest()
    assert (broken.error_code, broken.width) == ("corrupt", None)
    assert (first.picture_duplicate_of, copy.picture_duplicate_of) == (None, first.file_id)
    table = await room.blobs.get(sheet_csv_key(TENANT, room.batch_id, 5))
    assert len(table.decode().splitlines()) == 6


async def test_results_are_written_in_parts_however_many_sheets_there_are():
    """Every sheet is in table, lines and rows once, in order, and finds the one it looks like far before it."""
    room = SheetRoom(blobs=PieceByPiece())
    await room.hand_in(("scan.zip", b""))
    looks = [base64.b64encode(bytes([seed] * 384)).decode() for seed in (5, 50)]
    pictures = {0: looks[0], 7: looks[1], 1_200: looks[0], 1_233: looks[1]}
    await room.catalog.add_documents(
        [
            done_record(room.batch_id, n, chunk_count=0, metadata={"sheet": {"picture": pictures.get(n, "")}})
            for n in range(1_234)
        ]
    )
    await room.finish()

    rows = await room.catalog.sheets.list_rows(room.batch_id, 2_000)
    assert [row.ordinal for row in rows] == list(range(1_234))
    assert {row.ordinal: row.picture_duplicate_of for row in rows if row.picture_duplicate_of} == {
        1_200: rows[0].file_id,
        1_233: rows[7].file_id,
    }
    lines = (await room.blobs.get(sheet_rows_key(TENANT, room.batch_id, 5))).splitlines()
    assert [SheetRow.model_validate_json(line) for line in lines] == rows
    table = (await room.blobs.get(sheet_csv_key(TENANT, room.batch_id, 5))).decode()
    assert [line.split(",", 1)[0] for line in table.splitlines()] == ["ordinal", *map(str, range(1_234))]
    assert room.blobs.most_lines == 500


async def test_sheets_that_were_cancelled_are_not_told_as_processed(room):
    """Neither at the end nor in the stages before it: nobody sees the count go back."""
    await room.hand_in(("scan.zip", zip_of({"1.png": page(1), "2.png": page(2)})), upload_type=WITHOUT)
    await room.make_manifest()
    await room.process(0)
    second = (await room.rows())[1]
    await room.catalog.save_outcome(second.model_copy(update={"status": DocumentStatus.CANCELLED}))
    await room.finish()

    told = [event for event in await room.told() if event["stage"] not in {"extracting", "organizing_qr"}]
    assert {event["message"] for event in told if event["stage"] == "processing_sheets"} == {
        "Progress: 1/2 tasks completed"
    }
    assert {event["sheets_processed"] for event in told} == {1}


async def test_files_that_are_no_sheets_are_passed_over_with_a_reason(room):
    """They are counted in the stage's last event, and listed."""
    await room.hand_in(("scan.zip", zip_of(UPLOAD)))
    extracted = await room.extract()

    assert extracted.file_count == 7
    assert extracted.skipped == {"left by an operating system": 2, "not an image or a PDF": 1}
    skipped = (await room.blobs.get(skipped_files_key(TENANT, room.batch_id))).splitlines()
    assert json.loads(skipped[-1]) == {"name": "notes.txt", "reason": "not an image or a PDF"}
    assert (await room.told())[-1]["message"] == "Extracted 7 files from ZIP"


async def test_each_stage_tells_its_beginning_and_its_end(room):
    """In the contract's words and order; each group once; the end once."""
    await room.hand_in(("scan.zip", zip_of(UPLOAD)))
    await room.run()

    told = await room.told()
    messages = {f"{event['stage']} {event['progress_percentage']:g}": event["message"] for event in told}
    assert messages["organizing_qr 33.3"] == "Processing chunk 1/2: QR code 14900113"
    assert messages["organizing_qr 100"] == "Organized 5 sheets into 2 groups"
    assert messages["processing_sheets 100"] == "Progress: 5/5 tasks completed"
    assert messages["collecting_results 100"].startswith("Collected all 5 results in ")
    assert messages["generating_csv 100"] == "CSV generation complete: 5 sheets"
    assert messages["loading_database 100"] == "Database load completed: 5 sheets"
    assert messages["cleanup 100"] == "Batch cleanup completed"
    stages = list(dict.fromkeys(event["stage"] for event in told))
    assert stages == [
        "extracting",
        "organizing_qr",
        "processing_sheets",
        "collecting_results",
        "generating_csv",
        "loading_database",
        "cleanup",
        "completed",
    ]
    assert [event["stage"] for event in told].count("completed") == 1
    assert {event["sheets_total"] for event in told[-8:]} == {5}


async def test_a_second_attempt_at_a_stage_tells_and_changes_nothing(room):
    """Whatever was killed when: the same rows, the same objects, the same events."""
    await room.hand_in(("scan.zip", zip_of(UPLOAD)))
    await room.run()
    rows, told = await room.results(), await room.told()

    await room.finish()

    assert (await room.results(), await room.told()) == (rows, told)


async def test_no_batch_waits_for_a_log_that_is_away():
    """Each word that nobody takes may cost seconds: of many groups and sheets few are tried, and all become rows."""
    log = AwayLog()
    room = SheetRoom(progress=log)
    codes = [f"149001{number:02d}" for number in range(12)]
    await room.hand_in(("scan.zip", zip_of({f"{code}.png": page(1, code) for code in codes})))
    await room.run()

    assert [row.group_code for row in await room.results()] == codes
    assert log.tried.count("organizing_qr") == 2  # the first group, and the end
    assert log.tried.count("processing_sheets") == 2  # the first sheet, and the end


async def test_a_retry_brings_table_and_rows_up_to_date(room):
    """The failed sheet's bytes were kept; the round has events of its own, and its own end."""
    await room.hand_in(("scan.zip", zip_of({"1.png": page(1), "2.png": page(2)})), upload_type=WITHOUT)
    await room.make_manifest()
    await room.process(0)
    room.preparer.error = ParserTimeoutError("It took too long.")
    [(status, code)] = await room.process(1)
    room.preparer.error = None
    await room.finish()
    assert (status, code, [row.status.value for row in await room.results()]) == (
        "failed",
        "parser_timeout",
        ["done", "failed"],
    )

    await room.process(1, retry_round=1)
    await room.finish(retry_round=1, version=9)

    assert [row.status.value for row in await room.results()] == ["done", "done"]
    assert b"failed" not in await room.blobs.get(sheet_csv_key(TENANT, room.batch_id, 9))
    ends = [(event["stage"], event["retry_round"]) for event in await room.told() if event["stage"] == "completed"]
    assert ends == [("completed", 0), ("completed", 1)]


async def test_the_upload_goes_and_the_sheets_stay(room):
    """After the end the ZIP is gone; a sheet's own bytes can be read where its row says."""
    await room.hand_in(("scan.zip", zip_of(UPLOAD)))
    await room.run()

    assert upload_key(TENANT, room.batch_id, "whole-0") not in await room.keys(upload_prefix(TENANT, room.batch_id))
    for record in await room.rows():
        stored = await room.blobs.get(record.raw_key, offset=record.raw_offset, size=record.size_bytes)
        assert hashlib.sha256(stored).hexdigest() == record.sha256


@pytest.mark.parametrize("quarantined", [False, True])
async def test_a_file_that_costs_a_process_is_looked_at_once_more(room, quarantined):
    """Perhaps the machine was short of memory: a cover that was not read would leave its sheets to the group before."""
    await room.hand_in(("scan.zip", zip_of({"1.png": cover_page("14900113"), "2.png": page(1)})))
    extracted = await room.extract()
    room.preparer.pack_error = ParserKilledError("It was stopped.", kills=1, quarantined=quarantined)
    await room.look(extracted)
    manifest = await room.organize(extracted)

    assert room.preparer.kills == ([] if quarantined else [1, 1])
    assert manifest.document_count == (2 if quarantined else 1)


async def test_sheets_of_a_task_belong_to_it(room):
    """No code is looked for before they run, and a cover is a sheet like any other."""
    await room.hand_in(("scan.zip", zip_of({"1.png": cover_page("A"), "2.png": page(2)})), upload_type=WITHOUT)
    await room.run()

    rows = await room.results()
    assert [(row.group_code, row.codes) for row in rows] == [("12345678", ("A",)), ("12345678", ())]
    assert "Processing chunk 1/1: task 12345678" in [event["message"] for event in await room.told()]


async def test_images_are_taken_as_they_were_uploaded(room):
    """Several files, one batch; what is no sheet is passed over there, too."""
    files = [("b.png", page(2)), ("a.png", page(1)), ("list.txt", b"a, b"), ("empty.png", b"")]
    await room.hand_in(*files, upload_type=IMAGES)
    await room.run()

    assert [(row.filename, row.status.value, row.error_code) for row in await room.results()] == [
        ("a.png", "done", None),
        ("b.png", "done", None),
        ("empty.png", "failed", "empty"),
    ]


async def test_sheets_that_were_looked_at_share_an_activity(room):
    """All in one transaction, each with what was seen on it; one that could not be read before runs alone."""
    await room.hand_in(("scan.zip", zip_of(UPLOAD)))
    await room.make_manifest()
    manifest = ManifestReader(room.blobs)
    alone = [(await manifest.document(TENANT, room.batch_id, ordinal)).alone for ordinal in range(5)]
    assert alone == [False, False, False, True, False]

    request = IngestPackInput(
        tenant_id=TENANT,
        batch_id=room.batch_id,
        ordinals=encode_bitmap([0, 1, 2, 4]),
        collection="default",
        options=ProcessingOptions(skip_existing=False),
    )
    answer = await run_activity(room.sheets.process_sheet_pack, request)

    assert (answer.statuses, answer.failures) == ("dddd", {})
    assert [record.status.value for record in await room.rows()] == ["done", "done", "done", "pending", "done"]
    assert (await room.rows())[0].metadata["sheet"]["width"] == SMALL[0]


async def test_sheets_of_several_archives_are_one_batch(room):
    """In name order, whatever they came in."""
    await room.hand_in(
        ("1.zip", zip_of({"b.png": page(1)})), ("2.zip", zip_of({"a.png": page(2)})), upload_type=WITHOUT
    )
    await room.run()
    assert [row.filename for row in await room.results()] == ["a.png", "b.png"]


async def test_a_large_entry_is_an_object_of_its_own(room):
    """It passes through in pieces."""
    tail = noise(3 * 1024 * 1024)
    await room.hand_in(("scan.zip", zip_of({"1.png": page(1) + tail}, STORED)), upload_type=WITHOUT)
    await room.run()

    [row] = await room.results()
    assert (row.status, row.size_bytes) == (DocumentStatus.DONE, len(page(1) + tail))


async def test_an_archive_larger_than_a_window_is_read_by_ranges(room):
    """Of eleven megabytes no more than a few windows are asked for at a time, and each once."""
    files = {f"{number:02}.png": page(number % 3) + noise(1024 * 1024, number) for number in range(11)}
    await room.hand_in(("scan.zip", zip_of(files, STORED)), upload_type=WITHOUT)
    asked = []
    get = room.blobs.get

    async def watched(key, *, offset=0, size=None):
        asked.append((key, offset, size))
        return await get(key, offset=offset, size=size)

    room.blobs.get = watched
    assert (await room.extract()).file_count == 11

    ranges = [(offset, size) for key, offset, size in asked if key.endswith("whole-0")]
    assert {size for _, size in ranges} == {4 * 1024 * 1024}
    assert len(ranges) == len(set(ranges)) == 3


# --- Hostile archives ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"no ZIP at all", ArchiveCorruptError),
        (zip_of({"1.png": page(1)})[:-30], ArchiveCorruptError),
        (zip_of({}), DocumentEmptyError),
        (zip_of({"__MACOSX/x": b"x"}), DocumentEmptyError),
        (raw_zip([RawEntry("1.png", page(1), flags=UTF8_FLAG | ENCRYPTED_FLAG)]), ArchiveEncryptedError),
        (bomb(), ArchiveTooLargeError),
        (overlapping_zip(), ArchiveOverlapError),
        (quoted_overlap_zip(), ArchiveOverlapError),
    ],
    ids=["noise", "cut", "empty", "junk", "encrypted", "bomb", "overlap", "quoted"],
)
async def test_an_archive_that_must_not_be_unpacked_is_refused_whole(room, content, error):
    """With a code of its own, and nothing of it is left in the store."""
    content = content.replace(b"zeros.txt", b"zeros.png")
    await room.hand_in(("scan.zip", content))

    with pytest.raises(Exception, match=r".+") as caught:
        await room.extract()

    assert caught.value.type == error.code
    assert [key for key in await room.keys(upload_prefix(TENANT, room.batch_id)) if "zip-" in key] == []


async def test_too_many_entries_are_refused(room):
    """By the limit that is published."""
    room = SheetRoom(ArchiveLimits(entries=3))
    await room.hand_in(("scan.zip", zip_of({f"{number}.png": page(1) for number in range(4)})))
    with pytest.raises(Exception, match="zip_entries") as caught:
        await room.extract()
    assert caught.value.type == ArchiveTooManyEntriesError.code


async def test_more_sheets_than_a_batch_may_have_are_refused(room):
    """Several archives together, too."""
    await room.hand_in(("1.zip", zip_of({"1.png": page(1)})), ("2.zip", zip_of({"2.png": page(1)})))
    with pytest.raises(Exception, match="more than 1 sheets") as caught:
        await room.extract(max_documents=1)
    assert caught.value.type == BatchTooLargeError.code


async def test_entries_that_must_not_be_read_fail_alone(room):
    """Each with its reason; the honest sheet between them is taken."""
    link = 0o120777
    entries = [
        RawEntry("../../etc/evil.png", page(1)),
        RawEntry("/abs.png", page(1)),
        RawEntry("back\\slash.png", page(1)),
        RawEntry("link.png", b"/etc/passwd", mode=link),
        RawEntry("good.png", page(1)),
        RawEntry("GOOD.png", page(2)),
        RawEntry("lying.png", page(1), claimed_size=10),
        RawEntry("secret.png", page(1), flags=UTF8_FLAG | ENCRYPTED_FLAG),
        RawEntry("odd.png", page(1), method=12),
        RawEntry("inner.zip", nested_zip(1, "x.png", page(1)), method=STORED),
        RawEntry("../escape.txt", b"not even a sheet"),
    ]
    await room.hand_in(("scan.zip", raw_zip(entries)), upload_type=WITHOUT)
    await room.run()

    outcomes = {row.original_filename or row.filename: row.error_code for row in await room.results()}
    assert outcomes == {
        "../../etc/evil.png": "archive_unsafe_path",
        "/abs.png": "archive_unsafe_path",
        "back\\slash.png": "archive_unsafe_path",
        "link.png": "archive_symlink",
        "good.png": None,
        "GOOD.png": "archive_duplicate_name",
        "lying.png": "archive_size_mismatch",
        "secret.png": "archive_encrypted",
        "odd.png": "archive_unsupported_compression",
        "inner.zip": "archive_too_deep",
    }
    assert entries[0].method == DEFLATED

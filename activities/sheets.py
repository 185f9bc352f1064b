"""Scanned sheets, stage by stage: extract, look for codes, organize, process, collect, write, load, clean up.

Every stage is idempotent: what it writes is named after the batch and its round, never after an attempt, and what it
tells has a mark. A file that cannot be read fails alone, as a sheet; only an archive that cannot be opened, or a
batch that is too large, costs the batch.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import orjson
import structlog
from temporalio import activity

from activities.attempts import failure_of, to_its_end
from activities.byte_budget import DEFAULT_BUDGET_BYTES, ByteBudget
from activities.failures import translate_errors, translate_errors_and_give_up
from activities.heartbeats import StageHeartbeat, beating_plainly
from activities.ingestion import Ingestion, fetch_content, log_end, log_start, output_of, store_content
from activities.manifest import ManifestReader
from activities.pack_progress import PackHeartbeats, PackProgress
from activities.packing import Packer
from activities.records import reconcile
from activities.sheet_events import SheetCounts, StageTeller, processing_event, tell
from activities.sheet_extraction import SheetExtraction
from ingather.domain.audit import batch_event, documents_ingested
from ingather.domain.bitmap import decode_bitmap
from ingather.domain.filenames import FilenameRegistry, stored_original
from ingather.domain.fingerprint import pipeline_fingerprint
from ingather.domain.keys import (
    artifact_key,
    manifest_key,
    sheet_csv_key,
    sheet_files_key,
    sheet_readings_key,
    sheet_rows_key,
    sheets_prefix,
    skipped_files_key,
    upload_key,
    upload_prefix,
)
from ingather.domain.manifest_pages import encode_page
from ingather.domain.sheet_end import end_event
from ingather.domain.sheet_groups import (
    FILES_A_PAGE,
    GroupedSheet,
    grouped_by_code,
    grouped_by_task,
    groups_of,
    in_name_order,
)
from ingather.domain.sheet_table import csv_pieces, row_of, same_pictures
from ingather.models.archive import ArchiveLimits
from ingather.models.audit import SYSTEM, AuditType
from ingather.models.batch import SourceSlice
from ingather.models.content import PreparedDocument, PrepareRequest, SheetReading, Stage
from ingather.models.document import DocumentRecord, DocumentRef, DocumentStatus
from ingather.models.engine import MANIFEST_PAGE_SIZE
from ingather.models.errors import BlobNotFoundError, DocumentError, ParserKilledError
from ingather.models.identity import file_id_for
from ingather.models.messages import (
    BuildManifestOutput,
    ExtractSheetsInput,
    ExtractSheetsOutput,
    FinishSheetsInput,
    FinishSheetsOutput,
    IngestDocumentInput,
    IngestDocumentOutput,
    IngestPackInput,
    IngestPackOutput,
    OrganizeSheetsInput,
    ReadSheetCodesInput,
)
from ingather.models.sheets import SheetFile, SheetRow, SheetStage, SheetUpload, UploadType
from ingather.ports.archive_reader import ArchiveReader
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.document_preparer import DocumentPreparer
from ingather.ports.sheet_progress import SheetProgress

log = structlog.get_logger(__name__)

_LOOKED_AT_TOGETHER = 8
"""Files handed to a parser process in one go."""
_BLOCK = 500
_READ_AT_ONCE = 16
"""Objects of OCR texts."""


class SheetActivities:
    """Args:
    ocr: read what sheets say, too.
    """

    def __init__(
        self,
        blobs: BlobStore,
        catalog: Catalog,
        preparer: DocumentPreparer,
        manifest: ManifestReader,
        *,
        archives: ArchiveReader,
        limits: ArchiveLimits,
        progress: SheetProgress,
        budget: ByteBudget | None = None,
        ocr: bool = False,
    ) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._preparer = preparer
        self._manifest = manifest
        self._archives = archives
        self._limits = limits
        self._progress = progress
        self._budget = budget or ByteBudget(DEFAULT_BUDGET_BYTES)
        self._ocr = ocr
        self._counts = SheetCounts(catalog, progress)

    # --- Before the sheets ------------------------------------------------------------------

    @activity.defn(name="extract_sheets")
    @translate_errors_and_give_up
    async def extract_sheets(self, request: ExtractSheetsInput) -> ExtractSheetsOutput:
        """Note the upload's files in name order; those of archives are unpacked, those that are no sheets passed over.

        Raises the ``ArchiveError`` that refuses an archive whole, and ``BatchTooLargeError``.
        """
        async with beating_plainly():
            upload = await self._upload(request.tenant_id, request.batch_id)
            teller = await self._teller(request.batch_id, SheetStage.EXTRACTING)
            is_packed = upload.upload_type is not UploadType.IMAGES
            await teller.start("Extracting files from ZIP" if is_packed else "Taking files as they were uploaded")
            limits = self._limits
            if request.max_file_bytes is not None:
                limits = replace(limits, entry_bytes=request.max_file_bytes)
            extraction = SheetExtraction(self._blobs, self._archives, limits, request.max_documents)
            for number, stored in enumerate(upload.objects, 1):
                if is_packed:
                    packer = self._packer(request, number)
                    try:
                        await extraction.add_archive(stored, packer)
                    except DocumentError:
                        await packer.discard()
                        raise
                else:
                    await extraction.add_file(stored)
            files = in_name_order(extraction.files)
            page_count = await self._note_files(request, files)
            skipped = b"".join(each.model_dump_json().encode() + b"\n" for each in extraction.skipped)
            await self._blobs.put(skipped_files_key(request.tenant_id, request.batch_id), skipped)
            where = "ZIP" if is_packed else "upload"
            await teller.end(f"Extracted {len(files)} files from {where}", files_skipped=extraction.skipped_by_reason)
        return ExtractSheetsOutput(
            file_count=len(files),
            page_count=page_count,
            skipped=extraction.skipped_by_reason,
            reads_codes=upload.upload_type.is_grouped_by_code,
        )

    @activity.defn(name="read_sheet_codes")
    @translate_errors
    async def read_sheet_codes(self, request: ReadSheetCodesInput) -> None:
        """Look at one page's files and note what is on them. One that cannot be read is looked at again as a sheet."""
        tenant_id, batch_id, page = request.tenant_id, request.batch_id, request.page
        async with beating_plainly():
            if await self._blobs.stat(sheet_readings_key(tenant_id, batch_id, page)) is not None:
                return
            files = await self._files(sheet_files_key(tenant_id, batch_id, page))
            read: list[SheetFile] = []
            for start in range(0, len(files), _LOOKED_AT_TOGETHER):
                read += await self._looked_at(files[start : start + _LOOKED_AT_TOGETHER], request.timeout_seconds)
            await self._blobs.put(sheet_readings_key(tenant_id, batch_id, page), _lines(read))

    @activity.defn(name="organize_sheets")
    @translate_errors_and_give_up
    async def organize_sheets(self, request: OrganizeSheetsInput) -> BuildManifestOutput:
        """Group the files, leave the covers out, write the manifest and the catalog's rows."""
        tenant_id, batch_id = request.tenant_id, request.batch_id
        async with beating_plainly():
            upload = await self._upload(tenant_id, batch_id)
            key_of = sheet_readings_key if request.reads_codes else sheet_files_key
            files: list[SheetFile] = []
            for page in range(request.page_count):
                files += await self._files(key_of(tenant_id, batch_id, page))
            if request.reads_codes:
                sheets = grouped_by_code(files, upload.task_id)
            else:
                sheets = grouped_by_task(files, upload.task_id)
            await self._tell_groups(batch_id, sheets, by_code=request.reads_codes)
            page_count = await self._write_manifest(request, sheets)
            details = {"document_count": len(sheets)}
            now = datetime.now(UTC)
            event = batch_event(AuditType.BATCH_STARTED, tenant_id, batch_id, SYSTEM, now, details=details)
            await self._catalog.audit.record([event])
        log.info("batch.started", batch_id=batch_id, tenant_id=tenant_id, document_count=len(sheets))
        slices = (
            SourceSlice(
                name=upload.objects[0].filename, source_type="upload", first_ordinal=0, document_count=len(sheets)
            ),
        )
        return BuildManifestOutput(
            document_count=len(sheets), page_count=page_count, sources=slices if len(sheets) else ()
        )

    # --- A sheet --------------------------------------------------------------------------------

    @activity.defn(name="process_sheet")
    @translate_errors_and_give_up
    async def process_sheet(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        """Store one sheet and note what is on it. That it cannot be read is an answer; only infrastructure raises."""
        async with StageHeartbeat().beating() as heartbeat:
            document = await self._manifest.document(request.tenant_id, request.batch_id, request.ordinal)
            heartbeat.filename = document.filename
            record = await self._ended(request, document, heartbeat.enter)
            events = documents_ingested([record], request.actor)
            await to_its_end(self._catalog.save_outcome(record, events))
            await self._counts.sheet_ended(request.batch_id, request.retry_round)
        log_end(record)
        return output_of(record)

    @activity.defn(name="process_sheet_pack")
    @translate_errors_and_give_up
    async def process_sheet_pack(self, request: IngestPackInput) -> IngestPackOutput:
        """The same for several sheets that were looked at before: little is left to do, and one transaction does it."""
        progress = PackProgress(list(decode_bitmap(request.ordinals)))
        async with PackHeartbeats(progress).beating() as heartbeats:
            shared = request.model_dump(exclude={"ordinals"})
            records = []
            for ordinal in progress.open_ordinals:
                document = await self._manifest.document(request.tenant_id, request.batch_id, ordinal)
                one = IngestDocumentInput(ordinal=ordinal, **shared)
                records.append(await self._ended(one, document, partial(heartbeats.under_way, document)))
            await to_its_end(self._catalog.save_outcomes(records, documents_ingested(records, request.actor)))
            for record in records:
                progress.ended(record)
                log_end(record)
            await self._counts.sheet_ended(request.batch_id, 0)
        return progress.output()

    async def _ended(
        self, request: IngestDocumentInput, document: DocumentRef, on_stage: Callable[[Stage], None]
    ) -> DocumentRecord:
        fingerprint = pipeline_fingerprint({**self._preparer.description, "sheets": "1"}, request.options)
        ingestion = Ingestion(request, document, activity.info().attempt, fingerprint, on_stage)
        log_start(ingestion)
        failure = document.refused or await failure_of(ingestion, self._process(ingestion))
        if failure is not None:
            ingestion.fail(failure)
        return ingestion.record()

    async def _process(self, ingestion: Ingestion) -> None:
        reading = ingestion.document.sheet
        # What was extracted stays where it is and is the sheet's own from here on.
        ingestion.raw = ingestion.upload
        if reading is not None and ingestion.raw is not None and not self._ocr:
            prepared = _as_read_before(reading)
        else:
            prepared = await self._read(ingestion)
        assert prepared.sheet is not None  # it was asked for
        ingestion.note_sheet(prepared.sheet)
        ingestion.done(prepared)

    async def _read(self, ingestion: Ingestion) -> PreparedDocument:
        blob = ingestion.document.blob
        async with self._budget.hold(blob.size_bytes if blob else 0):
            ingestion.enter(Stage.FETCHING)
            content = await fetch_content(ingestion, self._blobs)
            if ingestion.raw is None:
                ingestion.enter(Stage.STORING)
                await store_content(ingestion, self._blobs, content)
            ingestion.enter(Stage.WAITING)
            asked = replace(ingestion.prepare_request(content), is_sheet=True, ocr=self._ocr)
            prepared = await self._preparer.prepare(asked, ingestion.enter)
            if prepared.chunk_count:
                prepared = await self._with_artifact(ingestion, prepared)
        return prepared

    async def _with_artifact(self, ingestion: Ingestion, prepared: PreparedDocument) -> PreparedDocument:
        if not prepared.embedded:
            ingestion.enter(Stage.EMBEDDING)
            embedded = self._preparer.restore(await self._preparer.embed(prepared.artifact))
            prepared = replace(embedded, sheet=prepared.sheet)
        ingestion.enter(Stage.WRITING)
        await self._blobs.put(artifact_key(*ingestion.address), prepared.artifact)
        return prepared

    # --- After the sheets -----------------------------------------------------------------------

    @activity.defn(name="collect_sheets")
    @translate_errors
    async def collect_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        """Bring the catalog in line with how the sheets ended, and write all of them down as rows."""
        assert request.closed is not None  # this step's own input
        summary, counts = request.summary, request.summary.counts
        async with beating_plainly():
            began_at = await self._began_at(request.batch_id)
            last = processing_event(
                request.batch_id, counts.ended, counts.total, began_at, summary.retry_round, is_last=True
            )
            await tell(self._progress, last)
            teller = await self._finishing(request, SheetStage.COLLECTING_RESULTS)
            await teller.start(f"Collecting results of {counts.total} sheets")
            await reconcile(self._catalog, request.batch_id, request.closed)
            rows = await self._collected(request)
            await self._blobs.put_stream(self._rows_key(request), _row_lines(rows))
            await teller.end(f"Collected all {len(rows)} results in {_seconds_since_scheduled():.2f}s")
        return FinishSheetsOutput(row_count=len(rows))

    @activity.defn(name="write_sheet_csv")
    @translate_errors
    async def write_sheet_csv(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        """``results.csv``: a row a sheet."""
        async with beating_plainly():
            teller = await self._finishing(request, SheetStage.GENERATING_CSV)
            await teller.start(f"Generating CSV of {request.row_count} sheets")
            rows = [row async for row in self._rows(request)]
            key = sheet_csv_key(request.tenant_id, request.batch_id, request.summary.version)

            async def pieces() -> AsyncIterator[bytes]:
                for piece in csv_pieces(rows):
                    yield piece.encode()
                    await asyncio.sleep(0)

            await self._blobs.put_stream(key, pieces())
            await teller.end(f"CSV generation complete: {len(rows)} sheets")
        return FinishSheetsOutput(row_count=len(rows))

    @activity.defn(name="load_sheets")
    @translate_errors
    async def load_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        """The same rows in the catalog."""
        async with beating_plainly():
            teller = await self._finishing(request, SheetStage.LOADING_DATABASE)
            await teller.start(f"Loading {request.row_count} sheets into the database")
            count = 0
            block: list[SheetRow] = []
            async for row in self._rows(request):
                block.append(row)
                if len(block) == _BLOCK:
                    await self._catalog.sheets.load(block, request.summary.version)
                    count, block = count + len(block), []
            await self._catalog.sheets.load(block, request.summary.version)
            count += len(block)
            await teller.end(f"Database load completed: {count} sheets")
        return FinishSheetsOutput(row_count=count)

    @activity.defn(name="clean_up_sheets")
    @translate_errors
    async def clean_up_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        """Remove the upload and what was extracted, but for sheets' own bytes and what a retry would need."""
        tenant_id, batch_id = request.tenant_id, request.batch_id
        async with beating_plainly():
            teller = await self._finishing(request, SheetStage.CLEANUP)
            await teller.start("Cleaning up extracted files")
            needed = await self._still_needed(request)
            upload = await self._upload(tenant_id, batch_id)
            for stored in upload.objects:
                if stored.key not in needed:
                    await self._blobs.delete(stored.key)
            for prefix in (upload_prefix(tenant_id, batch_id), f"{sheets_prefix(tenant_id, batch_id)}readings/"):
                async for blob in self._blobs.list(prefix):
                    if blob.key not in needed:
                        await self._blobs.delete(blob.key)
            await teller.end("Batch cleanup completed")
        return FinishSheetsOutput(row_count=request.row_count)

    @activity.defn(name="conclude_sheets")
    @translate_errors
    async def conclude_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        """Tell how the batch ended: the last event, and the only one that says so."""
        await tell(self._progress, end_event(request.summary, await self._began_at(request.batch_id)))
        return FinishSheetsOutput(row_count=request.row_count)

    # --- Steps ------------------------------------------------------------------------------------

    async def _upload(self, tenant_id: str, batch_id: str) -> SheetUpload:
        parts = await self._catalog.list_parts(batch_id)
        if not parts:
            raise BlobNotFoundError(f"The upload of batch {batch_id} is missing.")
        upload = SheetUpload.model_validate_json(await self._blobs.get(parts[0].key))
        if upload.tenant_id != tenant_id:
            raise BlobNotFoundError(f"The upload of batch {batch_id} is another tenant's.")
        return upload

    def _packer(self, request: ExtractSheetsInput, number: int) -> Packer:
        return Packer(self._blobs, lambda part: upload_key(request.tenant_id, request.batch_id, f"zip-{number}-{part}"))

    async def _note_files(self, request: ExtractSheetsInput, files: Sequence[SheetFile]) -> int:
        pages = range(0, len(files), FILES_A_PAGE)
        for page, start in enumerate(pages):
            key = sheet_files_key(request.tenant_id, request.batch_id, page)
            await self._blobs.put(key, _lines(files[start : start + FILES_A_PAGE]))
        return len(pages)

    async def _files(self, key: str) -> list[SheetFile]:
        return [SheetFile.model_validate_json(line) for line in (await self._blobs.get(key)).splitlines()]

    async def _looked_at(self, files: Sequence[SheetFile], timeout_seconds: float) -> list[SheetFile]:
        """The same files with their readings, where there is one to be had."""
        readable = [file for file in files if file.blob is not None and file.blob.size_bytes]
        size_bytes = sum(file.blob.size_bytes for file in readable if file.blob)
        async with self._budget.hold(size_bytes):
            contents = await asyncio.gather(*(self._content(file) for file in readable))
            requests = [
                _look(file.name, content, timeout_seconds) for file, content in zip(readable, contents, strict=True)
            ]
            outcomes = await self._preparer.prepare_many(requests, lambda _position, _stage: None) if requests else []
            for position, outcome in enumerate(outcomes):
                if isinstance(outcome, ParserKilledError) and not outcome.facts.get("quarantined", True):
                    # A cover that is not read would leave its sheets to the group before.
                    outcomes[position] = await self._second_look(requests[position])
        readings: dict[int, SheetReading] = {
            id(file): outcome.sheet
            for file, outcome in zip(readable, outcomes, strict=True)
            if isinstance(outcome, PreparedDocument) and outcome.sheet is not None
        }
        return [file.model_copy(update={"reading": readings.get(id(file))}) for file in files]

    async def _second_look(self, request: PrepareRequest) -> PreparedDocument | DocumentError:
        """At a file that had its process killed: perhaps nothing but the machine's memory was to blame."""
        try:
            return await self._preparer.prepare(replace(request, kills=1), lambda _stage: None)
        except DocumentError as error:
            return error

    async def _content(self, file: SheetFile) -> bytes:
        assert file.blob is not None  # readable files have one
        return await self._blobs.get(file.blob.key, offset=file.blob.offset, size=file.blob.size_bytes)

    async def _tell_groups(self, batch_id: str, sheets: Sequence[GroupedSheet], *, by_code: bool) -> None:
        teller = await self._teller(batch_id, SheetStage.ORGANIZING_QR, total=len(sheets))
        groups = groups_of(sheets)
        for number, (code, sheet_count) in enumerate(groups.items(), 1):
            name = "no code" if code is None else f"{'QR code' if by_code else 'task'} {code}"
            is_taken = await teller.say(
                f"{number}",
                f"Processing chunk {number}/{len(groups)}: {name}",
                round(100 * number / (len(groups) + 1), 1),
                group_code=code,
                group_sheets=sheet_count,
            )
            if not is_taken:
                # Thousands of groups, some seconds each, would keep the batch from ever being organized.
                break
        await teller.end(f"Organized {len(sheets)} sheets into {len(groups)} groups")

    async def _write_manifest(self, request: OrganizeSheetsInput, sheets: Sequence[GroupedSheet]) -> int:
        """Pages first, then rows, as every manifest."""
        names = FilenameRegistry()
        refs: list[DocumentRef] = []
        for ordinal, sheet in enumerate(sheets):
            file = sheet.file
            filename = names.assign(file.name, ordinal)
            refs.append(
                DocumentRef(
                    ordinal=ordinal,
                    filename=filename,
                    original_filename=stored_original(file.name, filename),
                    blob=file.blob,
                    refused=file.refused,
                    metadata={"sheet": {"group": sheet.group_code}},
                    sheet=None if self._ocr else file.reading,
                    group_code=sheet.group_code,
                    alone=self._ocr or file.reading is None,
                )
            )
        pages = range(0, len(refs), MANIFEST_PAGE_SIZE)
        for page, start in enumerate(pages):
            key = manifest_key(request.tenant_id, request.batch_id, page)
            await self._blobs.put(key, encode_page(refs[start : start + MANIFEST_PAGE_SIZE]))
        for start in range(0, len(refs), _BLOCK):
            await self._catalog.add_documents([_row(request, ref) for ref in refs[start : start + _BLOCK]])
        return len(pages)

    async def _collected(self, request: FinishSheetsInput) -> list[SheetRow]:
        records = [record async for record in self._catalog.iterate_documents(request.batch_id)]
        pictures = [_picture(record) for record in records]
        earlier = await asyncio.to_thread(same_pictures, pictures)
        texts = await self._texts(records)
        return [
            row_of(record, text, None if place is None else records[place].file_id)
            for record, text, place in zip(records, texts, earlier, strict=True)
        ]

    async def _texts(self, records: Sequence[DocumentRecord]) -> list[str | None]:
        """What OCR read on each, where it did."""
        turns = asyncio.Semaphore(_READ_AT_ONCE)

        async def text_of(record: DocumentRecord) -> str | None:
            if record.status is not DocumentStatus.DONE or not record.chunk_count:
                return None
            # Arrow takes half a second to import, and few deployments read texts.
            from ingather.domain.artifact import read_text  # noqa: PLC0415

            async with turns:
                key = artifact_key(record.tenant_id, record.sha256 or "", record.fingerprint or "")
                return read_text(await self._blobs.get(key))

        return list(await asyncio.gather(*map(text_of, records)))

    async def _rows(self, request: FinishSheetsInput) -> AsyncIterator[SheetRow]:
        for line in (await self._blobs.get(self._rows_key(request))).splitlines():
            yield SheetRow.model_validate_json(line)

    @staticmethod
    def _rows_key(request: FinishSheetsInput) -> str:
        return sheet_rows_key(request.tenant_id, request.batch_id, request.summary.version)

    async def _still_needed(self, request: FinishSheetsInput) -> set[str]:
        """Objects in which sheets' own bytes lie, and those of sheets that a retry may run again."""
        needed: set[str] = set()
        async for record in self._catalog.iterate_documents(request.batch_id):
            if record.raw_key is not None:
                needed.add(record.raw_key)
            if record.status not in {DocumentStatus.DONE, DocumentStatus.SKIPPED}:
                document = await self._manifest.document(request.tenant_id, request.batch_id, record.ordinal)
                if document.blob is not None:
                    needed.add(document.blob.key)
        return needed

    async def _began_at(self, batch_id: str) -> datetime:
        record = await self._catalog.get_batch(batch_id)
        return record.created_at if record else datetime.now(UTC)

    async def _teller(self, batch_id: str, stage: SheetStage, **fields: int) -> StageTeller:
        return StageTeller(self._progress, batch_id, stage, await self._began_at(batch_id), **fields)

    async def _finishing(self, request: FinishSheetsInput, stage: SheetStage) -> StageTeller:
        counts = request.summary.counts
        return await self._teller(
            request.batch_id,
            stage,
            retry_round=request.summary.retry_round,
            total=counts.total,
            processed=counts.ended,
        )


def _look(name: str, content: bytes, timeout_seconds: float) -> PrepareRequest:
    return PrepareRequest(
        content=content,
        filename=name.rsplit("/", 1)[-1],
        chunk_size=1_000,
        chunk_overlap=0,
        quality_threshold=0.0,
        timeout_seconds=timeout_seconds,
        is_sheet=True,
    )


def _as_read_before(reading: SheetReading) -> PreparedDocument:
    """What preparing would answer, from what was seen when codes were looked for."""
    return PreparedDocument(
        artifact=b"",
        media_type=reading.media_type,
        page_count=reading.page_count,
        chunk_count=0,
        character_count=0,
        quality=1.0,
        embedded=True,
        sheet=reading,
    )


def _picture(record: DocumentRecord) -> str:
    found = record.metadata.get("sheet")
    known = found.get("picture") if isinstance(found, dict) and record.status is DocumentStatus.DONE else None
    return known if isinstance(known, str) else ""


def _row(request: OrganizeSheetsInput, ref: DocumentRef) -> DocumentRecord:
    return DocumentRecord(
        file_id=file_id_for(request.batch_id, ref.ordinal),
        tenant_id=request.tenant_id,
        batch_id=request.batch_id,
        ordinal=ref.ordinal,
        filename=ref.filename,
        original_filename=ref.original_filename,
        collection=request.collection,
        sha256=ref.blob.sha256 if ref.blob else None,
        size_bytes=ref.blob.size_bytes if ref.blob else None,
        metadata=ref.metadata,
    )


def _lines(files: Iterable[SheetFile]) -> bytes:
    return b"".join(orjson.dumps(file.model_dump(mode="json")) + b"\n" for file in files)


async def _row_lines(rows: Sequence[SheetRow]) -> AsyncIterator[bytes]:
    for start in range(0, len(rows), _BLOCK):
        yield b"".join(row.model_dump_json().encode() + b"\n" for row in rows[start : start + _BLOCK])
        await asyncio.sleep(0)


def _seconds_since_scheduled() -> float:
    """How long the stage took, its waits and earlier attempts included."""
    return max(0.0, (datetime.now(UTC) - activity.info().scheduled_time).total_seconds())

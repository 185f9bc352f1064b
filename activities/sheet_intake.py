"""Before the sheets of a batch: extract the upload, look for codes, organize the files into sheets.

Every stage is idempotent: what it writes is named after the batch, never after an attempt, and what it tells has a
mark. Only an archive that cannot be opened, or a batch that is too large, costs the batch.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import structlog
from temporalio import activity

from activities.byte_budget import DEFAULT_BUDGET_BYTES, ByteBudget
from activities.failures import translate_errors, translate_errors_and_give_up
from activities.heartbeats import beating_plainly
from activities.packing import Packer
from activities.sheet_events import stage_teller
from activities.sheet_extraction import SheetExtraction, uploaded
from ingather.domain.audit import batch_event
from ingather.domain.filenames import FilenameRegistry, stored_original
from ingather.domain.keys import (
    manifest_key,
    sheet_files_key,
    sheet_readings_key,
    skipped_files_key,
    upload_key,
)
from ingather.domain.manifest_pages import encode_page
from ingather.domain.sheet_groups import (
    FILES_A_PAGE,
    GroupedSheet,
    grouped_by_code,
    grouped_by_task,
    groups_of,
    in_name_order,
)
from ingather.models.archive import ArchiveLimits
from ingather.models.audit import SYSTEM, AuditType
from ingather.models.batch import SourceSlice
from ingather.models.content import PreparedDocument, PrepareRequest, SheetReading
from ingather.models.document import DocumentRecord, DocumentRef
from ingather.models.engine import MANIFEST_PAGE_SIZE
from ingather.models.errors import DocumentError, ParserKilledError
from ingather.models.identity import file_id_for
from ingather.models.messages import (
    BuildManifestOutput,
    ExtractSheetsInput,
    ExtractSheetsOutput,
    OrganizeSheetsInput,
    ReadSheetCodesInput,
)
from ingather.models.sheets import SheetFile, SheetStage, UploadType
from ingather.ports.archive_reader import ArchiveReader
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.document_preparer import DocumentPreparer
from ingather.ports.sheet_progress import SheetProgress

log = structlog.get_logger(__name__)

_LOOKED_AT_TOGETHER = 8
"""Files handed to a parser process in one go."""
_BLOCK = 500


class SheetIntakeActivities:
    """What is done before the first sheet.

    Args:
        ocr: sheets are going to be read for what they say, too: what was seen of them here does not do.
    """

    def __init__(
        self,
        blobs: BlobStore,
        catalog: Catalog,
        preparer: DocumentPreparer,
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
        self._archives = archives
        self._limits = limits
        self._progress = progress
        self._budget = budget or ByteBudget(DEFAULT_BUDGET_BYTES)
        self._ocr = ocr

    @activity.defn(name="extract_sheets")
    @translate_errors_and_give_up
    async def extract_sheets(self, request: ExtractSheetsInput) -> ExtractSheetsOutput:
        """Note the upload's files in name order; those of archives are unpacked, those that are no sheets passed over.

        Raises the ``ArchiveError`` that refuses an archive whole, and ``BatchTooLargeError``.
        """
        async with beating_plainly():
            upload = await uploaded(self._blobs, self._catalog, request.tenant_id, request.batch_id)
            teller = await stage_teller(self._progress, self._catalog, request.batch_id, SheetStage.EXTRACTING)
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
            upload = await uploaded(self._blobs, self._catalog, tenant_id, batch_id)
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

    # Steps

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
        teller = await stage_teller(
            self._progress, self._catalog, batch_id, SheetStage.ORGANIZING_QR, total=len(sheets)
        )
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

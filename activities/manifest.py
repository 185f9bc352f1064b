"""The manifest of a batch: which documents it has, in which order, under which names.

Made once, by the batch's first activity, and never changed. Making it is deterministic: run
again after a crash at any point it writes the same objects and the same rows.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from temporalio import activity

from activities.expansion import ArchiveExpander, DocumentCount, Found
from activities.failures import to_document_failure, translate_errors, translate_errors_and_give_up
from activities.heartbeats import beating_plainly
from activities.packing import Packer
from ingather.domain.archives import is_archive
from ingather.domain.audit import batch_event
from ingather.domain.bitmap import decode_bitmap, encode_bitmap
from ingather.domain.filenames import FilenameRegistry, normalise_filename, stored_original
from ingather.domain.keys import manifest_key, upload_key
from ingather.domain.manifest_pages import decode_line, decode_page, encode_page, page_of, split_page
from ingather.domain.metadata_rules import RuledMetadata
from ingather.domain.sources import SourceTally
from ingather.models.archive import ArchiveLimits
from ingather.models.audit import SYSTEM, AuditType
from ingather.models.batch import SubmissionPart
from ingather.models.content import BlobRef, Stage
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentRef, Submitted
from ingather.models.engine import LARGE_BYTES, MANIFEST_PAGE_SIZE, MOST_LARGE_BYTES, PACKABLE_BYTES
from ingather.models.errors import BlobNotFoundError, DocumentTooLargeError
from ingather.models.identity import file_id_for
from ingather.models.messages import BuildManifestInput, BuildManifestOutput, ReadManifestInput, ReadManifestOutput
from ingather.models.metadata import MetadataRules
from ingather.ports.archive_reader import ArchiveReader
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog

log = structlog.get_logger(__name__)

ROWS_BLOCK = 250
"""Catalog rows written at a time: each block is one transaction."""
CACHE_BYTES = 32 * 1024 * 1024
_SIGNATURE_BYTES = 4
_WINDOW_BYTES = 1024 * 1024


class ManifestReader:
    """Documents of manifests, by ordinal. Pages never change, so each is read once and kept while there is room."""

    def __init__(self, blobs: BlobStore, cache_bytes: int = CACHE_BYTES) -> None:
        self._blobs = blobs
        self._room = cache_bytes
        self._pages: OrderedDict[str, Sequence[bytes]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._reading: dict[str, asyncio.Task[Sequence[bytes]]] = {}

    async def document(self, tenant_id: str, batch_id: str, ordinal: int) -> DocumentRef:
        """One document. Raises ``BlobNotFoundError`` when the manifest has no such ordinal."""
        page, line = page_of(ordinal)
        lines = await self._lines(manifest_key(tenant_id, batch_id, page))
        if line >= len(lines):
            raise BlobNotFoundError(f"The manifest of batch {batch_id} has no document {ordinal}.", ordinal=ordinal)
        return decode_line(lines[line])

    async def _lines(self, key: str) -> Sequence[bytes]:
        if key in self._pages:
            self._pages.move_to_end(key)
            return self._pages[key]
        # One read however many documents ask at once; a cancelled one leaves it to the others.
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._read(key))
            reading.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(reading)

    async def _read(self, key: str) -> Sequence[bytes]:
        content = await self._blobs.get(key)
        lines = split_page(content)
        self._pages[key] = lines
        self._sizes[key] = len(content)
        while sum(self._sizes.values()) > self._room and len(self._pages) > 1:
            oldest, _ = self._pages.popitem(last=False)
            del self._sizes[oldest]
        return lines

    def _ended(self, key: str, reading: asyncio.Task[Sequence[bytes]]) -> None:
        del self._reading[key]
        if not reading.cancelled():
            reading.exception()  # seen, even where everybody who waited was cancelled


class ManifestActivities:
    """What a batch does first."""

    def __init__(self, blobs: BlobStore, catalog: Catalog, archives: ArchiveReader, limits: ArchiveLimits) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._archives = archives
        self._limits = limits

    @activity.defn(name="build_manifest")
    @translate_errors_and_give_up
    async def build_manifest(self, request: BuildManifestInput) -> BuildManifestOutput:
        """Expand archives, normalise names, write pages, then the catalog's rows.

        Ends with ``batch_too_large`` when there are more than ``max_documents``.
        """
        async with beating_plainly():
            parts = await self._catalog.list_parts(request.batch_id)
            rules = await self._rules(request.metadata_rules_key)
            limits = self._limits
            if request.max_file_bytes is not None:
                limits = replace(limits, entry_bytes=request.max_file_bytes)
            build = _ManifestBuild(self._blobs, self._archives, limits, request, parts, rules=rules)
            answer = await build.run()
            # Rows come last: a batch that turns out too large leaves none behind.
            for page in range(answer.page_count):
                await self._add_rows(request, page)
            await self._note_start(request, answer.document_count)
        log.info(
            "batch.started",
            batch_id=request.batch_id,
            tenant_id=request.tenant_id,
            document_count=answer.document_count,
        )
        return answer

    async def _note_start(self, request: BuildManifestInput, document_count: int) -> None:
        """A batch that nobody holds is taken up by itself; one that is held, by whoever starts it."""
        record = await self._catalog.get_batch(request.batch_id)
        if record is None or record.spec.hold:
            return
        details = {"document_count": document_count}
        now = datetime.now(UTC)
        await self._catalog.audit.record(
            [batch_event(AuditType.BATCH_STARTED, request.tenant_id, request.batch_id, SYSTEM, now, details=details)]
        )

    @activity.defn(name="read_manifest")
    @translate_errors
    async def read_manifest(self, request: ReadManifestInput) -> ReadManifestOutput:
        """The file names of these documents, which of them may share an activity, and which are large."""
        reader = ManifestReader(self._blobs)
        ordinals = decode_bitmap(request.ordinals)
        async with beating_plainly():
            refs = [await reader.document(request.tenant_id, request.batch_id, ordinal) for ordinal in ordinals]
        return ReadManifestOutput(
            filenames=tuple(ref.filename for ref in refs),
            packable=encode_bitmap(place for place, ref in enumerate(refs) if _is_packable(ref)),
            in_sources=encode_bitmap(place for place, ref in enumerate(refs) if ref.source is not None),
            large=encode_bitmap(place for place, ref in enumerate(refs) if _is_large(ref)),
        )

    async def _rules(self, key: str | None) -> RuledMetadata | None:
        """None for a batch that was submitted under no rules, and so takes metadata as it comes."""
        return RuledMetadata(MetadataRules.model_validate_json(await self._blobs.get(key))) if key else None

    async def _add_rows(self, request: BuildManifestInput, page: int) -> None:
        refs = decode_page(await self._blobs.get(manifest_key(request.tenant_id, request.batch_id, page)))
        for start in range(0, len(refs), ROWS_BLOCK):
            await self._catalog.add_documents([_row(request, ref) for ref in refs[start : start + ROWS_BLOCK]])


class _ManifestBuild:
    """One run over a submission."""

    def __init__(
        self,
        blobs: BlobStore,
        archives: ArchiveReader,
        limits: ArchiveLimits,
        request: BuildManifestInput,
        parts: Sequence[SubmissionPart],
        *,
        rules: RuledMetadata | None,
    ) -> None:
        self._parts = parts
        self._rules = rules
        self._blobs = blobs
        self._archives = archives
        self._limits = limits
        self._request = request
        self._names = FilenameRegistry()
        self._sources = SourceTally()
        self._signatures = _SignatureReader(blobs)
        self._page: list[DocumentRef] = []
        self._page_count = 0
        self._document_count = 0
        self._archive_count = 0

    async def run(self) -> BuildManifestOutput:
        """Write every page; answers what is in them."""
        submitted_count = sum(part.document_count for part in self._parts)
        count = DocumentCount(submitted_count, self._request.max_documents)
        expander = ArchiveExpander(self._blobs, self._archives, self._limits, count)
        async for line in self._submission():
            submitted = self._ruled(Submitted.model_validate_json(line))
            if submitted.source is not None:
                self._sources.count_selected(submitted.source)
                await self._add(Found(submitted.filename, None, submitted.refused), submitted)
                continue
            expanded = await self._expand(expander, submitted)
            if expanded is None:
                self._sources.count_upload()
                refused = submitted.refused or self._too_large(submitted.blob)
                await self._add(Found(submitted.filename, submitted.blob, refused), submitted)
                continue
            self._sources.count_archive(normalise_filename(submitted.filename) or "archive", len(expanded))
            for found in expanded:
                await self._add(found, submitted)
        await self._write_page()
        return BuildManifestOutput(
            document_count=self._document_count, page_count=self._page_count, sources=self._sources.slices()
        )

    def _ruled(self, submitted: Submitted) -> Submitted:
        """With its metadata settled. What does not fit costs the document, or all those of the archive it came with."""
        if self._rules is None:
            return submitted
        metadata, problem = self._rules.settled(submitted.metadata)
        refused = submitted.refused or (to_document_failure(problem, Stage.FETCHING) if problem else None)
        return submitted.model_copy(update={"metadata": metadata, "refused": refused})

    async def _submission(self) -> AsyncIterator[bytes]:
        """The submission's lines, part by part, with flat memory."""
        if not self._parts:
            raise BlobNotFoundError(f"The submission of batch {self._request.batch_id} is missing.")
        for part in self._parts:
            async for line in self._lines(part.key):
                yield line

    async def _lines(self, key: str) -> AsyncIterator[bytes]:
        stat = await self._blobs.stat(key)
        if stat is None:
            raise BlobNotFoundError(f"A part of the submission of batch {self._request.batch_id} is missing.", key=key)
        rest = b""
        # Window by window instead of one stream: minutes may pass between lines while an archive
        # is unpacked, and no connection is to wait that long.
        for offset in range(0, stat.size_bytes, _WINDOW_BYTES):
            piece = await self._blobs.get(key, offset=offset, size=_WINDOW_BYTES)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line:
                    yield line
        if rest:
            yield rest

    async def _expand(self, expander: ArchiveExpander, submitted: Submitted) -> list[Found] | None:
        blob = submitted.blob
        if blob is None or not is_archive(await self._signatures.read(blob)):
            return None
        number = self._archive_count + 1
        packer = Packer(self._blobs, lambda part: self._upload_key(f"zip-{number}-{part}"))
        expanded = await expander.expand(submitted.filename, blob, packer)
        if expanded is not None:
            self._archive_count = number
        return expanded

    def _too_large(self, blob: BlobRef | None) -> DocumentFailure | None:
        """Larger than a document may be, and let in because it begins as archives do."""
        limit = self._limits.entry_bytes
        if blob is None or blob.size_bytes <= limit:
            return None
        error = DocumentTooLargeError(
            f"The file is larger than max_file_bytes ({limit:,}).",
            limit="max_file_bytes",
            limit_value=limit,
            size_bytes=blob.size_bytes,
        )
        return to_document_failure(error, Stage.FETCHING)

    def _upload_key(self, part: str) -> str:
        return upload_key(self._request.tenant_id, self._request.batch_id, part)

    async def _add(self, found: Found, submitted: Submitted) -> None:
        if len(self._page) == MANIFEST_PAGE_SIZE:
            await self._write_page()
        filename = self._names.assign(found.name, self._document_count)
        self._page.append(
            DocumentRef(
                ordinal=self._document_count,
                filename=filename,
                original_filename=stored_original(found.name, filename),
                blob=found.blob,
                metadata=submitted.metadata,
                refused=found.refused or submitted.refused,
                source=submitted.source,
            )
        )
        self._document_count += 1

    async def _write_page(self) -> None:
        if not self._page:
            return
        key = manifest_key(self._request.tenant_id, self._request.batch_id, self._page_count)
        await self._blobs.put(key, encode_page(self._page))
        self._page_count += 1
        self._page = []


class _SignatureReader:
    """First bytes of documents. Those that share a pack are neighbours, so one read serves many of them."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._key = ""
        self._start = 0
        self._window = b""

    async def read(self, blob: BlobRef) -> bytes:
        size = min(_SIGNATURE_BYTES, blob.size_bytes)
        if size < _SIGNATURE_BYTES:
            return b""
        if blob.key != self._key or not self._start <= blob.offset <= self._start + len(self._window) - size:
            is_shared = blob.size_bytes <= _WINDOW_BYTES
            self._window = await self._blobs.get(
                blob.key, offset=blob.offset, size=_WINDOW_BYTES if is_shared else size
            )
            self._key, self._start = blob.key, blob.offset
        begin = blob.offset - self._start
        return self._window[begin : begin + size]


def _is_packable(ref: DocumentRef) -> bool:
    if ref.refused is not None or ref.blob is None or ref.alone:
        return False
    # A sheet that was read before has nothing left to be read.
    return ref.sheet is not None or ref.blob.size_bytes <= PACKABLE_BYTES


def _is_large(ref: DocumentRef) -> bool:
    """Whether it begins before its turn."""
    if ref.refused is not None or ref.blob is None or ref.sheet is not None:
        return False
    return LARGE_BYTES <= ref.blob.size_bytes <= MOST_LARGE_BYTES


def _row(request: BuildManifestInput, ref: DocumentRef) -> DocumentRecord:
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
        source=ref.source,
    )

"""How far one attempt at a document is: its stage, its timings, and the record it ends in."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import structlog
from temporalio import activity

from activities.attempt_clock import AttemptClock
from ingather.domain.filenames import stored_original
from ingather.domain.keys import raw_key, upload_prefix
from ingather.domain.stored import StoredBytes
from ingather.models.content import BlobRef, PreparedDocument, PrepareRequest, SheetReading, Stage
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentRef, DocumentStatus
from ingather.models.errors import DocumentEmptyError, ParserKilledError, SourceUnavailableError
from ingather.models.identity import file_id_for
from ingather.models.messages import IngestDocumentInput, IngestDocumentOutput
from ingather.ports.blob_store import BlobStore

log = structlog.get_logger(__name__)


class Ingestion:
    """Book-keeping of one attempt.

    Args:
        request: the activity's input.
        document: its line of the manifest.
        attempt: 1 for the first.
        fingerprint: what its artifacts are kept under; None where it will have none.
        on_stage: told when a stage begins.
    """

    def __init__(
        self,
        request: IngestDocumentInput,
        document: DocumentRef,
        attempt: int,
        fingerprint: str | None,
        on_stage: Callable[[Stage], None],
    ) -> None:
        self.request = request
        self.document = document
        self.fingerprint = fingerprint
        self.file_id = file_id_for(request.batch_id, document.ordinal)
        self.sha256 = document.blob.sha256 if document.blob else None
        self.is_repeat = attempt > 1 or request.retry_round > 0 or request.again
        """An earlier attempt may have left artifacts to go on from."""
        self.stage = Stage.FETCHING
        self.raw: StoredBytes | None = None
        """Where its own bytes lie, once they do."""
        self.verdict: ParserKilledError | None = None
        """Why its file is not to be tried again."""
        options = request.options
        self.clock = AttemptClock(options.timeout_seconds if options.timeout_bounds_attempt else None)
        """Of this attempt, where its batch bounds the whole of it."""
        self.attempt = attempt
        self._on_stage = on_stage
        # The server's clock, one for all workers: the catalog tells by it which of two attempts came later.
        self._started_at = activity.info().started_time
        self._stage_began = time.perf_counter()
        self._timings_ms: dict[str, float] = {}
        self._outcome: dict[str, object] = {}

    def fetched(self, blob: BlobRef) -> None:
        """The document came out of its source and lies at its own key."""
        self.document = self.document.model_copy(update={"blob": blob})
        self.sha256 = blob.sha256

    def rename(self, filename: str, original: str) -> None:
        """The document goes by the name that its source knows it under."""
        known = {"filename": filename, "original_filename": stored_original(original, filename)}
        self.document = self.document.model_copy(update=known)

    def note_sheet(self, reading: SheetReading) -> None:
        """What is on a scanned sheet, as its metadata tell."""
        known = {
            "group": self.document.group_code or (reading.codes[0] if reading.codes else None),
            "codes": list(reading.codes),
            "width": reading.width,
            "height": reading.height,
            "page_count": reading.page_count,
            "picture": reading.picture,
        }
        self.document = self.document.model_copy(update={"metadata": {**self.document.metadata, "sheet": known}})

    def refuse(self, failure: DocumentFailure) -> None:
        """The document has no bytes to go on with."""
        self.document = self.document.model_copy(update={"refused": failure})

    @property
    def address(self) -> tuple[str, str, str]:
        """Tenant, content and fingerprint: what artifacts are kept under."""
        return self.request.tenant_id, self.sha256 or "", self.fingerprint or ""

    @property
    def content(self) -> str:
        """The same for documents that are one content; a document without bytes is like no other."""
        return "/".join(self.address) if self.sha256 else self.file_id

    @property
    def raw_key(self) -> str:
        """The document's own name for its bytes."""
        assert self.sha256 is not None  # a refused document is never stored
        return raw_key(self.request.tenant_id, self.file_id, self.sha256)

    @property
    def upload(self) -> StoredBytes | None:
        """Where its bytes lie as they came in, if that is this batch's own and so lasts as long as it is referred to."""
        blob = self.document.blob
        if blob is None or not blob.key.startswith(upload_prefix(self.request.tenant_id, self.request.batch_id)):
            return None
        return StoredBytes(blob.key, blob.offset, blob.size_bytes)

    def prepare_request(self, content: bytes) -> PrepareRequest:
        """What the parsers are asked to do."""
        options, left = self.request.options, self.clock.left_seconds
        return PrepareRequest(
            content=content,
            filename=self.document.filename,
            chunk_size=options.chunk_size,
            chunk_overlap=options.chunk_overlap,
            quality_threshold=options.quality_threshold,
            preserve_structure=options.preserve_structure,
            extract_math=options.extract_math,
            parsing_model=options.parsing_model,
            embedding_model=options.embedding_model,
            timeout_seconds=options.timeout_seconds if left is None else min(options.timeout_seconds, left),
            kills=self.request.kills,
        )

    def enter(self, stage: Stage) -> None:
        """Note that a stage begins, and how long the one before took."""
        self._close_stage()
        self.stage = stage
        self.clock.enter(stage)
        self._on_stage(stage)

    def _close_stage(self) -> None:
        now = time.perf_counter()
        spent = (now - self._stage_began) * 1_000
        self._timings_ms[self.stage.value] = round(self._timings_ms.get(self.stage.value, 0.0) + spent, 3)
        self._stage_began = now

    def announced(self, stage: Stage) -> None:
        """Note that a stage begins whose time the parser process measures."""
        self.stage = stage
        self._on_stage(stage)

    def parsed_in(self, timings_ms: Mapping[str, float]) -> None:
        """Split the time since the last ``enter``: what the parser process measured, and before that the wait for it."""
        self.stage = Stage.WAITING
        self._close_stage()
        waited = self._timings_ms[self.stage.value] - sum(timings_ms.values())
        self._timings_ms[self.stage.value] = round(max(0.0, waited), 3)
        self._timings_ms |= timings_ms

    def done(self, prepared: PreparedDocument, artifact: StoredBytes | None = None) -> None:
        """Done with this result; ``artifact`` says where it lies in an object shared with others."""
        self._outcome = {
            **(_in_shared(artifact) if artifact else {}),
            "status": DocumentStatus.DONE,
            "media_type": prepared.media_type,
            "page_count": prepared.page_count,
            "chunk_count": prepared.chunk_count,
            "quality": prepared.quality,
            "warnings": prepared.warnings,
        }

    def accounted_for(self) -> None:
        """Done without anything to show for it."""
        self._outcome = {"status": DocumentStatus.DONE, "chunk_count": 0}

    def answered(self, answer: StoredBytes, made_for: str) -> None:
        """Done: a text's answer lies there. One that was made for another document came out of the cache."""
        self._outcome = {
            "status": DocumentStatus.DONE,
            "artifact_key": answer.key,
            "duplicate_of": None if made_for == self.file_id else made_for,
        }

    def borrow(self, earlier: DocumentRecord) -> None:
        """Done with the artifacts of another collection: only index rows are new."""
        shared = {name: getattr(earlier, name) for name in ("artifact_key", "artifact_offset", "artifact_bytes")}
        self._outcome = _what_it_is(earlier) | shared | {"status": DocumentStatus.DONE}

    def skip(self, earlier: DocumentRecord) -> None:
        self._outcome = _what_it_is(earlier) | {
            "status": DocumentStatus.SKIPPED,
            "duplicate_of": earlier.duplicate_of or earlier.file_id,
        }

    def fail(self, failure: DocumentFailure) -> None:
        self._outcome = {"status": DocumentStatus.FAILED, "error": failure}

    def record(self) -> DocumentRecord:
        """The document as the catalog keeps it."""
        self._close_stage()
        document = self.document
        return DocumentRecord.model_validate(
            {
                "file_id": self.file_id,
                "tenant_id": self.request.tenant_id,
                "batch_id": self.request.batch_id,
                "ordinal": document.ordinal,
                "filename": document.filename,
                "original_filename": document.original_filename,
                "collection": self.request.collection,
                "attempts": self.attempt,
                "sha256": self.sha256,
                "size_bytes": document.blob.size_bytes if document.blob else None,
                "metadata": document.metadata,
                "source": document.source,
                "timings_ms": self._timings_ms,
                "raw_key": self.raw.key if self.raw else None,
                "raw_offset": self.raw.offset if self.raw else 0,
                "fingerprint": self.fingerprint,
                "started_at": self._started_at,
                "ended_at": datetime.now(UTC),
                **self._outcome,
            }
        )


async def fetch_content(ingestion: Ingestion, blobs: BlobStore) -> bytes:
    """The document's bytes as they came in, or were fetched. Raises ``DocumentEmptyError`` where there are none."""
    blob = ingestion.document.blob
    assert blob is not None  # only a refused document has none
    if blob.size_bytes == 0:
        raise DocumentEmptyError(f"{ingestion.document.filename!r} has zero bytes.")
    content = await blobs.get(blob.key, offset=blob.offset, size=blob.size_bytes)
    if ingestion.document.source is not None and hashlib.sha256(content).hexdigest() != blob.sha256:
        # Two attempts at once, and the file changed in between: what lies there is not what its name says.
        await blobs.delete(blob.key)
        raise SourceUnavailableError("The file changed in its source while it was fetched.")
    return content


async def store_content(ingestion: Ingestion, blobs: BlobStore, content: bytes) -> None:
    """Bring the bytes to the document's own key, where they do not lie there already."""
    blob = ingestion.document.blob
    if blob is None or blob.key != ingestion.raw_key:
        await blobs.put(ingestion.raw_key, content)
    ingestion.raw = StoredBytes(ingestion.raw_key)


def output_of(record: DocumentRecord) -> IngestDocumentOutput:
    """What the workflow hears of a document: everything longer stays in the catalog."""
    if record.error is None:
        return IngestDocumentOutput(status=record.status, chunk_count=record.chunk_count or 0)
    return IngestDocumentOutput(status=record.status, code=record.error.code, stage=record.error.stage)


def log_start(ingestion: Ingestion) -> None:
    """One line an attempt; what is logged about the document from here on names it."""
    document = ingestion.document
    structlog.contextvars.bind_contextvars(ordinal=document.ordinal, filename=document.filename)
    log.info("document.started", batch_id=ingestion.request.batch_id, tenant_id=ingestion.request.tenant_id)


def log_starts(ingestions: Iterable[Ingestion]) -> None:
    """The same for documents that run together, each line with its own."""
    for ingestion in ingestions:
        request, document = ingestion.request, ingestion.document
        log.info(
            "document.started",
            batch_id=request.batch_id,
            tenant_id=request.tenant_id,
            ordinal=document.ordinal,
            filename=document.filename,
        )


def log_end(record: DocumentRecord) -> None:
    """One line a document: facts, never text."""
    if record.error is not None:
        log.warning("document.failed", code=record.error.code, reason=record.error.message, **_facts(record))
    else:
        log.info("document.ended", status=record.status.value, chunk_count=record.chunk_count, **_facts(record))


def _facts(record: DocumentRecord) -> dict[str, object]:
    return {
        "batch_id": record.batch_id,
        "tenant_id": record.tenant_id,
        "ordinal": record.ordinal,
        "filename": record.filename,
    }


def _in_shared(artifact: StoredBytes) -> dict[str, object]:
    return {
        "artifact_key": artifact.key,
        "artifact_offset": artifact.offset,
        "artifact_bytes": artifact.size_bytes,
    }


def _what_it_is(record: DocumentRecord) -> dict[str, object]:
    return {
        "media_type": record.media_type,
        "page_count": record.page_count,
        "chunk_count": record.chunk_count,
        "quality": record.quality,
        "warnings": record.warnings,
    }

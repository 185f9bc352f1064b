"""What clients see: one shape for a batch, one for a document, wherever they appear."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from ingather.domain.batch_sums import ran_ms
from ingather.domain.event_stream import share
from ingather.models.batch import (
    BatchProblem,
    BatchProgress,
    BatchRecord,
    BatchState,
    Counts,
    ProcessingOptions,
    SourceProgress,
)
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus
from ingather.models.identity import workflow_id_for
from ingather.models.source import SourceType

_WAITING_FOR = {BatchState.PENDING: "start", BatchState.QUEUED: "place", BatchState.PAUSED: "resume"}


class Resource(BaseModel):
    model_config = ConfigDict(frozen=True)


class BatchLinks(Resource):
    self: str
    events: str
    documents: str
    report: str
    temporal_ui: str | None = None


class DocumentLinks(Resource):
    self: str
    raw: str | None = None
    text: str | None = None


class Batch(Resource):
    """A batch, running or ended."""

    id: str
    name: str
    tenant_id: str
    created_by: str
    status: BatchState
    """Open to additions: treat an unknown value as running."""
    pipeline: str
    collection: str
    priority: int
    counts: Counts
    """The parts always add up to ``total``."""
    progress: float = Field(ge=0.0, le=1.0)
    """Share of the documents that ended."""
    waiting_for: str | None = None
    """In words, where nothing goes on: ``start``, ``seal``, ``place 3 of 7``, ``resume``, ``no worker``,
    ``provider limit until 14:05`` (UTC); ``place`` while its position is not known. Open to additions."""
    estimated_completion_at: datetime | None = None
    """At the pace of the last minute, or of the tenant's latest batches for one in line; null while nobody can tell."""
    failures_by_code: dict[str, int] = Field(default_factory=dict)
    sources: list[SourceProgress] = Field(default_factory=list)
    retry_round: int = 0
    indexed: int | None = None
    """Done documents that search can find; null where nobody counts any more."""
    problem: BatchProblem | None = None
    """Why the batch as a whole could not run."""
    options: ProcessingOptions
    created_at: datetime
    queued_at: datetime | None = None
    """When it was let go: submitted, or started and sealed where it waits for that; null before."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    version: int
    stale: bool = False
    """True when the engine did not answer in time and these are the last known numbers."""
    links: BatchLinks


class DocumentFault(Resource):
    code: str
    message: str
    stage: str | None = None
    action: str = ""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What the code is about: of a document that killed its parser ``quarantined``, ``kills``, ``peak_memory_bytes``
    and ``exit_signal``; of a copy of one that was not tried ``same_as``, the number of that document."""


class DocumentSource(Resource):
    """Where a document is fetched from."""

    connection_id: str
    source_type: SourceType
    file_id: str


class Document(Resource):
    """A document of a batch."""

    id: str
    batch_id: str
    ordinal: int
    filename: str
    original_filename: str | None = None
    """The client's own name, where it had to be changed."""
    collection: str
    status: DocumentStatus
    stage: str | None = None
    """Where it is while in flight, or was when it failed."""
    attempts: int
    error: DocumentFault | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    media_type: str | None = None
    pages: int | None = None
    chunks: int | None = None
    quality: float | None = None
    warnings: list[str] = Field(default_factory=list)
    duplicate_of: str | None = None
    """For a skipped document: the one that was ingested first. For a text: the one its answer was made for before."""
    raw_key: str | None = None
    """Object key of its stored bytes."""
    source: DocumentSource | None = None
    """The file it is in a connected source; null where its bytes were handed in."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    timings: dict[str, float] = Field(default_factory=dict)
    """Milliseconds by stage."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    links: DocumentLinks


class BatchPage(Resource):
    """Batches, newest first."""

    data: list[Batch]
    has_more: bool
    next_cursor: str | None = None


class DocumentPage(Resource):
    """Documents of a batch in ordinal order."""

    data: list[Document]
    has_more: bool
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Links:
    """Builds every URL the API hands out."""

    base_url: str
    """Without a slash at the end."""
    temporal_ui_url: str | None = None
    temporal_namespace: str = "default"

    def batch(self, batch_id: str) -> str:
        return f"{self.base_url}/v1/batches/{batch_id}"

    def batch_links(self, batch_id: str) -> BatchLinks:
        own = self.batch(batch_id)
        return BatchLinks(
            self=own,
            events=f"{own}/events",
            documents=f"{own}/documents",
            report=f"{own}/report",
            temporal_ui=self.temporal_ui(batch_id),
        )

    def temporal_ui(self, batch_id: str) -> str | None:
        if self.temporal_ui_url is None:
            return None
        workflow = quote(workflow_id_for(batch_id), safe="")
        return f"{self.temporal_ui_url.rstrip('/')}/namespaces/{quote(self.temporal_namespace)}/workflows/{workflow}"

    def document_links(self, record: DocumentRecord) -> DocumentLinks:
        own = f"{self.batch(record.batch_id)}/documents/{record.file_id}"
        has_text = record.status in (DocumentStatus.DONE, DocumentStatus.SKIPPED) and record.fingerprint is not None
        return DocumentLinks(
            self=own,
            raw=f"{own}/raw" if record.raw_key else None,
            text=f"{own}/text" if has_text else None,
        )


@dataclass(frozen=True, slots=True)
class Outlook:
    """Why a batch stands still, and when it should be done."""

    waiting_for: str | None = None
    estimated_completion_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BatchSnapshot:
    """A batch at one moment: what the catalog knows, overlaid with what the engine says."""

    record: BatchRecord
    progress: BatchProgress
    stale: bool = False
    outlook: Outlook | None = None
    """None where nobody looked; the batch's state says the rest."""

    @classmethod
    def from_record(cls, record: BatchRecord, *, stale: bool = False) -> Self:
        """As the catalog has it: exact once the batch ended."""
        took = ran_ms(record.started_at, record.ended_at) if record.state.is_final else None
        progress = BatchProgress(
            state=record.state,
            counts=record.counts,
            version=record.version,
            priority=record.priority,
            failures_by_code=record.failures_by_code,
            sources=record.sources,
            retry_round=record.retry_round,
            indexed=record.counts.done if record.state.is_final else 0,
            problem=record.problem,
            created_at=record.created_at,
            queued_at=record.queued_at,
            started_at=record.started_at,
            ended_at=record.ended_at,
            rested_ms=0 if took is None or record.ran_ms is None else max(took - record.ran_ms, 0),
        )
        return cls(record=record, progress=progress, stale=stale)

    @property
    def is_final(self) -> bool:
        return self.progress.state.is_final

    @property
    def said_to_wait_for(self) -> str | None:
        """What the batch itself knows of why it waits; its state, before it has spoken."""
        progress, record = self.progress, self.record
        if progress.waiting_for is not None:
            return progress.waiting_for
        if progress.state is BatchState.PENDING and record.spec.open and record.sealed_at is None:
            return "seal"
        return _WAITING_FOR.get(progress.state)


def batch_resource(snapshot: BatchSnapshot, links: Links) -> Batch:
    """The batch as clients see it."""
    record, progress = snapshot.record, snapshot.progress
    outlook = snapshot.outlook or Outlook(snapshot.said_to_wait_for)
    counts = progress.counts
    return Batch(
        id=record.batch_id,
        name=record.name,
        tenant_id=record.tenant_id,
        created_by=record.spec.created_by,
        status=progress.state,
        pipeline=record.spec.pipeline,
        collection=record.spec.collection,
        priority=progress.priority,
        counts=counts,
        progress=share(progress),
        waiting_for=outlook.waiting_for,
        estimated_completion_at=outlook.estimated_completion_at,
        failures_by_code=progress.failures_by_code,
        sources=list(progress.sources),
        retry_round=progress.retry_round,
        indexed=progress.indexed,
        problem=progress.problem,
        options=record.spec.options,
        created_at=record.created_at,
        queued_at=_queued_at(snapshot),
        started_at=progress.started_at,
        ended_at=progress.ended_at,
        metadata=record.spec.metadata,
        version=progress.version,
        stale=snapshot.stale,
        links=links.batch_links(record.batch_id),
    )


def _queued_at(snapshot: BatchSnapshot) -> datetime | None:
    record, progress = snapshot.record, snapshot.progress
    if not (record.spec.hold or record.spec.open):
        return record.created_at
    return progress.queued_at or progress.started_at  # the former is known since it is noted


def _fault(error: DocumentFailure) -> DocumentFault:
    return DocumentFault(
        code=error.code, message=error.message, stage=error.stage, action=error.action, facts=error.facts
    )


def document_resource(record: DocumentRecord, links: Links, *, stage: Stage | None = None) -> Document:
    """The document as clients see it; ``stage`` is the live one of a document in flight."""
    error = record.error
    where = stage or (error.stage if error else None)
    return Document(
        id=record.file_id,
        batch_id=record.batch_id,
        ordinal=record.ordinal,
        filename=record.filename,
        original_filename=record.original_filename,
        collection=record.collection,
        status=record.status,
        stage=where,
        attempts=record.attempts,
        error=_fault(error) if error else None,
        sha256=record.sha256,
        size_bytes=record.size_bytes,
        media_type=record.media_type,
        pages=record.page_count,
        chunks=record.chunk_count,
        quality=record.quality,
        warnings=list(record.warnings),
        duplicate_of=record.duplicate_of,
        raw_key=record.raw_key,
        source=DocumentSource(**record.source.model_dump(exclude={"selection"})) if record.source else None,
        metadata=record.metadata,
        timings=record.timings_ms,
        started_at=record.started_at,
        ended_at=record.ended_at,
        links=links.document_links(record),
    )

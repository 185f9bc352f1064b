"""A batch: what was asked for, how far it is, how it ended."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ingather.models.identity import BatchId, TenantId

MAX_DOCUMENTS_PER_WORKFLOW = 1_000
"""Documents one workflow execution runs itself: one execution is one lock."""

DEFAULT_COLLECTION = "default"
MAX_COLLECTION_LENGTH = 255

CollectionName = Annotated[
    str, StringConstraints(max_length=MAX_COLLECTION_LENGTH, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$")
]
"""What callers call it, spaces, slashes and quotes too: it is a value in the catalog and in the index, and part of no object's
key. Control characters and line separators are refused, because they would steer terminals and break lines of logs.
"""

OWN_OBJECTS = frozenset({"tenant_jobs"})
"""Contracts that promise their callers each document's bytes at its own key."""


class BatchState(StrEnum):
    """The life of a batch. Open to additions: clients treat an unknown value as running."""

    PENDING = "pending"
    """Accepted, waits for ``start`` or, while documents may still be added, for ``seal``."""
    QUEUED = "queued"
    """Waits for a place."""
    RUNNING = "running"
    PAUSING = "pausing"
    """No new documents start; those in flight finish."""
    PAUSED = "paused"
    RETRYING = "retrying"
    FINALIZING = "finalizing"
    """Every document ended; index and report are being completed."""
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"
    FAILED = "failed"
    """Every document failed, or the manifest could not be made."""
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({BatchState.COMPLETED, BatchState.COMPLETED_WITH_FAILURES, BatchState.FAILED, BatchState.CANCELLED})


class Counts(BaseModel):
    """How many documents stand where. The parts add up to ``total`` in every snapshot."""

    model_config = ConfigDict(frozen=True)

    total: int = 0
    pending: int = 0
    in_flight: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        parts = self.pending + self.in_flight + self.done + self.failed + self.skipped + self.cancelled
        if parts != self.total:
            raise ValueError(f"counts do not add up: {parts} documents in states, {self.total} in total")
        return self

    @property
    def ended(self) -> int:
        return self.processed + self.cancelled

    @property
    def processed(self) -> int:
        """Ended by themselves."""
        return self.done + self.failed + self.skipped


class ProcessingOptions(BaseModel):
    """How each document of a batch is processed. Resolved at submission, so a new default never changes a running batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chunk_size: int = Field(default=1_000, ge=50, le=20_000)
    """Characters."""
    chunk_overlap: int = Field(default=200, ge=0)
    """Characters shared by neighbours; less than ``chunk_size``."""
    quality_threshold: float = Field(default=0.0, ge=0.0, le=1.0)
    """Text that scores less fails with ``low_quality``; 0 accepts all."""
    skip_existing: bool = True
    """Skip content that this collection already has under the same fingerprint.

    Under another one it is processed, and its chunks replace those that the collection has, unless another model
    embedded them: each model has an index of its own.
    """
    preserve_structure: bool = True
    """Break chunks at headings and pages first and keep both as chunk metadata."""
    max_workers: int | None = Field(default=None, ge=1, le=48)
    """Documents of the batch worked on at once, in all its children together.

    Without it, what the workers can take: a batch keeps 48 in flight, a larger one 48 in each of its children.
    """
    parallel_processing: bool = True
    """Work on several documents at once, a few large ones ahead of their turn.

    Without it on one after the other, in their order, whatever ``max_workers`` says.
    """
    retry_failed_files: bool = True
    """Try a document again by itself that failed for a reason that may pass."""
    max_retries: int = Field(default=3, ge=0, le=20)
    """How often such a document is tried again: its source did not answer, or a bug of ours met it.

    An outage of the service's own storage, catalog or engine is waited for and is no document's failure.
    """
    extract_math: bool = False
    """Never cut a formula in LaTeX that fits into a chunk, and keep each chunk's formulas as its metadata."""
    parsing_model: str | None = Field(default=None, max_length=255)
    """The deployment's language model, where it shall read what the parsers found and write it as Markdown."""
    embedding_model: str | None = Field(default=None, max_length=500)
    """A further model of the deployment that the documents are embedded by, and found by in its own index."""
    pack_small: bool = False
    """Let up to 16 documents under 64 KB share an activity, also in a batch of 1,000 documents or fewer."""
    timeout_seconds: float = Field(default=60.0, gt=0, le=3_600)
    """Wall clock of one parse; ``parser_seconds`` of ``GET /v1/limits`` where a batch does not say."""
    timeout_bounds_attempt: bool = False
    """Let ``timeout_seconds`` bound a whole attempt at a document: to fetch, store, parse, chunk, embed and write it.

    Time in line behind other documents does not count, nor does the index, which is written for many at once.
    """

    @property
    def workers(self) -> int | None:
        """Documents of the batch worked on at once; None for what the workers can take."""
        return self.max_workers if self.parallel_processing else 1

    @property
    def packs_documents(self) -> bool:
        """Whether small documents may share an activity: in one they are on their way together."""
        alone = self.timeout_bounds_attempt or self.parsing_model is not None or self.embedding_model is not None
        return self.parallel_processing and not alone

    @property
    def retries(self) -> int:
        """Further attempts at a document that failed for a reason that may pass."""
        return self.max_retries if self.retry_failed_files else 0

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.chunk_overlap >= self.chunk_size:
            raise ValueError("chunk_overlap must be less than chunk_size")
        return self


class BatchSpec(BaseModel):
    """Everything that differs between batches. The workflow is the same for all."""

    model_config = ConfigDict(frozen=True)

    batch_id: BatchId
    tenant_id: TenantId
    name: str = Field(max_length=255)
    created_by: str = "anonymous"
    contract: str = "v1"
    """The door it came through."""
    pipeline: str = "ingest"
    collection: str = DEFAULT_COLLECTION
    priority: int = Field(default=3, ge=1, le=5)
    """1 is the most urgent, as in Temporal."""
    options: ProcessingOptions = ProcessingOptions()
    metadata: dict[str, Any] = Field(default_factory=dict)
    submitted_count: int = Field(ge=0)
    """Things handed in, archives counted as one each."""
    submitted_bytes: int = Field(default=0, ge=0)
    """Their bytes, as handed in: what admission counts."""
    hold: bool = False
    """Wait in ``pending`` until ``start``."""
    open: bool = False
    """Takes more documents until it is sealed; wait in ``pending`` until then."""
    max_documents: int = Field(default=1_000_000, ge=1)
    """What archives unpack to included; more fails the batch with ``batch_too_large``."""
    children_at_once: int = Field(default=8, ge=1, le=20)
    """Children of a large batch that run at one time."""
    max_file_bytes: int | None = Field(default=None, ge=1)
    """Of one document, also one that comes out of an archive; the deployment's own limit when None."""
    fairness_weight: float = Field(default=1.0, gt=0)
    """Its tenant's share of the workers beside other tenants'."""
    metadata_rules_key: str | None = None
    """Object with the ``MetadataRules`` it was submitted under; None where its tenant had none."""
    is_heard: bool = False
    """Webhooks are told of each change of its state; without it, of its end alone. Set where somebody listened when it was
    submitted."""


class SourceSlice(BaseModel):
    """Documents of one source: a contiguous range of ordinals, so its counts need no list."""

    model_config = ConfigDict(frozen=True)

    name: str
    """``upload``, the archive's file name, or the connection's id."""
    source_type: str
    """``upload``, ``zip``, or a ``SourceType``."""
    first_ordinal: int
    document_count: int
    connection_id: str | None = None
    """Set for the files of one selection."""


class SourceProgress(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    source_type: str
    counts: Counts
    connection_id: str | None = None
    """Set for the files of one selection."""


class BatchProblem(BaseModel):
    """Why a whole batch could not run."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    action: str = ""


class ChildProgress(BaseModel):
    """A running child of a large batch. Its documents are ``in_flight`` in the parent's own counts until it ends."""

    model_config = ConfigDict(frozen=True)

    index: int
    retry_round: int = 0
    document_count: int


class BatchProgress(BaseModel):
    """An exact snapshot, answered by the ``progress`` query and kept small in the memo."""

    model_config = ConfigDict(frozen=True)

    state: BatchState
    counts: Counts
    version: int = 0
    """Grows with every change, across runs of the same workflow id: the ETag."""
    priority: int = 3
    failures_by_code: dict[str, int] = Field(default_factory=dict)
    in_flight: tuple[int, ...] = ()
    """Ordinals being worked on, the first 48 of them."""
    children: tuple[ChildProgress, ...] = ()
    """Children at work, in a batch of more than 1,000 documents."""
    children_version: int = 0
    """Versions of the children whose answers are in this snapshot, added up; grows while ``version`` stays."""
    waiting_for: str | None = None
    """What the batch itself knows of why it waits: ``start``, ``seal`` or ``place``."""
    sources: tuple[SourceProgress, ...] = ()
    retry_round: int = 0
    indexed: int = 0
    """Done documents that search can find."""
    problem: BatchProblem | None = None
    created_at: datetime | None = None
    queued_at: datetime | None = None
    """When it was let go: submitted, or started and sealed where it waits for that; None before."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    rested_ms: int = 0
    """Between earlier ends and the retries that opened the batch again, all together."""


class SubmissionPart(BaseModel):
    """A piece of what was handed in: an object of ``Submitted`` lines. A batch's documents are its parts in order."""

    model_config = ConfigDict(frozen=True)

    batch_id: BatchId
    number: int = Field(default=0, ge=0)
    """Its place in the batch; the catalog gives it."""
    part_id: str = Field(min_length=1, max_length=100)
    """What makes two requests one: the same id is the same part."""
    key: str
    """Its object."""
    document_count: int = Field(ge=0)
    """Things handed in, archives counted as one each."""
    size_bytes: int = Field(default=0, ge=0)
    """Bytes of the documents."""
    fingerprint: str | None = None
    """SHA-256 of the request that brought it."""
    created_at: datetime


class SubmissionTotals(BaseModel):
    """All that was handed in for a batch so far."""

    model_config = ConfigDict(frozen=True)

    part_count: int = 0
    document_count: int = 0
    size_bytes: int = 0

    def plus(self, part: SubmissionPart) -> Self:
        """With one part more."""
        return type(self)(
            part_count=self.part_count + 1,
            document_count=self.document_count + part.document_count,
            size_bytes=self.size_bytes + part.size_bytes,
        )


class BatchSummary(BaseModel):
    """How a batch ended: the workflow's result, ``summary.json``, and the catalog's final word."""

    model_config = ConfigDict(frozen=True)

    batch_id: BatchId
    state: BatchState
    counts: Counts
    version: int
    failures_by_code: dict[str, int] = Field(default_factory=dict)
    sources: tuple[SourceProgress, ...] = ()
    retry_round: int = 0
    report_key: str | None = None
    problem: BatchProblem | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    rested_ms: int = 0
    """Between earlier ends and the retries that opened the batch again, all together."""


class BatchRecord(BaseModel):
    """A batch in the catalog. While it runs, Temporal knows better; this is what is left afterwards."""

    model_config = ConfigDict(frozen=True)

    batch_id: BatchId
    tenant_id: TenantId
    spec: BatchSpec
    state: BatchState
    counts: Counts
    version: int = 0
    name: str
    priority: int = 3
    failures_by_code: dict[str, int] = Field(default_factory=dict)
    sources: tuple[SourceProgress, ...] = ()
    retry_round: int = 0
    problem: BatchProblem | None = None
    request_fingerprint: str | None = None
    """SHA-256 of the request that made it, to tell a replay from a reused idempotency key."""
    report_key: str | None = None
    sealed_at: datetime | None = None
    """When its last document had been handed in; None while it takes more."""
    is_told: bool = False
    """Whoever listens to the announcements of its contract has heard how it ended."""
    created_at: datetime
    queued_at: datetime | None = None
    """When it was let go; None until it has ended, and in records of before."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ran_ms: int | None = None
    """From its start to its end, without the rests before its retries; None until it has ended."""

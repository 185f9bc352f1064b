"""A document: its line in the manifest, its record in the catalog, its outcome in the workflow."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ingather.models.content import BlobRef, SheetReading, Stage
from ingather.models.identity import BatchId, FileId, Sha256, TenantId
from ingather.models.source import SourceRef


class DocumentStatus(StrEnum):
    """Where a document stands. ``done``, ``failed``, ``skipped`` and ``cancelled`` are ends; only a retry leaves them."""

    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """The same content was ingested before into this collection with the same fingerprint."""
    CANCELLED = "cancelled"


class DocumentFailure(BaseModel):
    """Why a document failed, for people and for programs. Never a piece of its text."""

    model_config = ConfigDict(frozen=True)

    code: str
    """Stable, from ``ingather.models.errors``."""
    message: str = Field(max_length=2_000)
    stage: Stage | None = None
    action: str = Field(default="", max_length=1_000)
    facts: dict[str, Any] = Field(default_factory=dict)
    """Such as ``peak_memory_bytes`` of a killed parser."""


class Submitted(BaseModel):
    """One thing a client handed in, before archives are expanded: a line of a part of the submission."""

    model_config = ConfigDict(frozen=True)

    filename: str
    """The client's own name, untouched (at most 10,000 characters of it)."""
    blob: BlobRef | None = None
    """Where its bytes lie; None when they could not be taken in, then ``refused`` says why."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    refused: DocumentFailure | None = None
    source: SourceRef | None = None
    """Where its bytes are fetched from when the document runs; there is no ``blob`` then."""


class DocumentRef(BaseModel):
    """One line of a manifest page."""

    model_config = ConfigDict(frozen=True)

    ordinal: int = Field(ge=0)
    """0-based position in the batch."""
    filename: str = Field(min_length=1, max_length=255)
    """Normalised: NFC, base name, no control characters, at most 255 UTF-8 bytes, unique in the batch."""
    original_filename: str | None = None
    """The client's name where normalising changed it."""
    blob: BlobRef | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    refused: DocumentFailure | None = None
    """Set where the document was refused before it could run (a bad archive entry, broken base64)."""
    source: SourceRef | None = None
    """Where its bytes are fetched from when it runs; there is no ``blob`` then."""
    sheet: SheetReading | None = None
    """What was read on a scanned sheet before it ran."""
    group_code: str | None = None
    """What a scanned sheet belongs to."""
    alone: bool = False
    """It has an activity of its own, however small it is."""


class DocumentRecord(BaseModel):
    """A document in the catalog: what outlives the workflow."""

    model_config = ConfigDict(frozen=True)

    file_id: FileId
    tenant_id: TenantId
    batch_id: BatchId
    ordinal: int
    filename: str
    original_filename: str | None = None
    collection: str
    status: DocumentStatus = DocumentStatus.PENDING
    attempts: int = 0
    error: DocumentFailure | None = None
    sha256: Sha256 | None = None
    size_bytes: int | None = None
    media_type: str | None = None
    page_count: int | None = None
    chunk_count: int | None = None
    quality: float | None = None
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = Field(default_factory=dict)
    timings_ms: dict[str, float] = Field(default_factory=dict)
    """Milliseconds by stage of the attempt that ended it."""
    raw_key: str | None = None
    """Object key of the stored bytes, ``raw/{tenant}/{file_id}/{sha256}``; of a small document maybe what it came in with."""
    raw_offset: int = 0
    """Where its bytes begin in that object."""
    source: SourceRef | None = None
    """The file of a connected source that it is; None where its bytes were handed in."""
    fingerprint: str | None = None
    """Pipeline fingerprint its artifacts are kept under."""
    artifact_key: str | None = None
    """Object its artifact shares with others; None where it has its own, named after content and fingerprint."""
    artifact_offset: int = 0
    """Where its artifact begins in that object."""
    artifact_bytes: int | None = None
    """Length of its artifact in that object."""
    duplicate_of: FileId | None = None
    """For a skipped document: the one that was ingested first. For a text: the one its answer was made for before."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    indexed_at: datetime | None = None
    """Since when search finds its chunks; None where it does not, or those of the same content made otherwise took
    their place."""

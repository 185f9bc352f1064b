"""Scanned sheets: what is handed in, which stages it goes through, and what is told of them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ingather.models.content import BlobRef, SheetReading
from ingather.models.document import DocumentFailure, DocumentStatus
from ingather.models.identity import BatchId, FileId, Sha256, TenantId

TaskId = Annotated[str, StringConstraints(pattern=r"^[0-9]{8}$")]
"""Eight digits."""

MAX_OBJECTS = 20_000
"""Stored objects of one upload."""


class SheetModel(BaseModel):
    model_config = ConfigDict(frozen=True)


class UploadType(StrEnum):
    """What was uploaded, and how its sheets are grouped."""

    ZIP_WITH_QR = "zip_with_qr"
    """ZIPs; QR codes on cover pages, or on the sheets, say what belongs together."""
    ZIP_NO_QR = "zip_no_qr"
    """ZIPs; every sheet belongs to ``task_id``."""
    IMAGES = "images"
    """Images and PDFs as they are; every sheet belongs to ``task_id``."""

    @property
    def is_grouped_by_code(self) -> bool:
        return self is UploadType.ZIP_WITH_QR


class SheetObject(SheetModel):
    """One uploaded file, where it lies whole in object storage."""

    key: str
    filename: str
    """The client's own name, untouched."""
    size_bytes: int = Field(ge=0)
    sha256: Sha256 | None = None
    """Where whoever stored it knows it; it is worked out from the bytes otherwise."""


class SheetUpload(SheetModel):
    """A complete upload: what ``SheetService.submit`` makes a batch of."""

    batch_id: BatchId
    """Given out when the upload was created; submitting it again is the same batch."""
    tenant_id: TenantId
    created_by: str
    upload_type: UploadType
    task_id: TaskId | None = None
    """Required unless sheets are grouped by code."""
    objects: tuple[SheetObject, ...] = Field(min_length=1, max_length=MAX_OBJECTS)
    metadata: dict[str, Any] = Field(default_factory=dict)
    """``notes``, ``profile_id`` and ``alignment_mode``, where the client sent them."""
    began_at: datetime | None = None
    """When the upload was created."""


class SheetStage(StrEnum):
    """The stages of a batch of sheets, in their order."""

    UPLOADING = "uploading"
    EXTRACTING = "extracting"
    ORGANIZING_QR = "organizing_qr"
    PROCESSING_SHEETS = "processing_sheets"
    COLLECTING_RESULTS = "collecting_results"
    GENERATING_CSV = "generating_csv"
    LOADING_DATABASE = "loading_database"
    CLEANUP = "cleanup"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_last(self) -> bool:
        return self in {SheetStage.COMPLETED, SheetStage.FAILED}


class StageEvent(SheetModel):
    """One thing to be told of a batch of sheets.

    ``mark`` makes it itself: told again under the same mark, it is not told at all, so that a stage that is
    attempted twice is told once. An event of an earlier stage than the last one is not told either.
    """

    batch_id: BatchId
    stage: SheetStage
    mark: str = Field(min_length=1, max_length=200)
    """Unique among the batch's events, and the same in every attempt: ``uploading/3``, ``0/generating_csv/end``."""
    message: str
    progress_percentage: float = Field(ge=0, le=100)
    """Within the stage."""
    sheets_total: int = Field(default=0, ge=0)
    sheets_processed: int = Field(default=0, ge=0)
    error_details: str | None = None
    """Why it failed; of ``failed`` alone."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the event."""
    retry_round: int = Field(default=0, ge=0)
    """A round begins after the end of the one before."""
    began_at: datetime
    """When the batch began: ``elapsed_seconds`` counts from the first that was told of it."""
    at_most_every: float = Field(default=0.0, ge=0)
    """Seconds since the last event of the same stage before this one may be told; 0 for always."""


class ToldEvent(SheetModel):
    """An event as it was told."""

    number: int
    """Its place among the batch's events, from 1 on."""
    body: bytes
    """The JSON object, exactly as listeners get it, on one line."""


class SheetFile(SheetModel):
    """One file of an upload that is a sheet, or may be a cover."""

    name: str
    """As it was sent, with its path in the archive."""
    blob: BlobRef | None = None
    refused: DocumentFailure | None = None
    """Why its bytes were not taken."""
    reading: SheetReading | None = None
    """What is on it; None before it was looked at, and where it cannot be read."""


class SkippedFile(SheetModel):
    """One file of an upload that is no sheet."""

    name: str
    reason: str


class SheetRow(SheetModel):
    """One sheet as it ended: a row of ``results.csv`` and of the catalog."""

    batch_id: BatchId
    tenant_id: TenantId
    file_id: FileId
    ordinal: int
    filename: str
    original_filename: str | None = None
    group_code: str | None = None
    """What it belongs to: a QR code, or the task's id."""
    status: DocumentStatus
    error_code: str | None = None
    error_message: str | None = None
    sha256: Sha256 | None = None
    size_bytes: int | None = None
    media_type: str | None = None
    width: int | None = None
    height: int | None = None
    page_count: int | None = None
    codes: tuple[str, ...] = ()
    picture_duplicate_of: FileId | None = None
    """An earlier sheet of the batch that looks the same."""
    text: str | None = None
    """What OCR read; None where it was off."""

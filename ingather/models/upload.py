"""A file that comes in pieces: what is known of it while it arrives, and afterwards for those who ask again."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ingather.models.identity import Sha256, TenantId

MIN_PART_BYTES = 5 * 1024 * 1024
"""No part of an object but the last may be smaller: S3's rule, as the next."""
MAX_PARTS = 10_000
"""Parts of one object."""


class UploadKind(StrEnum):
    """How its pieces are told apart."""

    CHUNKS = "chunks"
    """By number, in any order: the scanned sheets contract."""
    TUS = "tus"
    """By offset, one behind the other: tus 1.0.0."""


class UploadState(StrEnum):
    RECEIVING = "receiving"
    STORED = "stored"
    """All of it lies in one object."""
    STARTED = "started"
    """Its batch has begun; of chunks alone, since what came over tus waits to be named in a batch."""


class UploadPiece(BaseModel):
    """Bytes of an upload that arrived and are safe."""

    model_config = ConfigDict(frozen=True)

    index: int = Field(ge=0)
    """0-based: the chunk's number, or the part's where offsets count."""
    size_bytes: int = Field(ge=0)
    sha256: Sha256 | None = None
    key: str | None = None
    """Its own object, until it is a part of the whole."""
    etag: str | None = None
    """The store's tag of the part that it is, or that it shares with its neighbours."""
    number: int | None = None
    """Of chunks: the how-manieth it was to be counted, from 1 on."""


class Upload(BaseModel):
    """An upload as the catalog keeps it."""

    model_config = ConfigDict(frozen=True)

    upload_id: str
    tenant_id: TenantId
    kind: UploadKind
    created_by: str
    state: UploadState = UploadState.RECEIVING
    filename: str = Field(max_length=10_000)
    """The client's own name, untouched."""
    batch_id: str | None = None
    """Of chunks: given out with the first of them."""
    total_chunks: int | None = None
    length: int | None = None
    """Bytes of the whole, where they were announced (tus)."""
    chunk_bytes: int = 0
    """Of the first chunk, after which the others are grouped into parts."""
    first_sha256: Sha256 | None = None
    """Of the first chunk: the same file sent again is told by it."""
    received_count: int = 0
    received_bytes: int = 0
    """Of tus: the offset."""
    tail_key: str | None = None
    """Of tus: the object with the bytes behind the last whole part."""
    tail_bytes: int = 0
    key: str
    """The object that the parts become."""
    multipart_id: str | None = None
    """The store's own name for the parts under way."""
    whole_key: str | None = None
    """The object with all of it, once it is stored."""
    sha256: Sha256 | None = None
    """Of the whole, where somebody has read it in order."""
    details: dict[str, Any] = Field(default_factory=dict)
    """What its batch is made with: upload type, task, notes; or the metadata a tus client sent."""
    used_by: tuple[str, ...] = ()
    """Batches that name it; of tus alone."""
    created_at: datetime
    changed_at: datetime
    """When the last of its pieces came."""
    expires_at: datetime
    stored_at: datetime | None = None

    @property
    def has_all(self) -> bool:
        """Whether every byte has arrived."""
        if self.kind is UploadKind.CHUNKS:
            return self.received_count == self.total_chunks
        return self.received_bytes == self.length

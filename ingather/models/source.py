"""Where documents lie that nobody uploads: connections to sources, their files, and selections of those."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints

from ingather.models.identity import TenantId

MAX_FILE_ID_CHARACTERS = 4_096
MAX_SELECTIONS = 1_000
"""Selections of one request; each may hold any number of files up to the batch's own limit."""

ConnectionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
"""Chosen by the client or made up; unique within its tenant."""

SourceFileId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_FILE_ID_CHARACTERS)]
"""How the source itself names a file: a path below the connection's root, an object key, a URL, a Drive id."""


class SourceType(StrEnum):
    """Kinds of sources that a connection can lead to."""

    GOOGLE_DRIVE = "google_drive"
    LOCAL_ZIP = "local_zip"
    """The entries of one ZIP archive on the workers' disk."""
    LOCAL_DIRECTORY = "local_directory"
    """The files below one folder on the workers' disk."""
    S3 = "s3"
    """The objects of a bucket, or below a prefix of it; with credentials and an endpoint of its own."""
    HTTP = "http"
    """A list of addresses, or all below one."""

    @property
    def has_opaque_ids(self) -> bool:
        """A file's id says nothing to people: its name is known once the source was asked."""
        return self is SourceType.GOOGLE_DRIVE


class SourceRef(BaseModel):
    """A file of a connected source, in place of bytes that were handed in."""

    model_config = ConfigDict(frozen=True)

    connection_id: str = Field(min_length=1, max_length=255)
    source_type: SourceType
    file_id: SourceFileId
    selection: int = Field(default=0, ge=0)
    """0-based place of its selection among those of the request: progress is told for each."""


class SourceFile(BaseModel):
    """What a source says of one of its files or folders."""

    model_config = ConfigDict(frozen=True)

    file_id: str
    name: str
    """As people know it there, untouched."""
    size_bytes: int | None = Field(default=None, ge=0)
    """None where it is known only once it is downloaded."""
    media_type: str | None = None
    """As the source claims; the type that counts is detected from the content."""
    modified_at: datetime | None = None
    is_folder: bool = False


class FileSelection(BaseModel):
    """Files of one connection, to be made documents of a batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connection_id: str = Field(min_length=1, max_length=255)
    source_type: SourceType
    file_ids: Annotated[tuple[SourceFileId, ...], FailFast()] = Field(min_length=1)
    """In the order of their documents. One that is not there fails alone when the batch runs."""


class Connection(BaseModel):
    """A tenant's way to a source. The catalog keeps it without a readable secret."""

    model_config = ConfigDict(frozen=True)

    connection_id: ConnectionId
    tenant_id: TenantId
    source_type: SourceType
    settings: dict[str, Any] = Field(default_factory=dict)
    """What may be shown; fields depend on the type (``ingather.models.connection_settings``)."""
    sealed: str | None = Field(default=None, repr=False)
    """The settings that may not be shown, encrypted; None where there are none."""
    secret_names: tuple[str, ...] = ()
    """Which those are, to be shown masked."""
    created_by: str = "anonymous"
    created_at: datetime

    @property
    def owner(self) -> str:
        """Whom its credentials are sealed for: under another connection's name they are useless."""
        return f"{self.tenant_id}/{self.connection_id}"

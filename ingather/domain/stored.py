"""Where a document's own bytes and its artifact lie: in objects of their own, or in one shared with others."""

from dataclasses import dataclass

from ingather.domain.keys import artifact_key
from ingather.models.document import DocumentRecord


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """A range of an object."""

    key: str
    offset: int = 0
    size_bytes: int | None = None
    """None for all of it."""

    def cut_from(self, stored: bytes) -> bytes:
        """The range, out of the whole object."""
        return stored if self.size_bytes is None else stored[self.offset : self.offset + self.size_bytes]


def raw_of(record: DocumentRecord) -> StoredBytes | None:
    """The document's own bytes; None where none are stored."""
    if record.raw_key is None:
        return None
    return StoredBytes(record.raw_key, record.raw_offset, record.size_bytes)


def artifact_of(record: DocumentRecord) -> StoredBytes | None:
    """What the document became; None where its row does not say which content under which fingerprint it is."""
    if record.artifact_key is not None:
        return StoredBytes(record.artifact_key, record.artifact_offset, record.artifact_bytes)
    if record.sha256 is None or record.fingerprint is None:
        return None
    return StoredBytes(artifact_key(record.tenant_id, record.sha256, record.fingerprint))

"""What is searched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ingather.models.errors import IngatherError
from ingather.models.search import SearchHit, SearchQuery
from ingather.ports.embedder import Vectors


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One document to make searchable: its artifact plus what search filters by."""

    file_id: str
    batch_id: str
    collection: str
    filename: str
    sha256: str
    fingerprint: str
    metadata: dict[str, Any]
    artifact: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class IndexWrite:
    """What became of documents that were to be made searchable."""

    chunk_count: int
    """Chunks written."""
    refused: Mapping[str, IngatherError] = field(default_factory=dict)
    """Why a document was left out, by file id: ``ArtifactUnreadableError``, or ``ConfigurationError`` where its
    vectors are not as long as this index's."""


class ChunkIndex(Protocol):
    """Chunks with vectors and full text, one set per tenant, collection and content.

    Methods raise ``IndexUnavailableError``; none blocks the event loop.
    """

    async def upsert(self, tenant_id: str, entries: Sequence[IndexEntry]) -> IndexWrite:
        """Add or replace the chunks of documents. What cannot be read is left out and named; the others are written.

        Row id is ``{collection}/{sha256}/{chunk ordinal}``, so two attempts at once, under one
        fingerprint or two, never leave a chunk twice; after a writer was killed half-way, the
        next attempt puts its documents right.
        """
        ...

    async def search(self, query: SearchQuery, vector: Vectors | None) -> list[SearchHit]:
        """Best chunks first. ``vector`` has shape ``(1, dimensions)``; None searches full text alone."""
        ...

    async def count(self, tenant_id: str, *, batch_id: str | None = None, collection: str | None = None) -> int:
        """Chunks in the index."""
        ...

    async def optimize(self, tenant_id: str) -> None:
        """Compact files and bring the indices up to date. Safe at any time."""
        ...

    async def check(self) -> None: ...

    async def close(self) -> None: ...

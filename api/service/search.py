"""Answering questions from the index."""

import asyncio
from typing import Protocol

from typing_extensions import TypeIs

from ingather.models.content import Chunk
from ingather.models.search import SearchHit, SearchQuery
from ingather.ports.chunk_index import ChunkIndex
from ingather.ports.embedder import Embedder, RemoteEmbedder, Vectors


class SearchBackend(Protocol):
    """Whatever holds the index and, where it is a local one, the model. Raises ``IndexUnavailableError``."""

    async def search(self, query: SearchQuery, vector: Vectors | None) -> list[SearchHit]:
        """Best chunks first; the question is turned into a vector here when none is given."""
        ...

    async def count(self, tenant_id: str) -> int:
        """Searchable chunks."""
        ...

    async def read_text(self, artifact: bytes) -> str:
        """The whole text in a document's artifact."""
        ...

    async def read_chunks(self, artifact: bytes, first: int, limit: int, page: int | None) -> tuple[list[Chunk], bool]:
        """Chunks in a document's artifact from an ordinal on, and whether there are more."""
        ...

    async def check(self) -> None: ...


class LocalSearch:
    """Index and model in this process."""

    def __init__(self, index: ChunkIndex, embedder: Embedder | None) -> None:
        self._index = index
        self._embedder = embedder

    async def search(self, query: SearchQuery, vector: Vectors | None) -> list[SearchHit]:
        if vector is None and self._embedder is not None:
            vector = await asyncio.to_thread(self._embedder.embed, [query.text])
        return await self._index.search(query, vector)

    async def count(self, tenant_id: str) -> int:
        return await self._index.count(tenant_id)

    async def read_text(self, artifact: bytes) -> str:
        # Arrow is large: it comes with the index, and only where that is.
        from ingather.domain.artifact import read_text  # noqa: PLC0415  # Arrow is loaded by the search process alone

        return await asyncio.to_thread(read_text, artifact)

    async def read_chunks(self, artifact: bytes, first: int, limit: int, page: int | None) -> tuple[list[Chunk], bool]:
        from ingather.domain.artifact import read_chunks  # noqa: PLC0415  # as above

        return await asyncio.to_thread(read_chunks, artifact, first=first, limit=limit, page=page)

    async def check(self) -> None:
        await self._index.check()


class SearchService:
    """Hybrid search within one tenant. Raises ``IndexUnavailableError`` or ``EmbedderUnavailableError``."""

    def __init__(self, backend: SearchBackend, embedder: RemoteEmbedder | None = None) -> None:
        self._backend = backend
        self._embedder = embedder

    async def search(self, query: SearchQuery) -> list[SearchHit]:
        """Best chunks first."""
        vector = await self._embedder.embed_remote([query.text]) if self._embedder else None
        return await self._backend.search(query, vector)

    async def count(self, tenant_id: str) -> int:
        """Searchable chunks."""
        return await self._backend.count(tenant_id)

    async def read_text(self, artifact: bytes) -> str:
        """The whole text in a document's artifact."""
        return await self._backend.read_text(artifact)

    async def read_chunks(
        self, artifact: bytes, *, first: int, limit: int, page: int | None = None
    ) -> tuple[list[Chunk], bool]:
        """Chunks in a document's artifact from an ordinal on, and whether there are more."""
        return await self._backend.read_chunks(artifact, first, limit, page)

    async def check(self) -> None:
        await self._backend.check()


def remote_or_none(embedder: Embedder | RemoteEmbedder) -> RemoteEmbedder | None:
    """The model, when it is one behind HTTP."""
    return embedder if _is_remote(embedder) else None


def local_or_none(embedder: Embedder | RemoteEmbedder) -> Embedder | None:
    """The model, when it is one that computes here."""
    return None if _is_remote(embedder) else embedder


def _is_remote(embedder: Embedder | RemoteEmbedder) -> TypeIs[RemoteEmbedder]:
    return hasattr(embedder, "embed_remote")

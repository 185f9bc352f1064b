"""Answering questions from the index."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

import structlog

from ingather.models.content import Chunk
from ingather.models.errors import ConfigurationError, EmbedderUnavailableError
from ingather.models.search import SearchHit, SearchQuery
from ingather.ports.chunk_index import ChunkIndex
from ingather.ports.embedder import Embedder, RemoteEmbedder, Vectors, is_remote

log = structlog.get_logger(__name__)

_BEYOND = 2**31 - 1
"""More chunks, or pages, than any document has."""


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

    def __init__(
        self, index: ChunkIndex, embedder: Embedder | None, others: Mapping[str, Embedder] | None = None
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._others = others or {}

    async def search(self, query: SearchQuery, vector: Vectors | None) -> list[SearchHit]:
        embedder = self._embedder if query.model is None else self._others.get(query.model)
        if vector is None and embedder is not None:
            vector = await asyncio.to_thread(embedder.embed, [query.text])
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

    def __init__(
        self,
        backend: SearchBackend,
        embedder: RemoteEmbedder | None = None,
        others: Mapping[str, Embedder | RemoteEmbedder] | None = None,
        patience: timedelta = timedelta(seconds=5),
    ) -> None:
        self._backend = backend
        self._embedder = embedder
        self._others = others or {}
        """Further models that batches may name: each has an index of its own."""
        self._patience = patience
        """With each of them, for one question; the deployment's own has all the time it takes."""

    async def search(self, query: SearchQuery) -> list[SearchHit]:
        """Best chunks first, out of every model's index."""
        vector = await self._embedder.embed_remote([query.text]) if self._embedder else None
        hits = await self._backend.search(query, vector)
        if not self._others:
            return hits
        for name, embedder in self._others.items():
            hits += await self._of_other(query.model_copy(update={"model": name}), embedder)
        # Each index ranks for itself; what leads by words and by meaning leads everywhere. The same piece of a
        # document that was taken in twice, for two models, is one answer.
        best = {(hit.collection, hit.filename, hit.chunk_ordinal, hit.text): hit for hit in sorted(hits, key=_score)}
        return sorted(best.values(), key=_score, reverse=True)[: query.limit]

    async def _of_other(self, query: SearchQuery, embedder: Embedder | RemoteEmbedder) -> list[SearchHit]:
        vector = None
        if is_remote(embedder):
            # Where it is away, hangs or refuses its key, its documents are still found by their words.
            try:
                async with asyncio.timeout(self._patience.total_seconds()):
                    vector = await embedder.embed_remote([query.text])
            except (EmbedderUnavailableError, ConfigurationError) as error:
                log.warning("search.without_vectors", model=query.model, reason=error.message)
            except TimeoutError:
                log.warning("search.without_vectors", model=query.model, reason="no answer in time")
        return await self._backend.search(query, vector)

    async def close(self) -> None:
        """Let go of models behind HTTP."""
        for embedder in (self._embedder, *self._others.values()):
            if embedder is not None and is_remote(embedder):
                await embedder.close()

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
        # Clients name any number; none beyond is one of a chunk or a page, and its columns compare with none.
        first, page = min(first, _BEYOND), None if page is None else min(page, _BEYOND)
        return await self._backend.read_chunks(artifact, first, limit, page)

    async def check(self) -> None:
        await self._backend.check()


def _score(hit: SearchHit) -> float:
    return hit.score


def remote_or_none(embedder: Embedder | RemoteEmbedder) -> RemoteEmbedder | None:
    """The model, when it is one behind HTTP."""
    return embedder if is_remote(embedder) else None


def local_or_none(embedder: Embedder | RemoteEmbedder) -> Embedder | None:
    """The model, when it is one that computes here."""
    return None if is_remote(embedder) else embedder

"""Answering questions from the index."""

import asyncio
from functools import partial
from typing import Protocol

from typing_extensions import TypeIs

from ingather.models.search import SearchHit, SearchQuery
from ingather.ports.chunk_index import ChunkIndex
from ingather.ports.embedder import Embedder, RemoteEmbedder, Vectors


class QueryEmbedder(Protocol):
    """Turns one question into a vector."""

    async def __call__(self, text: str) -> Vectors: ...


def query_embedder(embedder: Embedder | RemoteEmbedder) -> QueryEmbedder:
    """The same call for a model in this process and one behind HTTP."""
    if _is_remote(embedder):
        return partial(_embed_remotely, embedder)
    return partial(_embed_here, embedder)


def _is_remote(embedder: Embedder | RemoteEmbedder) -> TypeIs[RemoteEmbedder]:
    return hasattr(embedder, "embed_remote")


async def _embed_remotely(embedder: RemoteEmbedder, text: str) -> Vectors:
    return await embedder.embed_remote([text])


async def _embed_here(embedder: Embedder, text: str) -> Vectors:
    return await asyncio.to_thread(embedder.embed, [text])


class SearchService:
    """Hybrid search within one tenant."""

    def __init__(self, index: ChunkIndex, embed: QueryEmbedder) -> None:
        self._index = index
        self._embed = embed

    async def search(self, query: SearchQuery) -> list[SearchHit]:
        """Best chunks first. Raises ``IndexUnavailableError`` or ``EmbedderUnavailableError``."""
        return await self._index.search(query, await self._embed(query.text))

    async def count(self, tenant_id: str) -> int:
        """Searchable chunks."""
        return await self._index.count(tenant_id)

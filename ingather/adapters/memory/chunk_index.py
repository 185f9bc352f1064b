"""The search index in a list."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingather.domain.artifact import decode
from ingather.domain.metadata_pairs import metadata_pairs
from ingather.domain.ranking import fuse_ranks
from ingather.models.errors import ArtifactUnreadableError, IngatherError
from ingather.models.search import SearchHit, SearchQuery
from ingather.ports.chunk_index import IndexEntry, IndexWrite
from ingather.ports.embedder import Vectors

_WORD = re.compile(r"\w+")
_CANDIDATES = 50
_Document = tuple[str, str, str]
"""Tenant, collection, SHA-256: what has one set of chunks."""


@dataclass(frozen=True, slots=True)
class _Row:
    hit: SearchHit
    pairs: frozenset[str]
    words: Counter[str]
    vector: Vectors


class InMemoryChunkIndex:
    """Compares a query with every chunk. Chunks belong to the batch that indexed them last."""

    def __init__(self) -> None:
        self._documents: dict[_Document, list[_Row]] = {}

    async def upsert(self, tenant_id: str, entries: Sequence[IndexEntry]) -> IndexWrite:
        readable: dict[_Document, list[_Row]] = {}
        refused: dict[str, IngatherError] = {}
        for entry in entries:
            try:
                readable[tenant_id, entry.collection, entry.sha256] = _rows(entry)
            except ArtifactUnreadableError as error:
                refused[entry.file_id] = error
        self._documents |= readable
        return IndexWrite(sum(map(len, readable.values())), refused)

    async def search(self, query: SearchQuery, vector: Vectors | None) -> list[SearchHit]:
        pairs = metadata_pairs(query.metadata)
        rows = [
            row
            for row in self._select(query.tenant_id, query.batch_id, query.collection)
            if row.pairs.issuperset(pairs)
        ]
        rankings = [_by_words(rows, query.text)]
        if vector is not None:
            rankings.append(_by_vector(rows, vector))
        fused = fuse_ranks(rankings)[: query.limit]
        return [rows[index].hit.model_copy(update={"score": score}) for index, score in fused]

    async def count(self, tenant_id: str, *, batch_id: str | None = None, collection: str | None = None) -> int:
        return len(self._select(tenant_id, batch_id, collection))

    async def optimize(self, tenant_id: str) -> None:
        """A list is as good as it gets."""

    async def check(self) -> None:
        """A list always answers."""

    async def close(self) -> None:
        """Nothing to release."""

    def _select(self, tenant_id: str, batch_id: str | None, collection: str | None) -> list[_Row]:
        return [
            row
            for (tenant, where, _), rows in self._documents.items()
            if tenant == tenant_id and collection in (None, where)
            for row in rows
            if batch_id in (None, row.hit.batch_id)
        ]


def _rows(entry: IndexEntry) -> list[_Row]:
    artifact = decode(entry.artifact)
    vectors = artifact.vectors()
    if vectors is None and artifact.table.num_rows:
        raise ArtifactUnreadableError("The stored result has no vectors yet.")
    # Through JSON and back, so that a hit shows what any other index would show.
    metadata: dict[str, Any] = json.loads(json.dumps(entry.metadata))
    return [
        _Row(
            hit=SearchHit(
                text=chunk.text,
                score=0.0,
                document_id=entry.file_id,
                filename=entry.filename,
                page=chunk.page,
                headings=chunk.headings,
                batch_id=entry.batch_id,
                collection=entry.collection,
                chunk_ordinal=chunk.ordinal,
                metadata=metadata,
            ),
            pairs=frozenset(metadata_pairs(entry.metadata)),
            words=Counter(_WORD.findall(chunk.text.lower())),
            vector=vectors[chunk.ordinal] if vectors is not None else np.empty(0, dtype=np.float32),
        )
        for chunk in artifact.chunks()
    ]


def _by_words(rows: list[_Row], text: str) -> list[int]:
    """Chunks that hold a word of the query; rare words count more, repeated ones less and less."""
    scores: Counter[int] = Counter()
    for word in set(_WORD.findall(text.lower())):
        holders = [index for index, row in enumerate(rows) if row.words[word]]
        for index in holders:
            count = rows[index].words[word]
            scores[index] += np.log1p(len(rows) / len(holders)) * count / (count + 1.2)
    return [index for index, _ in scores.most_common(_CANDIDATES)]


def _by_vector(rows: list[_Row], vector: Vectors) -> list[int]:
    if not rows:
        return []
    closeness = np.stack([row.vector for row in rows]) @ vector[0]
    return [int(index) for index in np.argsort(-closeness, kind="stable")[:_CANDIDATES]]

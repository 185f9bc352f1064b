"""One index a model: vectors of two models say nothing to each other, also where they are of one length.

A document lies in the index of the model that its artifact names; a search asks one of them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ingather.models.errors import ArtifactUnreadableError, ConfigurationError, IngatherError
from ingather.models.search import SearchHit, SearchQuery
from ingather.ports.chunk_index import ChunkIndex, IndexEntry, IndexWrite
from ingather.ports.embedder import Vectors


class IndexByModel:
    """A ``ChunkIndex`` over several.

    Args:
        usual: that of the deployment's own model, and of models that are no longer known.
        others: those of further models, by the models' names.
    """

    def __init__(self, usual: ChunkIndex, others: Mapping[str, ChunkIndex]) -> None:
        self._usual = usual
        self._others = others

    async def upsert(self, tenant_id: str, entries: Sequence[IndexEntry]) -> IndexWrite:
        models = await asyncio.to_thread(lambda: [_model_of(entry) for entry in entries])
        by_model: dict[str | None, list[IndexEntry]] = defaultdict(list)
        refused: dict[str, IngatherError] = {}
        for entry, model in zip(entries, models, strict=True):
            if isinstance(model, ArtifactUnreadableError):
                refused[entry.file_id] = model
            else:
                by_model[model if model in self._others else None].append(entry)
        writes = [await self._index(name).upsert(tenant_id, some) for name, some in by_model.items()]
        for write in writes:
            refused |= write.refused
        return IndexWrite(sum(write.chunk_count for write in writes), refused)

    async def search(self, query: SearchQuery, vector: Vectors | None) -> list[SearchHit]:
        if query.model is not None and query.model not in self._others:
            raise ConfigurationError(f"There is no index of the model {query.model}.")
        return await self._index(query.model).search(query, vector)

    async def count(self, tenant_id: str, *, batch_id: str | None = None, collection: str | None = None) -> int:
        counts = [await index.count(tenant_id, batch_id=batch_id, collection=collection) for index in self._all]
        return sum(counts)

    async def optimize(self, tenant_id: str) -> None:
        for index in self._all:
            await index.optimize(tenant_id)

    async def check(self) -> None:
        for index in self._all:
            await index.check()

    async def close(self) -> None:
        for index in self._all:
            await index.close()

    @property
    def _all(self) -> list[ChunkIndex]:
        return [self._usual, *self._others.values()]

    def _index(self, name: str | None) -> ChunkIndex:
        return self._usual if name is None else self._others[name]


def _model_of(entry: IndexEntry) -> str | ArtifactUnreadableError | None:
    # Arrow comes with the index: whoever writes one has it loaded.
    from ingather.domain.artifact import decode  # noqa: PLC0415 - see above

    try:
        return decode(entry.artifact).header.embedder
    except ArtifactUnreadableError as error:
        return error

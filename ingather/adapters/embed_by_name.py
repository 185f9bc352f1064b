"""A preparer whose documents are embedded by the model that their batch names."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from ingather.adapters.preparer_around import PreparerAround
from ingather.models.content import PreparedDocument, PrepareRequest, Stage
from ingather.models.errors import ConfigurationError
from ingather.ports.document_preparer import DocumentPreparer
from ingather.ports.embedder import Embedder, RemoteEmbedder, Vectors, is_remote

AnyEmbedder = Embedder | RemoteEmbedder


class EmbedByName(PreparerAround):
    """A ``DocumentPreparer`` around another, whose model is for batches that name none.

    Args:
        inner: parses, chunks and embeds.
        embedders: the models that may be named, by their own names.
    """

    def __init__(self, inner: DocumentPreparer, embedders: Mapping[str, AnyEmbedder]) -> None:
        super().__init__(inner)
        self._embedders = embedders

    async def prepare(self, request: PrepareRequest, on_stage: Callable[[Stage], None]) -> PreparedDocument:
        if request.embedding_model is None:
            return await self._inner.prepare(request, on_stage)
        embedder = self._embedders.get(request.embedding_model)
        if embedder is None:
            raise ConfigurationError(
                f"The batch wants its documents embedded by {request.embedding_model}, which this worker has not.",
                action="Set INGATHER_EMBEDDER__OTHERS for workers as for the API, then retry this code.",
            )
        prepared = await self._inner.prepare(replace(request, embedding_model=None), on_stage)
        on_stage(Stage.EMBEDDING)
        # Arrow takes half a second to import, and most workers never come here.
        from ingather.domain import artifact as artifacts  # noqa: PLC0415 - see above

        texts: list[str] = artifacts.decode(prepared.artifact).table.column("text").to_pylist()
        vectors = await vectors_of(embedder, texts)
        artifact = artifacts.with_vectors(prepared.artifact, vectors, embedder=embedder.name)
        return replace(prepared, artifact=artifact, embedded=True)

    async def close(self) -> None:
        await super().close()
        for embedder in self._embedders.values():
            if is_remote(embedder):
                await embedder.close()


async def vectors_of(embedder: AnyEmbedder, texts: list[str]) -> Vectors:
    """Vectors of the texts, in order, wherever the model is. Raises what ``RemoteEmbedder.embed_remote`` does."""
    if not texts:
        return np.empty((0, embedder.dimensions), dtype=np.float32)
    if is_remote(embedder):
        return await embedder.embed_remote(texts)
    return await asyncio.to_thread(embedder.embed, texts)

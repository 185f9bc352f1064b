"""A preparer around another: what stands here is the other's."""

from collections.abc import Callable, Sequence

from ingather.models.content import PreparedDocument, PrepareRequest, Stage
from ingather.models.errors import DocumentError
from ingather.ports.document_preparer import DocumentPreparer


class PreparerAround:
    """All of a ``DocumentPreparer`` but ``prepare``, which is what there is another around it for.

    Documents of a batch that asks for more than the inner one does have an activity each
    (``ProcessingOptions.packs_documents``): those that come many at a time are the inner one's alone.
    """

    def __init__(self, inner: DocumentPreparer) -> None:
        self._inner = inner

    @property
    def description(self) -> dict[str, str]:
        return self._inner.description

    async def prepare_many(
        self,
        requests: Sequence[PrepareRequest],
        on_stage: Callable[[int, Stage], None],
        on_outcome: Callable[[int, PreparedDocument | DocumentError], None] | None = None,
    ) -> list[PreparedDocument | DocumentError]:
        return await self._inner.prepare_many(requests, on_stage, on_outcome)

    def restore(self, artifact: bytes) -> PreparedDocument:
        return self._inner.restore(artifact)

    async def embed(self, artifact: bytes) -> bytes:
        return await self._inner.embed(artifact)

    async def close(self) -> None:
        await self._inner.close()

"""Files of connected sources, brought to where documents' own bytes lie.

A file is fetched by the activity that goes on with it, so that its retries, its heartbeats and its cancel are the
document's. Memory stays flat whatever the size: a small file is held for a moment, a large one passes through into an
object under a key of this attempt, and to its own key once its hash is known. That one follows from the batch, the
ordinal and the content, so that a second attempt writes the same object.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator

from temporalio import activity

from activities.attempts import failure_of
from activities.byte_budget import ByteBudget
from activities.ingestion import Ingestion
from activities.open_sources import OpenSources
from ingather.domain.filenames import normalise_filename
from ingather.domain.keys import raw_key, upload_key
from ingather.models.content import BlobRef, Stage
from ingather.models.document import DocumentFailure
from ingather.models.engine import FETCH_SECONDS
from ingather.models.errors import BlobNotFoundError, DocumentTooLargeError, SourceUnavailableError
from ingather.models.source import SourceFile, SourceRef
from ingather.ports.blob_store import BlobStore

HELD_BYTES = 4 * 1024 * 1024
"""Of one file at a time while it is fetched; what is larger passes through."""


class Fetcher:
    """Fetches what a document's manifest line refers to.

    Args:
        max_file_bytes: of one document, where its batch says no less.
    """

    def __init__(
        self,
        blobs: BlobStore,
        sources: OpenSources,
        budget: ByteBudget,
        max_file_bytes: int,
        *,
        fetch_seconds: float = FETCH_SECONDS,
    ) -> None:
        self._fetch_seconds = fetch_seconds
        self._blobs = blobs
        self._sources = sources
        self._budget = budget
        self._max_file_bytes = max_file_bytes

    async def bring(self, ingestion: Ingestion) -> None:
        """Afterwards the document has its bytes at its own key, or is refused with the reason why not.

        A document that came with its bytes is left as it is. What another attempt may cure is raised, as long as
        another attempt may be made.
        """
        source = ingestion.document.source
        if source is None or ingestion.document.refused is not None:
            return
        failure: DocumentFailure | None = await failure_of(ingestion, self._fetch(ingestion, source))
        if failure is not None:
            ingestion.refuse(failure)

    async def _fetch(self, ingestion: Ingestion, ref: SourceRef) -> None:
        limit = min(ingestion.request.max_file_bytes or self._max_file_bytes, self._max_file_bytes)
        ingestion.enter(Stage.ACCESSING)
        try:
            async with (
                self._budget.hold(HELD_BYTES),
                ingestion.clock.running(),
                asyncio.timeout(self._fetch_seconds),
                self._sources.use(ingestion.request.tenant_id, ref) as source,
                source.download(ref.file_id) as download,
            ):
                _take_name(ingestion, ref, download.file)
                if (download.file.size_bytes or 0) > limit:
                    raise _too_large(limit, download.file.size_bytes)
                ingestion.enter(Stage.DOWNLOADING)
                blob = await self._store(ingestion, _bounded(download.chunks, limit))
        except TimeoutError as error:
            # Whoever sends a byte a second would otherwise keep a place among the workers for hours.
            raise SourceUnavailableError(
                f"The source took longer than {self._fetch_seconds:g} seconds for the file."
            ) from error
        ingestion.fetched(blob)

    async def _store(self, ingestion: Ingestion, chunks: AsyncIterator[bytes]) -> BlobRef:
        pieces = _held(chunks)
        first = await anext(pieces)
        if len(first) <= HELD_BYTES:
            return await self._store_whole(ingestion, first)
        return await self._store_large(ingestion, first, pieces)

    async def _store_whole(self, ingestion: Ingestion, content: bytes) -> BlobRef:
        sha256 = hashlib.sha256(content).hexdigest()
        blob = BlobRef(key=_own_key(ingestion, sha256), size_bytes=len(content), sha256=sha256)
        if content:
            await self._blobs.put(blob.key, content)
        return blob

    async def _store_large(self, ingestion: Ingestion, first: bytes, rest: AsyncIterator[bytes]) -> BlobRef:
        request = ingestion.request
        # An attempt that was given up may still be at it, and the file may have been another one then.
        run_id = activity.info().workflow_run_id
        name = f"source-{request.ordinal:07d}-{run_id}-{request.retry_round}-{ingestion.attempt}"
        key = upload_key(request.tenant_id, request.batch_id, name)
        passing = await self._blobs.put_stream(key, _joined(first, rest))
        own_key = _own_key(ingestion, passing.sha256)
        try:
            await self._blobs.copy(key, own_key)
        except BlobNotFoundError as error:
            raise SourceUnavailableError(
                "The batch ended while the file was fetched, and with it what had come in."
            ) from error
        await self._blobs.delete(key)
        return passing.model_copy(update={"key": own_key})


def _own_key(ingestion: Ingestion, sha256: str) -> str:
    return raw_key(ingestion.request.tenant_id, ingestion.file_id, sha256)


def _take_name(ingestion: Ingestion, ref: SourceRef, file: SourceFile) -> None:
    """Where ids say nothing, the source's own name takes the place of the id."""
    name = normalise_filename(file.name) if ref.source_type.has_opaque_ids else ""
    if name:
        ingestion.rename(name, file.name)


async def _bounded(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise _too_large(limit, None)
        yield chunk


async def _held(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All of a small file as one piece; of a large one as much as may be held and then what comes, as it comes."""
    head = bytearray()
    async for chunk in chunks:
        if len(head) > HELD_BYTES:
            yield chunk
            continue
        head += chunk
        if len(head) > HELD_BYTES:
            yield bytes(head)
    if len(head) <= HELD_BYTES:
        yield bytes(head)


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _too_large(limit: int, size_bytes: int | None) -> DocumentTooLargeError:
    return DocumentTooLargeError(
        f"The file is larger than max_file_bytes ({limit:,}).",
        limit="max_file_bytes",
        limit_value=limit,
        size_bytes=size_bytes,
    )

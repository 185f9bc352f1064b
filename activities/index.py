"""Finished documents made searchable, a micro-batch at a time."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import structlog
from temporalio import activity

from activities.failures import translate_errors_and_give_up
from activities.heartbeats import beating_plainly
from ingather.domain.bitmap import decode_bitmap, encode_bitmap
from ingather.domain.stored import StoredBytes, artifact_of
from ingather.models.document import DocumentRecord
from ingather.models.errors import BlobNotFoundError, IngatherError
from ingather.models.messages import IndexDocumentsInput, IndexDocumentsOutput
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.chunk_index import ChunkIndex, IndexEntry

log = structlog.get_logger(__name__)

MAX_CHUNKS_AT_ONCE = 20_000
"""Their artifacts, texts and vectors included, take about 50 MB."""


class IndexActivities:
    def __init__(self, blobs: BlobStore, catalog: Catalog, index: ChunkIndex) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._index = index

    @activity.defn(name="index_documents")
    @translate_errors_and_give_up
    async def index_documents(self, request: IndexDocumentsInput) -> IndexDocumentsOutput:
        """Write the chunks of these documents to the index. Rows are keyed by content: again changes nothing."""
        async with beating_plainly():
            ordinals = list(decode_bitmap(request.ordinals))
            records = await self._catalog.get_documents(request.batch_id, ordinals)
            chunk_count = 0
            # A row that is gone, like an artifact that is gone or cannot be read, costs its own document alone.
            missing = set(ordinals) - {record.ordinal for record in records}
            failures: defaultdict[str, list[int]] = defaultdict(list)
            # Documents without text go along: an earlier version of them may have had some.
            for group in within_memory(records):
                found = await self._entries(group)
                entries = [entry for entry in found if entry is not None]
                missing |= {record.ordinal for record, entry in zip(group, found, strict=True) if entry is None}
                if not entries:
                    continue
                write = await self._index.upsert(request.tenant_id, entries)
                chunk_count += write.chunk_count
                for record in group:
                    if error := write.refused.get(record.file_id):
                        _log_refusal(record, error)
                        failures[error.code].append(record.ordinal)
                        missing.add(record.ordinal)
            indexed = [record for record in records if record.ordinal not in missing]
            if indexed:
                replaced = await self._replaced(request, indexed)
                await self._catalog.mark_indexed([record.file_id for record in indexed], datetime.now(UTC), replaced)
        return IndexDocumentsOutput(
            document_count=len(indexed),
            chunk_count=chunk_count,
            missing=encode_bitmap(missing),
            failures={code: encode_bitmap(refused) for code, refused in failures.items()},
        )

    async def _replaced(self, request: IndexDocumentsInput, indexed: Sequence[DocumentRecord]) -> set[str]:
        """Documents whose chunks gave way to these: the same content in the collection, made with other options.

        They are as good as never made searchable, or content that is handed in once more with the first options would
        be skipped for them. One that was embedded by another model lies in another index, and stays.
        """
        by_fingerprint: defaultdict[str, list[str]] = defaultdict(list)
        for record in indexed:
            by_fingerprint[record.fingerprint or ""].append(record.sha256 or "")
        found = [
            record
            for fingerprint, contents in by_fingerprint.items()
            for record in await self._catalog.list_indexed_otherwise(
                request.tenant_id, request.collection, contents, fingerprint
            )
        ]
        if not found:
            return set()
        batch_ids = {request.batch_id, *(record.batch_id for record in found)}
        models = {batch_id: await self._model_of(batch_id) for batch_id in batch_ids}
        replaced = {record.file_id for record in found if models[record.batch_id] == models[request.batch_id]}
        return replaced - {record.file_id for record in indexed}

    async def _model_of(self, batch_id: str) -> str | None:
        batch = await self._catalog.get_batch(batch_id)
        return batch.spec.options.embedding_model if batch is not None else None

    async def _entries(self, records: Sequence[DocumentRecord]) -> list[IndexEntry | None]:
        """None where an artifact is gone, or where its row does not say which it is."""
        places = [artifact_of(record) for record in records]
        # Each object once: the artifacts of small documents share some.
        keys = {place.key for place in places if place is not None}
        objects = dict(zip(keys, await asyncio.gather(*map(self._object, keys)), strict=True))
        return [
            _entry(record, place, objects.get(place.key) if place else None)
            for record, place in zip(records, places, strict=True)
        ]

    async def _object(self, key: str) -> bytes | None:
        try:
            return await self._blobs.get(key)
        except BlobNotFoundError:
            return None


def _entry(record: DocumentRecord, place: StoredBytes | None, stored: bytes | None) -> IndexEntry | None:
    if place is None or record.sha256 is None or record.fingerprint is None:
        log.warning("document.row_incomplete", batch_id=record.batch_id, file_id=record.file_id)
        return None
    if stored is None:
        log.warning("document.artifact_missing", batch_id=record.batch_id, file_id=record.file_id)
        return None
    return IndexEntry(
        file_id=record.file_id,
        batch_id=record.batch_id,
        collection=record.collection,
        filename=record.filename,
        sha256=record.sha256,
        fingerprint=record.fingerprint,
        metadata=record.metadata,
        artifact=place.cut_from(stored),
    )


def _log_refusal(record: DocumentRecord, error: IngatherError) -> None:
    facts = {"batch_id": record.batch_id, "file_id": record.file_id, "ordinal": record.ordinal}
    log.warning("document.not_indexed", code=error.code, reason=error.message, **facts)


def within_memory(records: Sequence[DocumentRecord]) -> Iterator[list[DocumentRecord]]:
    """All in order, as many at a time as memory is meant for; a larger document goes alone."""
    group: list[DocumentRecord] = []
    chunks = 0
    for record in records:
        if group and chunks + (record.chunk_count or 0) > MAX_CHUNKS_AT_ONCE:
            yield group
            group, chunks = [], 0
        group.append(record)
        chunks += record.chunk_count or 0
    if group:
        yield group

"""Finished documents made searchable, a micro-batch at a time."""

import asyncio
from datetime import UTC, datetime

from temporalio import activity

from activities.failures import translate_errors
from activities.heartbeats import beating_plainly
from ingather.domain.bitmap import decode_bitmap
from ingather.domain.keys import artifact_key
from ingather.models.document import DocumentRecord
from ingather.models.messages import IndexDocumentsInput, IndexDocumentsOutput
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.chunk_index import ChunkIndex, IndexEntry


class IndexActivities:
    def __init__(self, blobs: BlobStore, catalog: Catalog, index: ChunkIndex) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._index = index

    @activity.defn(name="index_documents")
    @translate_errors
    async def index_documents(self, request: IndexDocumentsInput) -> IndexDocumentsOutput:
        """Write the chunks of these documents to the index. Rows are keyed by content: again changes nothing."""
        async with beating_plainly():
            records = await self._catalog.get_documents(request.batch_id, list(decode_bitmap(request.ordinals)))
            # Documents without text go along: an earlier version of them may have had some.
            entries = await asyncio.gather(*(self._entry(record) for record in records))
            chunk_count = await self._index.upsert(request.tenant_id, entries)
            await self._catalog.mark_indexed([record.file_id for record in records], datetime.now(UTC))
        return IndexDocumentsOutput(document_count=len(records), chunk_count=chunk_count)

    async def _entry(self, record: DocumentRecord) -> IndexEntry:
        assert record.sha256 is not None and record.fingerprint is not None  # noqa: PT018  # done implies both
        return IndexEntry(
            file_id=record.file_id,
            batch_id=record.batch_id,
            collection=record.collection,
            filename=record.filename,
            sha256=record.sha256,
            fingerprint=record.fingerprint,
            metadata=record.metadata,
            artifact=await self._blobs.get(artifact_key(record.tenant_id, record.sha256, record.fingerprint)),
        )

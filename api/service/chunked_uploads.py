"""Uploads of scanned sheets in chunks: in any order, side by side, again after a lost answer, through any API process.

A chunk is stored as an object of its own before it is counted, so that of two with one number the first is kept whole.
Counting happens in the catalog, one chunk after the other: exactly one request sees that its chunk was the last.
Should it die before the batch has begun, a repeat of any chunk, or the cleaning of uploads, does what is left: every step
from there on may be done again.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
import uuid_utils

from activities.upload_assembly import UploadAssembly
from api.service.chunk_sink import ChunkSink
from api.service.sheets import SheetService
from api.shared_budget import SharedBudget
from ingather.domain.filenames import shown
from ingather.domain.identifiers import as_uuid
from ingather.domain.keys import incoming_key, upload_key
from ingather.domain.sheet_events import uploaded_chunk
from ingather.models.audit import Actor
from ingather.models.content import BlobRef
from ingather.models.errors import (
    EventLogUnavailableError,
    PayloadTooLargeError,
    UploadChunkInvalidError,
    UploadNotFoundError,
)
from ingather.models.sheets import SheetObject, SheetUpload, UploadType
from ingather.models.upload import Upload, UploadKind, UploadPiece, UploadState
from ingather.ports.blob_store import BlobStore
from ingather.ports.parted_objects import PartedObjects
from ingather.ports.sheet_progress import SheetProgress
from ingather.ports.uploads import Uploads

log = structlog.get_logger(__name__)

REPEATED_WITHIN = timedelta(minutes=10)
"""So long a first chunk without an upload id is taken for the repeat of the same one."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    max_chunk_bytes: int
    max_upload_bytes: int
    max_upload_chunks: int
    lifetime: timedelta
    """After which an upload that is not finished is removed."""


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """What a client says about a chunk, and with the first one about its upload."""

    index: int
    total: int
    filename: str
    upload_type: UploadType
    upload_id: str | None = None
    task_id: str | None = None
    metadata: dict[str, str] | None = None
    """Notes and the like, kept with the batch."""


@dataclass(slots=True)
class ChunkedUploads:
    """Takes chunks, and begins the batch when all are there."""

    blobs: BlobStore
    parted: PartedObjects
    uploads: Uploads
    sheets: SheetService
    progress: SheetProgress
    limits: UploadLimits
    turns: SharedBudget

    def sink(self, tenant_id: str) -> ChunkSink:
        """Where a chunk's bytes go, whatever number it has."""
        key = incoming_key(tenant_id, str(uuid_utils.uuid7()))
        return self.sink_to(key, tenant_id, most=self.limits.max_chunk_bytes)

    def sink_to(self, key: str, tenant_id: str, *, most: int) -> ChunkSink:
        """The same for a file that has its place, and of which so many bytes are kept."""
        return ChunkSink(self.blobs, self.parted, tenant_id, key, most=most, turns=self.turns)

    async def check(self, chunk: ChunkFacts, tenant_id: str | None) -> Upload | None:
        """Whether a chunk may come; its upload, or None where it begins one. Looked for in any tenant where none is named.

        Raises ``UploadChunkInvalidError``, ``UploadNotFoundError``, ``PayloadTooLargeError``.
        """
        if chunk.total < 1 or not 0 <= chunk.index < chunk.total:
            raise UploadChunkInvalidError(f"Invalid chunk_index {chunk.index} (total: {chunk.total})")
        if chunk.total > self.limits.max_upload_chunks:
            raise PayloadTooLargeError(
                f"An upload has at most {self.limits.max_upload_chunks:,} chunks (max_upload_chunks).",
                limit="max_upload_chunks",
                limit_value=self.limits.max_upload_chunks,
            )
        if chunk.upload_id is None:
            if chunk.index:
                raise UploadChunkInvalidError("upload_id is required after chunk 0; the answer to chunk 0 gives it.")
            return None
        upload = await self.find(chunk.upload_id, tenant_id)
        if upload.total_chunks != chunk.total:
            raise UploadChunkInvalidError(
                f"Invalid total_chunks {chunk.total}: the upload was begun with {upload.total_chunks}."
            )
        return upload

    async def find(self, upload_id: str, tenant_id: str | None) -> Upload:
        """Raises ``UploadNotFoundError``."""
        wanted = as_uuid(upload_id)
        upload = await self.uploads.get_upload(wanted, tenant_id) if wanted else None
        if upload is None or upload.kind is not UploadKind.CHUNKS or _is_over(upload):
            raise UploadNotFoundError(f"Upload {shown(upload_id)} not found. Please restart upload.")
        return upload

    async def of_batch(self, batch_id: str, tenant_id: str | None) -> Upload | None:
        """The upload that is going to be a batch, or is one by now; in any tenant where none is named. None where there
        is no such upload, or its time is over.
        """
        upload = await self.uploads.get_upload_of_batch(batch_id, tenant_id)
        return None if upload is None or _is_over(upload) else upload

    async def has(self, upload: Upload, index: int) -> bool:
        """Whether this chunk is there already."""
        return bool(await self.uploads.list_pieces(upload.upload_id, index, 1))

    async def begin(self, chunk: ChunkFacts, blob: BlobRef, tenant_id: str, created_by: str) -> tuple[Upload, bool]:
        """An upload with its first chunk; or the one that was begun with the same chunk a moment ago, and False."""
        now, batch_id, upload_id = datetime.now(UTC), str(uuid_utils.uuid7()), str(uuid_utils.uuid7())
        # Below the batch's own prefix, so that it goes when the batch has no more use for it.
        key = upload_key(tenant_id, f"{batch_id}/{upload_id}", "file")
        multipart_id = await self.parted.begin_parts(key)
        wanted = Upload(
            upload_id=upload_id,
            tenant_id=tenant_id,
            kind=UploadKind.CHUNKS,
            created_by=created_by,
            filename=chunk.filename,
            batch_id=batch_id,
            total_chunks=chunk.total,
            key=key,
            multipart_id=multipart_id,
            details={
                "upload_type": chunk.upload_type.value,
                "task_id": chunk.task_id,
                "metadata": chunk.metadata or {},
            },
            created_at=now,
            changed_at=now,
            expires_at=now + self.limits.lifetime,
        )
        upload, is_new = await self.uploads.open_chunked(wanted, _piece(0, blob), now - REPEATED_WITHIN)
        if not is_new:
            await self.parted.abort_parts(key, multipart_id)
            await self.blobs.delete(blob.key)
        else:
            log.info("upload.begun", upload_id=upload_id, batch_id=batch_id, tenant_id=tenant_id, chunks=chunk.total)
            await self._took(upload, 0)
        return upload, is_new

    async def add(self, upload: Upload, index: int, blob: BlobRef) -> Upload:
        """Count a further chunk. One that is there already is let go.

        Raises ``PayloadTooLargeError`` where the upload would be too large, ``UploadNotFoundError`` where it was
        removed meanwhile.
        """
        most = self.limits.max_upload_bytes
        if upload.received_bytes + blob.size_bytes > most:
            await self.blobs.delete(blob.key)
            raise PayloadTooLargeError(
                f"The upload is larger than max_upload_bytes ({most:,}).", limit="max_upload_bytes", limit_value=most
            )
        counted, is_new = await self.uploads.add_piece(upload.upload_id, _piece(index, blob), datetime.now(UTC))
        if not is_new:
            await self.blobs.delete(blob.key)
        if counted is None:
            raise UploadNotFoundError(f"Upload {upload.upload_id} not found. Please restart upload.")
        if is_new:
            await self._took(counted, index)
        return counted

    async def finish(self, upload: Upload, by: Actor | None = None) -> Upload:
        """Begin the batch of an upload that has all its chunks, unless it has begun; others are left as they are."""
        if not upload.has_all or upload.state is UploadState.STARTED:
            return upload
        if upload.state is UploadState.RECEIVING:
            assembly = UploadAssembly(self.blobs, self.parted, self.uploads)
            upload = await assembly.assemble(upload)
        if upload.state is UploadState.STARTED:
            return upload
        await self._tell(upload)
        await self.sheets.submit(_submission(upload), by)
        log.info(
            "upload.finished", upload_id=upload.upload_id, batch_id=upload.batch_id, size_bytes=upload.received_bytes
        )
        return await self.uploads.edit_upload(upload.upload_id, {"state": UploadState.STARTED}) or upload

    async def _took(self, upload: Upload, index: int) -> None:
        """Tell of a chunk, and make it part of the whole. The last one's is made with what is left."""
        await self._tell(upload)
        if not upload.has_all:
            await UploadAssembly(self.blobs, self.parted, self.uploads).fold(upload, index)

    async def _tell(self, upload: Upload) -> None:
        """Tell of the chunks that were counted and not told, in that order, whoever took them.

        Their own requests are about to, or died. What may follow the last chunk at once would leave them out.
        """
        batch_id = upload.batch_id or ""
        try:
            latest = await self.progress.latest(batch_id)
            told = latest.number if latest is not None else 0
            if told >= upload.received_count:
                return
            for piece in await self.uploads.list_arrivals(upload.upload_id, told + 1, upload.received_count):
                assert piece.number is not None  # counted ones have one
                event = uploaded_chunk(
                    batch_id,
                    received=piece.number,
                    total=upload.total_chunks or 0,
                    size_bytes=piece.size_bytes,
                    began_at=upload.created_at,
                    mark=f"uploading/{piece.index}",
                )
                await self.progress.tell(event)
        except EventLogUnavailableError as error:
            # Whoever watches misses a line, or hears it with the next; the upload goes on.
            log.warning("upload.not_told", upload_id=upload.upload_id, reason=error.message)


def _is_over(upload: Upload) -> bool:
    """Whether what is missing came too late."""
    return upload.state is UploadState.RECEIVING and not upload.has_all and upload.expires_at < datetime.now(UTC)


def _piece(index: int, blob: BlobRef) -> UploadPiece:
    return UploadPiece(index=index, size_bytes=blob.size_bytes, sha256=blob.sha256, key=blob.key)


def _submission(upload: Upload) -> SheetUpload:
    stored = SheetObject(
        key=upload.whole_key or "",
        filename=upload.filename,
        size_bytes=upload.received_bytes,
        sha256=upload.sha256,
    )
    return SheetUpload(
        batch_id=upload.batch_id or "",
        tenant_id=upload.tenant_id,
        created_by=upload.created_by,
        upload_type=UploadType(upload.details["upload_type"]),
        task_id=upload.details["task_id"],
        objects=(stored,),
        metadata=upload.details["metadata"],
        began_at=upload.created_at,
    )

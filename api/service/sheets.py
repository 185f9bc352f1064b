"""A complete upload of scanned sheets becomes a batch."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from api.engine import BatchEngine
from api.service.batches import never_began, note_begun
from api.service.listeners import Listeners
from api.service.tenants import TenantBook
from ingather.domain.audit import batch_submitted
from ingather.domain.keys import submission_part_key
from ingather.models.audit import Actor
from ingather.models.batch import BatchRecord, BatchSpec, BatchState, Counts, ProcessingOptions, SubmissionPart
from ingather.models.errors import IdempotencyKeyReusedError, ValidationFailedError
from ingather.models.sheets import SheetUpload
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from workflows.pipelines import SHEETS

log = structlog.get_logger(__name__)

CONTRACT = "sheets"
MAX_SHEETS = 1_000_000
"""What all archives of an upload may unpack to; each has its own limit."""


@dataclass(slots=True)
class SheetService:
    """Takes uploads of sheets in."""

    catalog: Catalog
    blobs: BlobStore
    engine: BatchEngine
    tenants: TenantBook
    parser_seconds: float = 60.0
    children_at_once: int = 8

    async def submit(self, upload: SheetUpload, by: Actor | None = None) -> BatchRecord:
        """Start the batch of an upload; it is durable and on its way when this returns.

        Idempotent by batch id: the same upload again answers with the batch as the catalog has it, and starts its
        workflow where an earlier attempt got no further, also one that was given up since. The objects must be stored by
        now, and are the batch's from here on: it removes them when it has no more use for them.

        Raises:
            ValidationFailedError: ``task_id`` is missing where sheets are not grouped by code.
            IdempotencyKeyReusedError: the id is another upload's.
            TenantNotFoundError: there is no such tenant.
            DependencyError: storage, catalog or engine are away; submit it again.
        """
        if upload.task_id is None and not upload.upload_type.is_grouped_by_code:
            raise ValidationFailedError(f"task_id is required for {upload.upload_type.value}.")
        tenant = await self.tenants.get(upload.tenant_id)
        now = datetime.now(UTC)
        size_bytes = sum(each.size_bytes for each in upload.objects)
        key = submission_part_key(upload.tenant_id, upload.batch_id, upload.batch_id)
        await self.blobs.put(key, upload.model_dump_json().encode())
        part = SubmissionPart(
            batch_id=upload.batch_id,
            part_id=upload.batch_id,
            key=key,
            document_count=len(upload.objects),
            size_bytes=size_bytes,
            created_at=now,
        )
        spec = BatchSpec(
            batch_id=upload.batch_id,
            tenant_id=upload.tenant_id,
            name=upload.objects[0].filename[:120] or "sheets",
            created_by=upload.created_by,
            contract=CONTRACT,
            pipeline=SHEETS,
            # A form that looks like another one is another one: each is read, whatever was read before.
            options=ProcessingOptions(skip_existing=False, pack_small=True, timeout_seconds=self.parser_seconds),
            metadata=_metadata(upload),
            submitted_count=len(upload.objects),
            submitted_bytes=size_bytes,
            max_documents=tenant.limits.max_documents_per_batch or MAX_SHEETS,
            max_file_bytes=tenant.limits.max_file_bytes,
            fairness_weight=tenant.fairness_weight,
            children_at_once=self.children_at_once,
            is_heard=await self.catalog.webhooks.has_listeners(upload.tenant_id),
        )
        record = _record(spec, upload.began_at or now)
        submitted = batch_submitted(record, by or Actor(name=upload.created_by))
        there, is_new = await self.catalog.add_batch(record, part, [submitted])
        if there.tenant_id != upload.tenant_id or there.spec.contract != CONTRACT:
            raise IdempotencyKeyReusedError("This batch id stands for another batch.")
        if never_began(there):
            await self.catalog.set_batch_state(there.batch_id, record.state, record.counts.total)
            again = {"state": record.state, "counts": record.counts, "problem": None, "ended_at": None}
            there = there.model_copy(update=again)
        if not there.state.is_final:
            await self.engine.start(there.spec, there.created_at)
            await note_begun(self.catalog, there)
            if not there.spec.is_heard:
                await Listeners(self.catalog, self.engine).has_begun_meanwhile(there.tenant_id, there.batch_id)
        log.info("batch.accepted", batch_id=upload.batch_id, file_count=len(upload.objects), was_replayed=not is_new)
        return there

    async def check_same(self, upload: SheetUpload) -> None:
        """Whether an upload is the one that its batch was made of, wherever it lies.

        Raises ``IdempotencyKeyReusedError`` where it is another one.
        """
        key = submission_part_key(upload.tenant_id, upload.batch_id, upload.batch_id)
        known = SheetUpload.model_validate_json(await self.blobs.get(key))
        if _payload(known) != _payload(upload):
            raise IdempotencyKeyReusedError("This Idempotency-Key stands for a batch made of another payload.")

    async def stored(self, key: str) -> tuple[AsyncIterator[bytes], int] | None:
        """An object as a stream, with its size; None where there is none."""
        stat = await self.blobs.stat(key)
        return None if stat is None else (self.blobs.stream(key), stat.size_bytes)


def _payload(upload: SheetUpload) -> tuple[object, ...]:
    files = [(each.filename, each.size_bytes, each.sha256) for each in upload.objects]
    return upload.upload_type, upload.task_id, upload.metadata, files


def _metadata(upload: SheetUpload) -> dict[str, object]:
    known: dict[str, object] = {"upload_type": upload.upload_type.value}
    if upload.task_id is not None:
        known["task_id"] = upload.task_id
    return {**upload.metadata, **known}


def _record(spec: BatchSpec, created_at: datetime) -> BatchRecord:
    return BatchRecord(
        batch_id=spec.batch_id,
        tenant_id=spec.tenant_id,
        spec=spec,
        state=BatchState.QUEUED,
        counts=Counts(total=spec.submitted_count, pending=spec.submitted_count),
        name=spec.name,
        priority=spec.priority,
        sealed_at=created_at,
        created_at=created_at,
    )

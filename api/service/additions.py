"""Open batches: more documents until they are sealed.

A request that adds documents is durable once its part is in the catalog; the workflow hears of it a
moment later, and all of it again with the seal. A request that comes again under its key is the
same part, also after the seal; a seal that comes again is sent to the workflow once more, so whatever
broke off between catalog and workflow is completed.
"""

import asyncio
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
import uuid_utils

from api.engine import BatchClosedError, BatchEngine
from api.idempotency import check_key
from api.reception import Feed, Reception
from api.resources import BatchSnapshot
from api.service.added_signals import AddedSignals
from api.service.audit import AuditService
from api.service.batches import BatchService
from api.service.receiving import Receiving
from ingather.domain.audit import batch_event, seal_details
from ingather.domain.submission_parts import check_takes_more
from ingather.models.audit import SYSTEM, Actor, AuditType
from ingather.models.batch import BatchRecord, BatchState, SubmissionPart, SubmissionTotals
from ingather.models.errors import (
    DependencyError,
    EmptyBatchError,
    IdempotencyKeyReusedError,
    IngatherError,
    InvalidStateError,
)
from ingather.models.messages import SealRequest
from ingather.ports.catalog import Catalog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Added:
    """Documents that are durable in an open batch."""

    part: SubmissionPart
    totals: SubmissionTotals
    was_replayed: bool


@dataclass(slots=True)
class AdditionService:
    """Adds to open batches and seals them."""

    catalog: Catalog
    engine: BatchEngine
    batches: BatchService
    receiving: Receiving
    signals: AddedSignals
    audit: AuditService

    async def add(self, tenant_id: str, batch_id: str, key: str | None, feed: Feed, *, by: Actor = SYSTEM) -> Added:
        """Take documents into an open batch; they are durable when this returns.

        Raises ``InvalidStateError`` for a batch that was sealed or has ended.
        """
        record = await self.batches.record(tenant_id, batch_id)
        key = check_key(key)
        part_id = str(uuid.uuid5(uuid.UUID(batch_id), key)) if key else str(uuid_utils.uuid7())
        is_replay = key is not None and await self.catalog.get_part(batch_id, part_id) is not None
        before = 0
        if not is_replay:
            check_takes_more(record.state, is_sealed=record.sealed_at is not None)
            before = (await self.catalog.count_parts(batch_id)).document_count
        async with self.receiving.reception(
            tenant_id,
            batch_id,
            is_replay=is_replay,
            max_documents=record.spec.max_documents,
            documents_before=before,
        ) as reception:
            await feed(reception)
            if not reception.tally.document_count:
                raise EmptyBatchError("The request holds no document.")
            await reception.finish()
        added = await self._register(record, part_id, reception, by)
        if not added.was_replayed:
            self.signals.note(batch_id, added.totals.document_count, record.created_at)
            log.info("batch.extended", batch_id=batch_id, file_count=added.part.document_count, part=added.part.number)
        return added

    async def _register(self, record: BatchRecord, part_id: str, reception: Reception, by: Actor) -> Added:
        """Make what was received a part of the batch, or remove it where it is certainly not one."""
        fingerprint = reception.tally.fingerprint(None)
        wanted = self.receiving.part(record.batch_id, part_id, reception, fingerprint)
        details = {"submitted_count": wanted.document_count, "submitted_bytes": wanted.size_bytes}
        event = batch_event(
            AuditType.BATCH_EXTENDED,
            record.tenant_id,
            record.batch_id,
            by,
            datetime.now(UTC),
            which=part_id,
            details=details,
        )
        try:
            part, is_new, totals = await self.catalog.add_part(wanted, record.spec.max_documents, [event])
        except DependencyError:
            # Its commit may have gone through although the answer did not, as after a cancel: the bytes stay,
            # for the part that is there or for nobody.
            raise
        except IngatherError:
            await asyncio.shield(reception.discard())
            raise
        if part.key != wanted.key:
            await reception.discard()
        if part.fingerprint != fingerprint:
            raise IdempotencyKeyReusedError("This Idempotency-Key brought other documents to this batch.")
        return Added(part, totals, was_replayed=not is_new)

    async def seal(self, tenant_id: str, batch_id: str, *, by: Actor = SYSTEM) -> BatchSnapshot:
        """Let an open batch run. Sealing again changes nothing; a batch that never was open is sealed.

        Raises ``EmptyBatchError`` for a batch without documents, ``InvalidStateError`` for one that ended unsealed, is
        being cancelled or has not begun yet.
        """
        record = await self.batches.record(tenant_id, batch_id)
        await self._refuse_while_cancelling(record)
        totals = await self.catalog.seal(batch_id)
        self.signals.forget(batch_id)
        # The id is the same every time, so the batch takes one seal.
        request = SealRequest(
            request_id=f"seal-{batch_id}", by=by, document_count=totals.document_count, size_bytes=totals.size_bytes
        )
        if record.spec.open:
            details = seal_details(request)
            await self.audit.note_batch(AuditType.BATCH_SEALED, tenant_id, batch_id, by, which="", details=details)
        if not record.spec.open or record.state.is_final:
            return await self.batches.snapshot(tenant_id, batch_id)
        return await self._tell(record, request)

    async def _refuse_while_cancelling(self, record: BatchRecord) -> None:
        """Before the seal is on record: the batch would not take it."""
        takes_seal = record.spec.open and record.sealed_at is None and not record.state.is_final
        if takes_seal and (await self.engine.status(record.batch_id)).is_to_cancel:
            raise InvalidStateError(
                "The batch is being cancelled: it cannot be sealed any more.",
                current_status=BatchState.CANCELLING.value,
                wanted="seal",
            )

    async def _tell(self, record: BatchRecord, request: SealRequest) -> BatchSnapshot:
        """Tell the workflow."""
        try:
            answer = await self.batches.reach(record, lambda: self.engine.send(record.batch_id, "seal", request))
        except BatchClosedError:
            answer = None
        else:
            log.info("batch.sealed", batch_id=record.batch_id, file_count=request.document_count)
        if answer is None:
            return await self.batches.snapshot(record.tenant_id, record.batch_id)
        await self.batches.note_progress(record.batch_id, answer.progress)
        return BatchSnapshot(record=record, progress=answer.progress)

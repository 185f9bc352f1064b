"""Pushing documents to the next stage's list again, from what the catalog knows: for a list that was lost."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from api.access import Caller
from api.idempotency import check_key
from api.service.audit import AuditService
from api.service.batches import BatchService
from ingather.domain.keys import raw_key
from ingather.models.accounts import Scope
from ingather.models.audit import AuditType
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import InvalidStateError
from ingather.models.handoff import HandedOn
from ingather.ports.catalog import Catalog, DocumentFilter
from ingather.ports.handoff_queue import HandoffQueue
from workflows.pipelines import HANDOFF

log = structlog.get_logger(__name__)

MOST_A_REQUEST = 10_000
_PAGE = 500


@dataclass(frozen=True, slots=True)
class PushedAgain:
    """What one request did."""

    documents: int
    """Documents that were handed on before, of those looked at."""
    pushed: int
    """Pushed now; the others had been by the same request before."""
    last: int
    """The ordinal to go on behind."""
    has_more: bool


@dataclass(frozen=True, slots=True)
class HandoffService:
    """An administrator's."""

    catalog: Catalog
    queue: HandoffQueue
    batches: BatchService
    audit: AuditService

    async def push_again(
        self, caller: Caller, tenant_id: str, batch_id: str, key: str | None, after: int
    ) -> PushedAgain:
        """Push documents of a batch that were handed on, in ordinal order, up to 10,000 of them.

        Once for each key, so a request whose answer was lost can be repeated. Raises ``InvalidStateError`` for a batch
        whose documents stay here.
        """
        record = await self.batches.record(tenant_id, batch_id)
        caller.require(Scope.ADMIN)
        if record.spec.pipeline != HANDOFF:
            raise InvalidStateError(
                f"The batch's documents are not handed on: its pipeline is {record.spec.pipeline}.",
                current_status=record.state.value,
                wanted="push again",
            )
        key = check_key(key)
        again = hashlib.sha256(f"{batch_id}\n{key}".encode()).hexdigest()[:32] if key else uuid.uuid4().hex
        done = await self._push_again(tenant_id, batch_id, again, after)
        details = {"pushed": done.pushed, "after": after}
        await self.audit.note_batch(
            AuditType.BATCH_PUSHED_AGAIN, tenant_id, batch_id, caller.actor, which=f"{again}\n{after}", details=details
        )
        log.info("batch.pushed_again", batch_id=batch_id, pushed=done.pushed, after=after)
        return done

    async def _push_again(self, tenant_id: str, batch_id: str, again: str, after: int) -> PushedAgain:
        looked_at = documents = pushed = 0
        while looked_at < MOST_A_REQUEST:
            page = await self.catalog.list_documents(DocumentFilter(batch_id, after_ordinal=after), _PAGE)
            entries = {record.ordinal: _entry(record) for record in await self._handed_on(tenant_id, batch_id, page)}
            pushed += len(await self.queue.push(tenant_id, batch_id, entries, again=again)) if entries else 0
            looked_at += len(page)
            documents += len(entries)
            after = page[-1].ordinal if page else after
            if len(page) < _PAGE:
                return PushedAgain(documents, pushed, after, has_more=False)
        return PushedAgain(documents, pushed, after, has_more=True)

    async def _handed_on(
        self, tenant_id: str, batch_id: str, page: Sequence[DocumentRecord]
    ) -> Sequence[DocumentRecord]:
        """Those that are done, and those whose push was the last that their attempts got through: the catalog calls them
        failed, the marker knows better, and because of it a retry would not push them.
        """
        failed = [record.ordinal for record in page if record.status is DocumentStatus.FAILED and record.sha256]
        marked = set(await self.queue.pushed(tenant_id, batch_id, failed)) if failed else set()
        return [record for record in page if record.status is DocumentStatus.DONE or record.ordinal in marked]


def _entry(record: DocumentRecord) -> HandedOn:
    assert record.sha256 is not None  # a document that was handed on has bytes
    return HandedOn(
        file_id=record.file_id,
        batch_id=record.batch_id,
        sha256=record.sha256,
        # Handed-on bytes are always there; a row that failed never heard of it.
        storage_path=raw_key(record.tenant_id, record.file_id, record.sha256),
        tenant_id=record.tenant_id,
    )

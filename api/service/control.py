"""Steering batches: idempotent, answered within seconds, refused only where it is impossible."""

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from api.engine import BatchClosedError, BatchEngine
from api.idempotency import ControlKeys, check_key
from api.resources import BatchSnapshot, Outlook
from api.service.audit import AuditService
from api.service.batches import BatchService
from ingather.domain.audit import batch_event, retry_details
from ingather.domain.keys import summary_key
from ingather.models.audit import SYSTEM, Actor, AuditType
from ingather.models.batch import BatchRecord, BatchSpec, BatchState
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import BlobNotFoundError, EngineUnavailableError, InvalidStateError
from ingather.models.messages import ClosedBatch, ControlAnswer, ControlRequest, PriorityRequest, RetryRequest
from ingather.ports.blob_store import BlobStore

_AUDITED = {
    "start": AuditType.BATCH_STARTED,
    "pause": AuditType.BATCH_PAUSED,
    "resume": AuditType.BATCH_RESUMED,
    "cancel": AuditType.BATCH_CANCELLED,
    "retry": AuditType.BATCH_RETRIED,
    "set_priority": AuditType.BATCH_PRIORITY_CHANGED,
}

CLOSING_TIME = timedelta(seconds=5)
"""How long a retry waits for the workflow of a batch that the catalog says has ended."""

_CANCELLED_TOO = (
    "Those that the cancel left undone run with `include_cancelled` (`ingather retry ID --include-cancelled`)."
)


@dataclass(frozen=True, slots=True)
class RetrySelection:
    """Which documents to run again; everything that failed when nothing is named."""

    codes: tuple[str, ...] = ()
    ordinals: tuple[int, ...] = ()
    include_cancelled: bool = False
    everything: bool = False
    """Every document, whatever became of it; of a batch that has ended."""


@dataclass(frozen=True, slots=True)
class Controlled:
    """The batch after a control message."""

    snapshot: BatchSnapshot
    was_replayed: bool = False


class ControlService:
    """Every action takes the client's ``Idempotency-Key``, which becomes the message's request id.

    A batch knows which ids took effect, also when it has ended: then they are in its ``summary.json``.
    What the batch took is in the audit log, under the name of whom it is done ``by``, before it is answered. The name goes
    to the batch too, which has the same event recorded should this process die before.
    """

    def __init__(self, batches: BatchService, engine: BatchEngine, blobs: BlobStore, audit: AuditService) -> None:
        self._batches = batches
        self._engine = engine
        self._blobs = blobs
        self._audit = audit
        self._keys = ControlKeys()

    async def took(self, batch_id: str, key: str | None, action: str, selection: RetrySelection | None = None) -> bool:
        """Whether this message took effect before under this key, also through another process: the audit log knows.

        For doors that refuse more than a batch does: a repeated message is not refused for what it has brought about.
        Raises ``IdempotencyKeyReusedError``, and ``RequestError`` for a key that cannot be used.
        """
        if key is None:
            return False
        request_id, was_replayed = self._keys.remember(batch_id, check_key(key), _payload_of(action, selection))
        return was_replayed or await self._audit.has_batch(_AUDITED[action], batch_id, which=request_id)

    async def start(self, tenant_id: str, batch_id: str, key: str | None, *, by: Actor = SYSTEM) -> Controlled:
        return await self._send(tenant_id, batch_id, "start", key, by)

    async def pause(self, tenant_id: str, batch_id: str, key: str | None, *, by: Actor = SYSTEM) -> Controlled:
        return await self._send(tenant_id, batch_id, "pause", key, by)

    async def resume(self, tenant_id: str, batch_id: str, key: str | None, *, by: Actor = SYSTEM) -> Controlled:
        return await self._send(tenant_id, batch_id, "resume", key, by)

    async def cancel(self, tenant_id: str, batch_id: str, key: str | None, *, by: Actor = SYSTEM) -> Controlled:
        """Stop what runs and keep what is done. A cancelled batch may be cancelled again.

        Under a key that took effect it is not: the batch may have been opened again since.
        """
        record = await self._batches.record(tenant_id, batch_id)
        if await self.took(batch_id, key, "cancel"):
            return await self._cancelled_before(record)
        request_id, _ = self._keys.remember(batch_id, check_key(key), "cancel")
        if not record.state.is_final:
            try:
                cancel = ControlRequest(request_id=request_id, by=by)
                await self._batches.reach(record, lambda: self._engine.cancel(batch_id, cancel))
                await self._batches.note_changed(batch_id)
                await self._note(record, "cancel", by, request_id)
            except BatchClosedError:
                record = await self._batches.record(tenant_id, batch_id)
        if record.state.is_final and record.state is not BatchState.CANCELLED:
            raise _impossible(record, "cancel")
        self._keys.keep(batch_id, key, "cancel")
        snapshot = await self._batches.snapshot(tenant_id, batch_id)
        if not snapshot.is_final:
            snapshot = _shown_as(snapshot, BatchState.CANCELLING)
        return Controlled(snapshot)

    async def _cancelled_before(self, record: BatchRecord) -> Controlled:
        controlled = await self._replayed(record)
        if not controlled.snapshot.is_final and (await self._engine.status(record.batch_id)).is_to_cancel:
            return replace(controlled, snapshot=_shown_as(controlled.snapshot, BatchState.CANCELLING))
        return controlled

    async def retry(
        self, tenant_id: str, batch_id: str, key: str | None, selection: RetrySelection, *, by: Actor = SYSTEM
    ) -> Controlled:
        """Run failed documents again; opens a closed batch."""
        record = await self._batches.record(tenant_id, batch_id)
        payload = _payload_of("retry", selection)
        request_id, was_replayed = self._keys.remember(batch_id, check_key(key), payload)
        request = RetryRequest(
            request_id=request_id,
            by=by,
            codes=selection.codes,
            ordinals=selection.ordinals,
            include_cancelled=selection.include_cancelled,
            include_done=selection.everything,
        )
        answer: ControlAnswer | None = None
        is_closed = was_closed = record.state.is_final
        if not is_closed:
            try:
                answer = await self._batches.reach(record, lambda: self._engine.send(batch_id, "retry", request))
            except BatchClosedError:
                is_closed = True
                record = await self._batches.record(tenant_id, batch_id)
        if is_closed:
            # One that got no answer in time may have been carried out, and the batch have ended again meanwhile.
            may_be_known = key is not None or not was_closed
            if may_be_known and await self._took(record, request_id):
                await self._note(record, "retry", by, request_id, **retry_details(request))
                return await self._replayed(record)
            await self._check_retryable(record, selection)
            answer = await self._reopen(record, request)
        await self._note(record, "retry", by, request_id, **retry_details(request))
        self._keys.keep(batch_id, key, payload)
        controlled = await self._answered(record, answer, was_replayed=was_replayed)
        if controlled.snapshot.is_final:
            # The message is on its way and the batch has not opened yet.
            return replace(controlled, snapshot=_shown_as(controlled.snapshot, BatchState.RETRYING))
        return controlled

    async def set_priority(self, tenant_id: str, batch_id: str, priority: int, *, by: Actor = SYSTEM) -> None:
        """Move a batch ahead or back, in the waiting line and among the tasks."""
        record = await self._batches.record(tenant_id, batch_id)
        if record.state.is_final:
            raise _impossible(record, "re-prioritise")
        request = PriorityRequest(request_id=uuid.uuid4().hex, by=by, priority=priority)
        try:
            await self._batches.reach(record, lambda: self._engine.send(batch_id, "set_priority", request))
        except BatchClosedError as error:
            raise _impossible(await self._batches.record(tenant_id, batch_id), "re-prioritise") from error
        await self._batches.edit(batch_id, priority=priority)
        await self._note(record, "set_priority", by, request.request_id, priority=priority, previous=record.priority)

    async def rename(self, tenant_id: str, batch_id: str, name: str, *, by: Actor = SYSTEM) -> None:
        """Call a batch something else."""
        record = await self._batches.record(tenant_id, batch_id)
        details, now = {"name": name, "previous": record.name}, datetime.now(UTC)
        event = batch_event(
            AuditType.BATCH_RENAMED, tenant_id, batch_id, by, now, which=uuid.uuid4().hex, details=details
        )
        await self._batches.edit(batch_id, name=name, events=[event])

    async def _send(self, tenant_id: str, batch_id: str, action: str, key: str | None, by: Actor) -> Controlled:
        record = await self._batches.record(tenant_id, batch_id)
        request_id, was_replayed = self._keys.remember(batch_id, check_key(key), action)
        if not record.state.is_final:
            request = ControlRequest(request_id=request_id, by=by)
            try:
                answer = await self._batches.reach(record, lambda: self._engine.send(batch_id, action, request))
            except BatchClosedError:
                record = await self._batches.record(tenant_id, batch_id)
            else:
                await self._note(record, action, by, request_id)
                self._keys.keep(batch_id, key, action)
                return await self._answered(record, answer, was_replayed=was_replayed)
        if key is not None and await self._took(record, request_id):
            await self._note(record, action, by, request_id)
            return await self._replayed(record)
        raise _impossible(record, action)

    async def _took(self, record: BatchRecord, request_id: str) -> bool:
        """Whether a batch that has ended took this message before."""
        try:
            content = await self._blobs.get(summary_key(record.tenant_id, record.batch_id, record.version))
        except BlobNotFoundError:
            return False  # it was ended from outside
        return request_id in ClosedBatch.model_validate_json(content).handled_requests

    async def _replayed(self, record: BatchRecord) -> Controlled:
        return Controlled(await self._batches.snapshot(record.tenant_id, record.batch_id), was_replayed=True)

    async def _note(self, record: BatchRecord, action: str, by: Actor, request_id: str, **details: object) -> None:
        kind = _AUDITED[action]
        await self._audit.note_batch(kind, record.tenant_id, record.batch_id, by, which=request_id, details=details)

    async def _check_retryable(self, record: BatchRecord, selection: RetrySelection) -> None:
        """A batch that is opened for nothing would end at another time and tell its watchers so."""
        if record.problem is not None:
            raise InvalidStateError(
                "The batch as a whole could not run: submit it again.",
                current_status=record.state.value,
                problem=record.problem.code,
            )
        if record.spec.open and record.sealed_at is None:
            raise InvalidStateError(
                "The batch was cancelled before it was sealed, and its documents were let go: submit them again.",
                current_status=record.state.value,
                wanted="retry",
            )
        if not await self._has_selected(record, selection):
            named = " with these codes or numbers" if selection.codes or selection.ordinals else ""
            has_cancelled = record.counts.cancelled > 0 and not selection.include_cancelled
            raise InvalidStateError(
                f"No document of this batch{named} is left to retry.",
                action=_CANCELLED_TOO if has_cancelled else None,
                current_status=record.state.value,
                wanted="retry",
            )

    async def _has_selected(self, record: BatchRecord, selection: RetrySelection) -> bool:
        if selection.everything:
            return record.counts.total > 0
        has_failed = record.counts.failed > 0
        has_cancelled = record.counts.cancelled > 0 and selection.include_cancelled
        if not has_failed and not has_cancelled:
            return False
        if selection.ordinals:
            documents = await self._batches.documents(record.batch_id, selection.ordinals)
            return any(_names(selection, document) for document in documents)
        if selection.codes and not has_cancelled:
            return not record.failures_by_code.keys().isdisjoint(selection.codes)
        return True

    async def _reopen(self, record: BatchRecord, request: RetryRequest) -> ControlAnswer | None:
        spec = await self._spec_now(record)
        try:
            answer = await self._engine.reopen(spec, record.created_at, request)
        except BatchClosedError:
            # It was still open when the message came, and ended before it could answer.
            answer = await self._reopen_once_more(spec, record, request)
        except InvalidStateError:
            # The catalog has its last word, and the workflow, which takes no retry any more, is about to end.
            if not await self._engine.until_closed(record.batch_id, CLOSING_TIME):
                raise
            answer = await self._reopen_once_more(spec, record, request)
        await self._batches.note_reopened(record.batch_id)
        return answer

    async def _spec_now(self, record: BatchRecord) -> BatchSpec:
        """What a batch that is opened again runs as: no start and no seal is waited for, and all that came in is in it."""
        is_heard = record.spec.is_heard or await self._batches.has_listeners(record.tenant_id)
        changes = {"priority": record.priority, "name": record.name, "is_heard": is_heard, "hold": False, "open": False}
        if record.spec.open:
            # What it was opened with says nothing of what was added, and admission counts bytes.
            added = await self._batches.handed_in(record.batch_id)
            changes |= {"submitted_count": added.document_count, "submitted_bytes": added.size_bytes}
        return record.spec.model_copy(update=changes)

    async def _reopen_once_more(
        self, spec: BatchSpec, record: BatchRecord, request: RetryRequest
    ) -> ControlAnswer | None:
        try:
            return await self._engine.reopen(spec, record.created_at, request)
        except BatchClosedError as error:
            raise EngineUnavailableError("The batch ended again before it could take the retry.") from error

    async def _answered(self, record: BatchRecord, answer: ControlAnswer | None, *, was_replayed: bool) -> Controlled:
        if answer is not None:
            await self._batches.note_progress(record.batch_id, answer.progress)
            snapshot = await self._batches.explained(BatchSnapshot(record=record, progress=answer.progress))
            return Controlled(snapshot, was_replayed)
        snapshot = await self._batches.snapshot(record.tenant_id, record.batch_id)
        return Controlled(replace(snapshot, stale=True), was_replayed)


def _payload_of(action: str, selection: RetrySelection | None = None) -> str:
    return action if selection is None else f"{action} {selection}"


def _shown_as(snapshot: BatchSnapshot, state: BatchState) -> BatchSnapshot:
    """The batch with the state it is on its way to."""
    return replace(snapshot, outlook=Outlook(), progress=snapshot.progress.model_copy(update={"state": state}))


def _impossible(record: BatchRecord, action: str) -> InvalidStateError:
    return InvalidStateError(
        f"The batch is {record.state.value}: it cannot {action} any more.",
        current_status=record.state.value,
        wanted=action,
    )


def _names(selection: RetrySelection, document: DocumentRecord) -> bool:
    if document.status is DocumentStatus.CANCELLED:
        return selection.include_cancelled
    code = document.error.code if document.error else ""
    return document.status is DocumentStatus.FAILED and (not selection.codes or code in selection.codes)

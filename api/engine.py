"""The API's door to Temporal: everything it asks of the engine, and the one place where Temporal's errors become ours."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.webhooks import TemporalDeliveryStarter
from api.engine_calls import READ_TIMEOUT, reached
from api.engine_overview import EngineOverviews
from api.engine_waits import EngineWaits
from api.problems import error_from_code
from ingather.models.batch import BatchProgress, BatchSpec, BatchState, ChildProgress, Counts
from ingather.models.engine import BATCH_WORKFLOW, MEMO_PROGRESS, WORKFLOW_QUEUE, WORKFLOW_TASK_TIMEOUT
from ingather.models.errors import EngineUnavailableError, InvalidStateError
from ingather.models.identity import child_workflow_id_for, workflow_id_for
from ingather.models.messages import (
    AddedRequest,
    BatchInput,
    ControlAnswer,
    ControlRequest,
    DeliveryInput,
    DocumentHeartbeat,
    ListenerAdded,
    PackHeartbeat,
    RetryRequest,
)
from workflows.visibility import BATCH_STATE, DOCUMENTS_FAILED, DOCUMENTS_TOTAL, progress_memo

log = structlog.get_logger(__name__)

RPC_TIMEOUT = timedelta(seconds=3)
MESSAGE_TIMEOUT = timedelta(seconds=5)
"""For all tries of a message: it is worth more of them than a read."""
_LOST_ON_A_CANCEL = frozenset({"retry", "seal"})
"""Messages that are not sent as signals to a batch that is being cancelled: it would ignore them."""
UPDATE_TIMEOUT = timedelta(seconds=3)
"""How long a client waits for a synchronous answer, before the message goes as a signal."""

MOST_LISTED = 1_000
"""Waiting batches of a tenant whose progress is looked up for everybody at once: one page of the engine's list."""
_WAITING = ("pending", "queued")

_ACTIVITY_PREFIX = "doc-"
_PACK_PREFIX = "pack-"
_NO_MORE_UPDATES = {RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.FAILED_PRECONDITION}
"""The server's words for too many updates of a run: at one time, and in all."""
_COMPLETED_MEANWHILE = "AcceptedUpdateCompletedWorkflow"
"""The server's word for an update whose workflow ended before it answered."""


class Presence(StrEnum):
    """Whether the engine has a batch."""

    OPEN = "open"
    CLOSED = "closed"
    MISSING = "missing"


class BatchClosedError(Exception):
    """The message met no open workflow; the caller knows what that means for its action."""


class _NoMoreUpdatesError(Exception):
    """The server takes no further update of this run: ten are in flight, or it has had two thousand."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What ``describe`` says: needs no worker, and is exact about open and closed."""

    presence: Presence
    progress: BatchProgress | None = None
    """From the memo."""
    was_terminated: bool = False
    is_to_cancel: bool = False
    """It is open, and a cancel was asked for, whether a worker has heard of it or not."""
    closed_at: datetime | None = None


class BatchEngine:
    """Starts, steers and describes batch workflows. Raises ``EngineUnavailableError``; calls end within seconds."""

    def __init__(
        self, client: Client, *, update_timeout: timedelta = UPDATE_TIMEOUT, read_timeout: timedelta = READ_TIMEOUT
    ) -> None:
        self._client = client
        self._update_timeout = update_timeout
        self._read_timeout = read_timeout
        self._deliveries = TemporalDeliveryStarter(client)
        self.waits = EngineWaits(client, timeout=read_timeout)
        """Why a batch stands still."""
        self.overviews = EngineOverviews(client, timeout=read_timeout)
        """The whole deployment."""

    @property
    def namespace(self) -> str:
        return self._client.namespace

    async def check(self) -> None:
        """Answer quickly when Temporal does."""
        async with _translated(self._read_timeout):
            is_serving = await self._client.service_client.check_health(timeout=self._read_timeout)
        if not is_serving:
            raise EngineUnavailableError("The workflow engine is not serving.")

    async def start(self, spec: BatchSpec, created_at: datetime) -> None:
        """Start a batch's workflow; one that is there already, running or closed, is left alone."""
        try:
            async with _translated():
                await self._client.start_workflow(
                    BATCH_WORKFLOW,
                    BatchInput(spec=spec),
                    id=workflow_id_for(spec.batch_id),
                    task_queue=WORKFLOW_QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    memo=_memo(spec, created_at),
                    search_attributes=_search_attributes(spec),
                    static_summary=_summary(spec),
                    priority=_priority(spec),
                    task_timeout=WORKFLOW_TASK_TIMEOUT,
                    rpc_timeout=RPC_TIMEOUT,
                )
        except WorkflowAlreadyStartedError:
            log.info("batch.found_closed", batch_id=spec.batch_id)

    async def start_delivery(self, delivery: DeliveryInput, summary: str) -> None:
        """Send an event to an endpoint; one that is under way, or was, is left alone."""
        async with _translated():
            await self._deliveries.start_delivery(delivery, summary)

    async def send(self, batch_id: str, name: str, request: ControlRequest) -> ControlAnswer | None:
        """Send an update; None where it had to go as a signal, with the same request id.

        That is when it did not answer in time, or the run has had all the updates the server allows it.

        Raises ``BatchClosedError`` when no workflow is open, ``InvalidStateError`` for a retry or seal that would have to
        go as a signal to a batch that is being cancelled, or the error the workflow refused it with.
        """
        handle = self._client.get_workflow_handle(workflow_id_for(batch_id))
        try:
            async with (
                _translated(closed_is_known=True, limit_is_known=True),
                asyncio.timeout(self._update_timeout.total_seconds()),
            ):
                answer: ControlAnswer = await handle.execute_update(
                    name,
                    request,
                    id=f"{name}-{request.request_id}",
                    result_type=ControlAnswer,
                    rpc_timeout=self._update_timeout,
                )
                return answer
        except (WorkflowUpdateRPCTimeoutOrCancelledError, TimeoutError, _NoMoreUpdatesError):
            log.info("control.sent_as_signal", batch_id=batch_id, message=name)
        if name in _LOST_ON_A_CANCEL:
            await self._refuse_while_cancelling(batch_id, name)
        # The update may still be applied; the request id makes the two one.
        async with _translated(closed_is_known=True):
            await handle.signal(f"{name}_signal", request, rpc_timeout=RPC_TIMEOUT)
        return None

    async def tell(self, batch_id: str, name: str, request: AddedRequest | ListenerAdded) -> None:
        """Send a signal that needs no answer. Raises ``BatchClosedError`` when no workflow is open."""
        async with _translated(closed_is_known=True):
            await self._client.get_workflow_handle(workflow_id_for(batch_id)).signal(
                name, request, rpc_timeout=RPC_TIMEOUT
            )

    async def cancel(self, batch_id: str, request: ControlRequest) -> None:
        """Ask for cancellation, for the reason that this was requested. Raises ``BatchClosedError`` when there is nothing
        open.
        """
        async with _translated(closed_is_known=True):
            await self._client.get_workflow_handle(workflow_id_for(batch_id)).cancel(
                reason=request.model_dump_json(), rpc_timeout=RPC_TIMEOUT
            )

    async def until_closed(self, batch_id: str, within: timedelta) -> bool:
        """Whether the workflow closed within that time.

        A long poll: the engine answers when it is over, and is asked nothing meanwhile.
        """
        handle = self._client.get_workflow_handle(workflow_id_for(batch_id))
        try:
            async with (
                asyncio.timeout(within.total_seconds()) as waiting,
                _translated(2 * within, closed_is_known=True),
            ):
                await handle.result()
        except (WorkflowFailureError, BatchClosedError):
            return True  # cancelled, terminated, or no longer remembered
        except TimeoutError:
            if not waiting.expired():
                raise
            return False
        return True

    async def reopen(self, spec: BatchSpec, created_at: datetime, request: RetryRequest) -> ControlAnswer | None:
        """Start a closed batch again for a retry; None when the answer did not come in time.

        Raises ``BatchClosedError`` when the workflow ended before it answered, and ``InvalidStateError`` while it is
        being cancelled.
        """
        common: dict[str, Any] = {
            "id": workflow_id_for(spec.batch_id),
            "task_queue": WORKFLOW_QUEUE,
            "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
            "id_reuse_policy": WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            "memo": _memo(spec, created_at),
            "search_attributes": _search_attributes(spec),
            "static_summary": _summary(spec),
            "priority": _priority(spec),
            "task_timeout": WORKFLOW_TASK_TIMEOUT,
        }
        start = BatchInput(spec=spec, reopen=True)
        try:
            async with _translated(limit_is_known=True), asyncio.timeout(self._update_timeout.total_seconds()):
                answer: ControlAnswer = await self._client.execute_update_with_start_workflow(
                    "retry",
                    request,
                    start_workflow_operation=WithStartWorkflowOperation(BATCH_WORKFLOW, start, **common),
                    id=f"retry-{request.request_id}",
                    result_type=ControlAnswer,
                    rpc_timeout=self._update_timeout,
                )
                return answer
        except (WorkflowUpdateRPCTimeoutOrCancelledError, TimeoutError, _NoMoreUpdatesError):
            log.info("control.sent_as_signal", batch_id=spec.batch_id, message="retry")
        await self._refuse_while_cancelling(spec.batch_id, "retry")
        async with _translated():
            await self._client.start_workflow(
                BATCH_WORKFLOW,
                start,
                start_signal="retry_signal",
                start_signal_args=[request],
                rpc_timeout=RPC_TIMEOUT,
                **common,
            )
        return None

    async def _refuse_while_cancelling(self, batch_id: str, name: str) -> None:
        """A batch that is to be cancelled ignores it as a signal, and it would be answered for all the same."""
        if (await self.status(batch_id)).is_to_cancel:
            raise InvalidStateError(
                f"The batch is being cancelled: it cannot {name} now.",
                action="Read the batch when that is over; then it takes a retry.",
                current_status=BatchState.CANCELLING.value,
                wanted=name,
            )

    async def status(self, batch_id: str) -> EngineStatus:
        """Whether the workflow is open, from ``describe``."""
        try:
            async with _translated(self._read_timeout, closed_is_known=True):
                description = await self._describe(workflow_id_for(batch_id))
        except BatchClosedError:
            return EngineStatus(Presence.MISSING)
        is_open = description.status == WorkflowExecutionStatus.RUNNING
        return EngineStatus(
            presence=Presence.OPEN if is_open else Presence.CLOSED,
            progress=await description.memo_value(MEMO_PROGRESS, None, type_hint=BatchProgress),
            is_to_cancel=is_open and description.raw_description.workflow_extended_info.cancel_requested,
            was_terminated=description.status in (WorkflowExecutionStatus.TERMINATED, WorkflowExecutionStatus.FAILED),
            closed_at=description.close_time,
        )

    async def running(self, tenant_id: str) -> dict[str, BatchProgress]:
        """Memos of a tenant's open batches, by batch id; one visibility query, at most a second behind."""
        found = await self._memos(tenant_id, limit=MOST_LISTED)
        # The newest come first: behind very many that wait, those that do more would not be seen.
        return found | await self.under_way(tenant_id) if len(found) >= MOST_LISTED else found

    async def progress_of(self, tenant_id: str, batch_ids: Sequence[str]) -> dict[str, BatchProgress]:
        """The same of these, up to a few hundred."""
        ids = ", ".join(f"'{workflow_id_for(batch_id)}'" for batch_id in batch_ids)
        return await self._memos(tenant_id, f" AND WorkflowId IN ({ids})")

    async def under_way(self, tenant_id: str) -> dict[str, BatchProgress]:
        """The same of those that do more than wait for their start or their place."""
        waiting = ", ".join(f"'{state}'" for state in _WAITING)
        return await self._memos(tenant_id, f" AND BatchState NOT IN ({waiting})")

    async def _memos(
        self, tenant_id: str, condition: str = "", *, limit: int | None = None
    ) -> dict[str, BatchProgress]:
        found: dict[str, BatchProgress] = {}
        query = f"WorkflowType = '{BATCH_WORKFLOW}' AND ExecutionStatus = 'Running' AND TenantId = '{tenant_id}'"
        async with _translated(self._read_timeout):
            async for execution in self._client.list_workflows(
                query + condition, limit=limit, rpc_timeout=self._read_timeout
            ):
                progress = await execution.memo_value(MEMO_PROGRESS, None, type_hint=BatchProgress)
                if progress is not None:
                    found[execution.id.removeprefix("batch/")] = progress
        return found

    async def heartbeats(self, batch_id: str, children: Iterable[ChildProgress] = ()) -> dict[int, DocumentHeartbeat]:
        """Last heartbeats of the documents in flight, by ordinal: their live stages. A large batch's are its children's."""
        ids = [child_workflow_id_for(batch_id, child.index, child.retry_round) for child in children]
        found = await asyncio.gather(*map(self._heartbeats_of, ids or [workflow_id_for(batch_id)]))
        return {ordinal: beat for beats in found for ordinal, beat in beats.items()}

    async def _heartbeats_of(self, workflow_id: str) -> dict[int, DocumentHeartbeat]:
        try:
            async with _translated(self._read_timeout, closed_is_known=True):
                description = await self._describe(workflow_id)
        except BatchClosedError:
            return {}
        beats: dict[int, DocumentHeartbeat] = {}
        for activity in description.raw_description.pending_activities:
            is_pack = activity.activity_id.startswith(_PACK_PREFIX)
            ordinal = _ordinal(activity.activity_id)
            if not activity.HasField("heartbeat_details") or not (is_pack or ordinal is not None):
                continue
            kind = PackHeartbeat if is_pack else DocumentHeartbeat
            [beat, *_] = await self._client.data_converter.decode_wrapper(activity.heartbeat_details, [kind])
            beats[beat.ordinal if isinstance(beat, PackHeartbeat) else ordinal or 0] = beat
        return beats

    async def _describe(self, workflow_id: str) -> WorkflowExecutionDescription:
        handle = self._client.get_workflow_handle(workflow_id)
        return await handle.describe(rpc_timeout=self._read_timeout)


@asynccontextmanager
async def _translated(
    within: timedelta = MESSAGE_TIMEOUT, *, closed_is_known: bool = False, limit_is_known: bool = False
) -> AsyncIterator[None]:
    try:
        async with reached(within):
            yield
    except WorkflowUpdateFailedError as error:
        raise _refusal(error) from error
    except RPCError as error:
        if closed_is_known and error.status == RPCStatusCode.NOT_FOUND:
            raise BatchClosedError from error
        if limit_is_known and error.status in _NO_MORE_UPDATES:
            raise _NoMoreUpdatesError from error
        raise EngineUnavailableError(
            "The workflow engine did not answer in time.", rpc_status=error.status.name
        ) from error


def _refusal(error: WorkflowUpdateFailedError) -> Exception:
    """An update that was rejected or failed carries our own error's code and facts."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type == _COMPLETED_MEANWHILE:
        return BatchClosedError()
    if not isinstance(cause, ApplicationError) or cause.type is None:
        return EngineUnavailableError("The workflow engine could not carry the message out.")
    facts = cause.details[0] if cause.details and isinstance(cause.details[0], Mapping) else {}
    return error_from_code(cause.type, cause.message, facts)


def _ordinal(activity_id: str) -> int | None:
    number = activity_id.removeprefix(_ACTIVITY_PREFIX).split("-", 1)[0]
    return int(number) if activity_id.startswith(_ACTIVITY_PREFIX) and number.isdigit() else None


def _memo(spec: BatchSpec, created_at: datetime) -> Mapping[str, Any]:
    counts = Counts(total=spec.submitted_count, pending=spec.submitted_count)
    return progress_memo(
        BatchProgress(state=_first_state(spec), counts=counts, priority=spec.priority, created_at=created_at)
    )


def _first_state(spec: BatchSpec) -> BatchState:
    return BatchState.PENDING if spec.hold or spec.open else BatchState.QUEUED


def _search_attributes(spec: BatchSpec) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(SearchAttributeKey.for_keyword("TenantId"), spec.tenant_id),
            SearchAttributePair(BATCH_STATE, _first_state(spec).value),
            SearchAttributePair(SearchAttributeKey.for_keyword("Pipeline"), spec.pipeline),
            SearchAttributePair(SearchAttributeKey.for_keyword("CreatedBy"), spec.created_by),
            SearchAttributePair(DOCUMENTS_TOTAL, spec.submitted_count),
            SearchAttributePair(DOCUMENTS_FAILED, 0),
        ]
    )


def _summary(spec: BatchSpec) -> str:
    """Shown in the Temporal UI; at most 400 bytes."""
    text = f"{spec.name} · {spec.submitted_count} files → {spec.collection}"
    return text.encode()[:390].decode(errors="ignore")


def _priority(spec: BatchSpec) -> Priority:
    return Priority(priority_key=spec.priority, fairness_key=spec.tenant_id, fairness_weight=spec.fairness_weight)

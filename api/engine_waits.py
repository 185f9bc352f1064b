"""What Temporal knows of why a batch stands still: its tenant's line, who polls, what the next attempt waits for.

Nothing here needs a worker, but the position of a batch that stands far back in a long line.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import PendingActivityState, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.common import QueryRejectCondition
from temporalio.service import RPCError, RPCStatusCode

from api.engine_calls import READ_TIMEOUT, SILENT_SECONDS, reached
from api.recent import Recent
from ingather.models.engine import MEMO_LINE, WORKFLOW_QUEUE
from ingather.models.errors import EmbedderUnavailableError, EngineUnavailableError, ModelUnavailableError
from ingather.models.identity import places_workflow_id_for
from ingather.models.messages import PlacesLine

LINE_SECONDS = 1.0
POLLS_SECONDS = 2.0
"""How long an answer is shared."""

LIMIT_REACHED = "status 429"
_PROVIDERS = frozenset({EmbedderUnavailableError.code, ModelUnavailableError.code})
"""How an embedding service's refusal reads in the facts of the failure."""

_LINE_BYTES = 16


@dataclass(frozen=True, slots=True)
class PendingWork:
    """A batch's activities that have not ended."""

    started: int = 0
    """At work on a worker, as far as the engine knows."""
    scheduled: int = 0
    """Waiting for a worker."""
    limited: int = 0
    """Waiting until a provider takes requests again."""
    limited_until: datetime | None = None
    """When the first of those is tried again."""


class EngineWaits:
    """Raises ``EngineUnavailableError``; calls end within ``timeout``, and for a moment after one that got no answer at once."""

    def __init__(self, client: Client, *, timeout: timedelta = READ_TIMEOUT) -> None:
        self._client = client
        self._timeout = timeout
        self._lines = Recent(self._read_line, LINE_SECONDS, SILENT_SECONDS)
        self._polls = Recent(self._read_last_poll, POLLS_SECONDS, SILENT_SECONDS)
        self._pending = Recent(self._read_pending, LINE_SECONDS, SILENT_SECONDS)

    async def line(self, tenant_id: str) -> PlacesLine | None:
        """Who waits for a place, at most a second old; None where nobody does."""
        return await self._lines.get(tenant_id)

    async def seconds_since_poll(self, queue: str) -> float:
        """How long ago a worker last asked this queue for work; infinite where none did for minutes."""
        polled_at = await self._polls.get(queue)
        return math.inf if polled_at is None else (datetime.now(UTC) - polled_at).total_seconds()

    async def pending(self, workflow_ids: tuple[str, ...]) -> PendingWork:
        """Activities of a batch and of its children, counted."""
        return await self._pending.get(workflow_ids)

    async def _read_line(self, tenant_id: str) -> PlacesLine | None:
        handle = self._client.get_workflow_handle(places_workflow_id_for(tenant_id))
        try:
            async with _translated(self._timeout):
                described = await handle.describe(rpc_timeout=self._timeout)
        except _NotThereError:
            return None
        if described.status is not WorkflowExecutionStatus.RUNNING:
            return None
        line = await described.memo_value(MEMO_LINE, None, type_hint=PlacesLine)
        if line is None or line.waiting * _LINE_BYTES <= len(line.order) * 3 // 4:
            return line
        # The memo names the first of a long line; a worker knows the rest.
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                whole: PlacesLine = await handle.query(
                    "line",
                    result_type=PlacesLine,
                    reject_condition=QueryRejectCondition.NOT_OPEN,
                    rpc_timeout=self._timeout,
                )
        except (RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError, TimeoutError):
            return line
        return whole

    async def _read_last_poll(self, queue: str) -> datetime | None:
        is_workflows = queue == WORKFLOW_QUEUE
        kind = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW if is_workflows else TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
        )
        async with _translated(self._timeout):
            answer = await self._client.workflow_service.describe_task_queue(request, timeout=self._timeout)
        return max((_moment(poller.last_access_time) for poller in answer.pollers), default=None)

    async def _read_pending(self, workflow_ids: tuple[str, ...]) -> PendingWork:
        found = await asyncio.gather(*map(self._read_activities, workflow_ids))
        return await self._counted(activity for activities in found for activity in activities)

    async def _read_activities(self, workflow_id: str) -> Sequence[PendingActivityInfo]:
        try:
            async with _translated(self._timeout):
                described = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=self._timeout)
        except _NotThereError:
            return ()
        return described.raw_description.pending_activities

    async def _counted(self, activities: Iterable[PendingActivityInfo]) -> PendingWork:
        started = scheduled = 0
        limited: list[datetime] = []
        for activity in activities:
            if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED:
                started += 1
            elif await self._met_a_limit(activity):
                limited.append(_moment(activity.next_attempt_schedule_time))
            else:
                scheduled += 1
        return PendingWork(started, scheduled, len(limited), min(limited, default=None))

    async def _met_a_limit(self, activity: PendingActivityInfo) -> bool:
        info = activity.last_failure.application_failure_info
        if info.type not in _PROVIDERS or not activity.HasField("next_attempt_schedule_time"):
            return False
        [facts, *_] = await self._client.data_converter.decode_wrapper(info.details) or [{}]
        return isinstance(facts, dict) and facts.get("reason") == LIMIT_REACHED


class _NotThereError(Exception):
    """There is no such workflow."""


@asynccontextmanager
async def _translated(within: timedelta) -> AsyncIterator[None]:
    try:
        async with reached(within):
            yield
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            raise _NotThereError from error
        raise EngineUnavailableError(
            "The workflow engine did not answer in time.", rpc_status=error.status.name
        ) from error


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)

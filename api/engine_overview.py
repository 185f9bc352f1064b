"""What Temporal knows of the whole deployment: who polls which queue, how much waits there, whose batches run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, GetSystemInfoRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from api.engine_calls import READ_TIMEOUT, SILENT_SECONDS, reached
from api.recent import Recent
from ingather.models.batch import BatchProgress, BatchState
from ingather.models.engine import BATCH_WORKFLOW, MEMO_PROGRESS, ROLES, SEARCH_ATTRIBUTES, WORKFLOW_QUEUE
from ingather.models.errors import EngineUnavailableError

OVERVIEW_SECONDS = 2.0
"""How long an answer is shared: however many look, Temporal is asked once."""
MOST_COUNTED = 5_000
"""Running batches whose numbers are added up, newest first."""
SEEN_WITHIN = timedelta(minutes=2)
"""A worker's long poll lasts a minute, so one that lives was seen since."""

_TENANT = SearchAttributeKey.for_keyword("TenantId")
_NOT_FOR_US = {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED}
_WAITING = frozenset({BatchState.PENDING, BatchState.QUEUED})


@dataclass(frozen=True, slots=True)
class Poller:
    """A worker process that asks a queue for work."""

    identity: str
    """``<pid>@<host>``, unless it was given another."""
    last_seen_at: datetime
    version: str | None = None
    """``<deployment>.<build>``; None for workers without versions."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """A task queue right now, as far as Temporal estimates."""

    name: str
    pollers: tuple[Poller, ...]
    """Those that live."""
    backlog: int
    """Tasks that no worker has taken yet."""
    oldest_seconds: float
    """How long the first of those has waited."""
    added_per_second: float
    dispatched_per_second: float


@dataclass(slots=True)
class TenantWork:
    """What one tenant has open."""

    batches_running: int = 0
    batches_waiting: int = 0
    """In line, or held."""
    documents_in_flight: int = 0
    documents_pending: int = 0


@dataclass(frozen=True, slots=True)
class EngineOverview:
    """All of it at one moment."""

    server_version: str
    missing_attributes: tuple[str, ...] | None
    """Search attributes that the namespace lacks; None where it does not let us look."""
    queues: tuple[QueueState, ...]
    work: dict[str, TenantWork] = field(default_factory=dict)
    """By tenant, of those that have open batches."""
    is_whole: bool = True
    """False where more batches run than were counted."""


class EngineOverviews:
    """Raises ``EngineUnavailableError``; ends within ``timeout``, and for a moment after an answer that did not come at once."""

    def __init__(self, client: Client, *, timeout: timedelta = READ_TIMEOUT) -> None:
        self._client = client
        self._timeout = timeout
        self._recent = Recent(self._read, OVERVIEW_SECONDS, SILENT_SECONDS)

    async def get(self) -> EngineOverview:
        """At most two seconds old."""
        return await self._recent.get(None)

    async def _read(self, _key: None) -> EngineOverview:
        names = [queue for queues in ROLES.values() for queue in queues]
        async with _translated(self._timeout):
            version, missing, (work, is_whole), queues = await asyncio.gather(
                self._server_version(),
                self._missing_attributes(),
                self._work(),
                asyncio.gather(*map(self._queue, names)),
            )
        return EngineOverview(version, missing, tuple(queues), work, is_whole)

    async def _server_version(self) -> str:
        answer = await self._client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=self._timeout)
        return answer.server_version

    async def _missing_attributes(self) -> tuple[str, ...] | None:
        request = ListSearchAttributesRequest(namespace=self._client.namespace)
        try:
            answer = await self._client.operator_service.list_search_attributes(request, timeout=self._timeout)
        except RPCError as error:
            if error.status in _NOT_FOR_US:
                return None
            raise
        return tuple(sorted(set(SEARCH_ATTRIBUTES) - set(answer.custom_attributes)))

    async def _queue(self, name: str) -> QueueState:
        is_workflows = name == WORKFLOW_QUEUE
        kind = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW if is_workflows else TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=name),
            task_queue_type=kind,
            report_stats=True,
        )
        answer = await self._client.workflow_service.describe_task_queue(request, timeout=self._timeout)
        oldest = datetime.now(UTC) - SEEN_WITHIN
        live = [poller for poller in map(_poller, answer.pollers) if poller.last_seen_at >= oldest]
        stats = answer.stats
        return QueueState(
            name=name,
            pollers=tuple(sorted(live, key=lambda poller: poller.identity)),
            backlog=stats.approximate_backlog_count,
            oldest_seconds=stats.approximate_backlog_age.ToTimedelta().total_seconds(),
            added_per_second=stats.tasks_add_rate,
            dispatched_per_second=stats.tasks_dispatch_rate,
        )

    async def _work(self) -> tuple[dict[str, TenantWork], bool]:
        found: dict[str, TenantWork] = {}
        query = f"WorkflowType = '{BATCH_WORKFLOW}' AND ExecutionStatus = 'Running'"
        counted = 0
        async for execution in self._client.list_workflows(query, limit=MOST_COUNTED, rpc_timeout=self._timeout):
            counted += 1
            tenant_id = execution.typed_search_attributes.get(_TENANT)
            progress = await execution.memo_value(MEMO_PROGRESS, None, type_hint=BatchProgress)
            if tenant_id is not None and progress is not None:
                add_up(found.setdefault(tenant_id, TenantWork()), progress)
        return found, counted < MOST_COUNTED


def add_up(work: TenantWork, progress: BatchProgress) -> None:
    """One more open batch of a tenant."""
    if progress.state in _WAITING:
        work.batches_waiting += 1
    else:
        work.batches_running += 1
    work.documents_in_flight += progress.counts.in_flight
    work.documents_pending += progress.counts.pending


def _poller(info: PollerInfo) -> Poller:
    options = info.deployment_options
    version = f"{options.deployment_name}.{options.build_id}" if options.build_id else None
    return Poller(info.identity, info.last_access_time.ToDatetime(UTC), version)


@asynccontextmanager
async def _translated(within: timedelta) -> AsyncIterator[None]:
    try:
        async with reached(within):
            yield
    except RPCError as error:
        raise EngineUnavailableError(
            "The workflow engine did not answer in time.", rpc_status=error.status.name
        ) from error

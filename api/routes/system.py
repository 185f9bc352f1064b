"""``/v1/system``: workers by role and queue, what waits for them, how the tenants share them, and whether every part is well."""

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel

from api.access import GuardedRoute, access
from api.dependencies import Parts
from api.engine_overview import QueueState
from api.service.system import SystemReport
from ingather.models.accounts import Scope
from ingather.models.engine import ROLES

router = APIRouter(prefix="/v1/system", tags=["administration"], route_class=GuardedRoute)


class WorkerView(BaseModel):
    """A worker process, as Temporal knows it."""

    identity: str
    """`<pid>@<host>`, unless it was given another."""
    last_seen_at: AwareDatetime
    """When it last asked for work; one that lives asks at least once a minute."""
    version: str | None
    """`<deployment>.<build>`; null for workers without versions."""


class QueueView(BaseModel):
    """A task queue. Its numbers are Temporal's own estimates."""

    name: str
    workers: list[WorkerView]
    backlog: int
    """Tasks that no worker has taken yet."""
    oldest_seconds: float
    """How long the first of those has waited."""
    added_per_second: float
    dispatched_per_second: float


class RoleView(BaseModel):
    """What a worker process may be told to do, and the queues it takes its work from."""

    role: str
    queues: list[QueueView]


class TenantShareView(BaseModel):
    """A tenant with open batches."""

    tenant_id: str
    name: str
    """Empty for one that was deleted."""
    weight: float
    share: float
    """Of the workers, 0 to 1, while all tenants with documents to go compete; 0 for one that has none."""
    batches_running: int
    batches_waiting: int
    documents_in_flight: int
    documents_pending: int


class CheckView(BaseModel):
    """One thing that was looked at."""

    name: str
    ok: bool | None
    """Null where it could not be looked at."""
    detail: str
    action: str
    """What to do; empty where all is well."""


class System(BaseModel):
    """The deployment right now."""

    is_well: bool
    """Every check is ok."""
    stale: bool
    """Temporal is away: `roles` and `tenants` are empty."""
    checks: list[CheckView]
    roles: list[RoleView]
    tenants: list[TenantShareView]
    """By share, the largest first."""
    is_whole: bool
    """False where more batches run than were counted for `tenants`."""
    versions: dict[str, str]


@router.get("")
@access(scope=Scope.ADMIN)
async def read_system(parts: Parts) -> System:
    """Everything at one moment, at most two seconds old. Needs the scope `admin`.

    A part that is away is an answer: it is reported among `checks`, within about two seconds.
    """
    return system_view(await parts.system.report())


def system_view(report: SystemReport) -> System:
    overview = report.overview
    queues = {queue.name: _queue_view(queue) for queue in overview.queues} if overview else {}
    roles = [
        RoleView(role=role, queues=[queues[name] for name in names if name in queues]) for role, names in ROLES.items()
    ]
    return System(
        is_well=all(check.ok for check in report.checks),
        stale=overview is None,
        checks=[
            CheckView(name=check.name, ok=check.ok, detail=check.detail, action=check.action) for check in report.checks
        ],
        roles=roles if overview else [],
        tenants=[
            TenantShareView(
                tenant_id=each.tenant_id,
                name=each.name,
                weight=each.weight,
                share=round(each.share, 4),
                batches_running=each.work.batches_running,
                batches_waiting=each.work.batches_waiting,
                documents_in_flight=each.work.documents_in_flight,
                documents_pending=each.work.documents_pending,
            )
            for each in report.tenants
        ],
        is_whole=overview is not None and overview.is_whole,
        versions=dict(report.versions),
    )


def _queue_view(queue: QueueState) -> QueueView:
    return QueueView(
        name=queue.name,
        workers=[
            WorkerView(identity=poller.identity, last_seen_at=poller.last_seen_at, version=poller.version)
            for poller in queue.pollers
        ],
        backlog=queue.backlog,
        oldest_seconds=round(queue.oldest_seconds, 1),
        added_per_second=round(queue.added_per_second, 2),
        dispatched_per_second=round(queue.dispatched_per_second, 2),
    )

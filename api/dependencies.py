"""What routes are given: the application's parts, the tenant, paging and the ``Prefer`` header."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import Depends, Header, Path, Query, Request

from api.access import Caller, Gate, admitted
from api.cursors import CursorCodec
from api.json_room import JsonRoom
from api.metrics import ApiMetrics
from api.readiness import Readiness
from api.resources import Links
from api.service.accounts import AccountService
from api.service.additions import AdditionService
from api.service.audit import AuditService
from api.service.batches import BatchService
from api.service.capacity import Capacity
from api.service.chunked_uploads import ChunkedUploads
from api.service.connections import ConnectionService
from api.service.control import ControlService
from api.service.documents import DocumentService
from api.service.handoff import HandoffService
from api.service.jobs import JobService
from api.service.open_batches import OpenBatches
from api.service.search import SearchService
from api.service.sheets import SheetService
from api.service.submission import SubmissionService
from api.service.system import SystemService
from api.service.texts import TextService
from api.service.tus_uploads import TusUploads
from api.service.webhooks import WebhookService
from ingather.domain.identifiers import as_uuid
from ingather.models.errors import BatchNotFoundError, DependencyError, UnauthorizedError, UnsupportedMediaTypeError
from ingather.ports.catalog import Catalog
from ingather.ports.event_log import EventLog
from ingather.ports.sheet_progress import SheetProgress

MAX_WAIT_SECONDS = 60.0
SECRET_HEADER = "Ingather-Webhook-Secret"  # noqa: S105  # a name, not a secret
"""Header of the one answer that shows the secret made for a batch's own webhook."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits that the routes themselves keep."""

    max_request_bytes: int
    max_json_bytes: int
    max_line_bytes: int
    page_size_default: int
    page_size_max: int


def _nobody(_tenant_id: str, _batch_id: str) -> None:
    return


@dataclass(slots=True)
class ApiParts:
    """Everything a route may call. Built once, by the composition root, and kept at ``app.state.parts``."""

    batches: BatchService
    control: ControlService
    documents: DocumentService
    submissions: SubmissionService
    additions: AdditionService
    search: SearchService
    capacity: Capacity
    audit: AuditService
    handoff: HandoffService
    connections: ConnectionService
    webhooks: WebhookService
    jobs: JobService
    system: SystemService
    texts: TextService
    open_jobs: OpenBatches
    sheets: SheetService
    sheet_progress: SheetProgress
    chunked_uploads: ChunkedUploads
    tus_uploads: TusUploads
    catalog: Catalog
    events: EventLog
    gate: Gate
    accounts: AccountService
    readiness: Readiness
    metrics: ApiMetrics
    cursors: CursorCodec
    json_room: JsonRoom
    limits: RequestLimits
    published_limits: dict[str, Any]
    public_url: str | None = None
    temporal_ui_url: str | None = None
    temporal_namespace: str = "default"
    embedding_models: frozenset[str] = frozenset()
    """Names of the model that documents are embedded with."""
    allowed_origins: frozenset[str] = frozenset()
    """Whose pages may open a WebSocket, beside the API's own."""
    attend: Callable[[str, str], None] = _nobody
    """Have a batch told from now on, whether or not anybody watches: tenant and id."""


def get_parts(request: Request) -> ApiParts:
    parts: ApiParts = request.app.state.parts
    return parts


Parts = Annotated[ApiParts, Depends(get_parts)]


async def get_caller(caller: Annotated[Caller | None, Depends(admitted)]) -> Caller:
    """Who asks, let in."""
    if caller is None:
        raise UnauthorizedError("This route has no callers.")
    return caller


CurrentCaller = Annotated[Caller, Depends(get_caller)]
TenantHeader = Annotated[
    str | None,
    Header(alias="X-Tenant-ID", description="The credential's own tenant, or the default one, when left out."),
]


async def get_tenant(caller: CurrentCaller, _x_tenant_id: TenantHeader = None) -> str:
    """The tenant a request acts for."""
    return caller.tenant_id


async def get_batch_id(batch_id: Annotated[str, Path(description="The batch's id.")]) -> str:
    """A batch id from the path. What cannot be one is not found."""
    # Not a plain function: that would run in a thread, and what it binds for the log would be lost there.
    normal = as_uuid(batch_id)
    if normal is None:
        raise BatchNotFoundError("No batch of this tenant has this id.")
    structlog.contextvars.bind_contextvars(batch_id=normal)
    return normal


async def get_batch_tenant(
    parts: Parts,
    caller: CurrentCaller,
    batch_id: Annotated[str, Depends(get_batch_id)],
    _x_tenant_id: TenantHeader = None,
) -> str:
    """The tenant in which the batch of the path is looked for: an open deployment finds it in any, unless one is named."""
    tenant_id = await parts.gate.tenant_of_batch(caller, batch_id)
    structlog.contextvars.bind_contextvars(tenant_id=tenant_id)
    return tenant_id


def get_links(request: Request, parts: Parts) -> Links:
    base = parts.public_url or str(request.base_url)
    return Links(base.rstrip("/"), parts.temporal_ui_url, parts.temporal_namespace)


def get_wait_seconds(
    prefer: Annotated[str | None, Header(description="`wait=N`: answer when it is done, at most N seconds.")] = None,
) -> float:
    """Seconds a client is ready to wait (RFC 7240), at most a minute; 0 when it did not say."""
    return asked_wait(prefer) or 0.0


def asked_wait(prefer: str | None) -> float | None:
    """The same where it makes a difference whether a client said 0 or nothing, which is None."""
    match = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", prefer or "", re.IGNORECASE)
    return min(float(match.group(1)), MAX_WAIT_SECONDS) if match else None


def get_page_size(
    parts: Parts, limit: Annotated[int | None, Query(ge=1, description="Entries on a page.")] = None
) -> int:
    return min(limit or parts.limits.page_size_default, parts.limits.page_size_max)


def require_not_draining(parts: ApiParts) -> None:
    """No new work for a process that is going away."""
    if parts.readiness.is_draining:
        raise DependencyError("The process is shutting down.", action="Send it again; another process takes it.")


async def require_json(request: Request) -> None:
    """A body, where there is one, must say that it is JSON."""
    content_type = request.headers.get("content-type", "")
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    kind = content_type.split(";", 1)[0].strip().lower()
    if has_body and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaTypeError("This route takes application/json.")


Tenant = Annotated[str, Depends(get_tenant)]
BatchTenant = Annotated[str, Depends(get_batch_tenant)]
BatchIdPath = Annotated[str, Depends(get_batch_id)]
LinksOf = Annotated[Links, Depends(get_links)]
WaitSeconds = Annotated[float, Depends(get_wait_seconds)]
PageSize = Annotated[int, Depends(get_page_size)]
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", description="Makes a repeated request the same request.")
]

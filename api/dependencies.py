"""What routes are given: the application's parts, the tenant, paging and the ``Prefer`` header."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Annotated, Any

import structlog
from fastapi import Depends, Header, Path, Query, Request

from api.cursors import CursorCodec
from api.metrics import ApiMetrics
from api.readiness import Readiness
from api.resources import Links
from api.service.additions import AdditionService
from api.service.batches import BatchService
from api.service.control import ControlService
from api.service.documents import DocumentService
from api.service.search import SearchService
from api.service.submission import SubmissionService
from ingather.models.errors import BatchNotFoundError, DependencyError, TenantNotFoundError, UnsupportedMediaTypeError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.catalog import Catalog

UUID_PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
JSON_BODIES_AT_ONCE = 4
MAX_WAIT_SECONDS = 60.0
_TENANT_KNOWN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits that the routes themselves keep."""

    max_request_bytes: int
    max_json_bytes: int
    max_line_bytes: int
    page_size_default: int
    page_size_max: int


@dataclass(slots=True)
class ApiParts:
    """Everything a route may call. Built once, by the composition root, and kept at ``app.state.parts``."""

    batches: BatchService
    control: ControlService
    documents: DocumentService
    submissions: SubmissionService
    additions: AdditionService
    search: SearchService
    catalog: Catalog
    readiness: Readiness
    metrics: ApiMetrics
    cursors: CursorCodec
    limits: RequestLimits
    published_limits: dict[str, Any]
    public_url: str | None = None
    temporal_ui_url: str | None = None
    temporal_namespace: str = "default"
    json_turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(JSON_BODIES_AT_ONCE))
    """Submissions in JSON are held in memory: so many at a time."""
    known_tenants: dict[str, float] = field(default_factory=dict)


def get_parts(request: Request) -> ApiParts:
    parts: ApiParts = request.app.state.parts
    return parts


Parts = Annotated[ApiParts, Depends(get_parts)]


async def get_tenant(
    parts: Parts, x_tenant_id: Annotated[str | None, Header(description="The default tenant when left out.")] = None
) -> str:
    """The tenant a request acts for. Raises ``TenantNotFoundError``."""
    tenant_id = (x_tenant_id or DEFAULT_TENANT_ID).strip().lower()
    if not UUID_PATTERN.fullmatch(tenant_id) or not await _tenant_exists(parts, tenant_id):
        raise TenantNotFoundError("No tenant has the id given in X-Tenant-ID.")
    structlog.contextvars.bind_contextvars(tenant_id=tenant_id)
    return tenant_id


async def _tenant_exists(parts: ApiParts, tenant_id: str) -> bool:
    if parts.known_tenants.get(tenant_id, 0.0) > time.monotonic():
        return True
    if not await parts.catalog.tenant_exists(tenant_id):
        return False
    parts.known_tenants[tenant_id] = time.monotonic() + _TENANT_KNOWN_SECONDS
    return True


def get_batch_id(batch_id: Annotated[str, Path(description="The batch's id.")]) -> str:
    """A batch id from the path. What cannot be one is not found."""
    normal = batch_id.lower()
    if not UUID_PATTERN.fullmatch(normal):
        raise BatchNotFoundError("No batch of this tenant has this id.")
    structlog.contextvars.bind_contextvars(batch_id=normal)
    return normal


def get_links(request: Request, parts: Parts) -> Links:
    base = parts.public_url or str(request.base_url)
    return Links(base.rstrip("/"), parts.temporal_ui_url, parts.temporal_namespace)


def get_wait_seconds(
    prefer: Annotated[str | None, Header(description="`wait=N`: answer when it is done, at most N seconds.")] = None,
) -> float:
    """Seconds a client is ready to wait (RFC 7240), at most a minute; 0 when it did not say."""
    match = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", prefer or "", re.IGNORECASE)
    return min(float(match.group(1)), MAX_WAIT_SECONDS) if match else 0.0


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
BatchIdPath = Annotated[str, Depends(get_batch_id)]
LinksOf = Annotated[Links, Depends(get_links)]
WaitSeconds = Annotated[float, Depends(get_wait_seconds)]
PageSize = Annotated[int, Depends(get_page_size)]
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", description="Makes a repeated request the same request.")
]

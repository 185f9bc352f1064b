"""The service about itself: limits, numbers, health, metrics, documentation, the front page."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel
from starlette.responses import HTMLResponse, JSONResponse

from api.access import GuardedRoute, public
from api.dependencies import Parts, Tenant
from api.metrics import METRICS_MEDIA_TYPE
from api.problems import known_codes, problem_for_status, render_problem
from api.service.open_sums import open_sums

router = APIRouter(route_class=GuardedRoute)

STATIC_FOLDER = Path(__file__).parent.parent / "static"


class Stats(BaseModel):
    """A tenant's numbers right now."""

    batches_open: dict[str, int]
    """Open batches by state."""
    documents_open: int
    """Documents of open batches that have not ended."""
    bytes_open: int
    """Submitted bytes of batches that have not ended: what `max_concurrent_bytes` is about."""
    chunks: int
    """Searchable chunks."""


class ProblemKind(BaseModel):
    """What a problem's ``type`` stands for."""

    code: str
    status: int
    title: str
    action: str


@router.get("/v1/limits", tags=["service"])
async def read_limits(parts: Parts, tenant: Tenant) -> dict[str, Any]:
    """Every limit, under the name of its setting (`INGATHER_LIMITS__<NAME>`), with those the tenant has of its own."""
    own = await parts.gate.tenants.get(tenant)
    return own.limits.over(parts.published_limits)


@router.get("/v1/stats", tags=["service"])
async def read_stats(parts: Parts, tenant: Tenant) -> Stats:
    """A tenant's open batches and searchable chunks."""
    sums = await open_sums(parts.catalog, parts.batches, tenant)
    return Stats(
        batches_open={state.value: count for state, count in sums.by_state.items()},
        documents_open=sums.documents_left,
        bytes_open=await parts.catalog.bytes_in_flight(tenant),
        chunks=await parts.search.count(tenant),
    )


@router.get("/livez", tags=["service"])
@router.head("/livez", include_in_schema=False)
@public
async def read_liveness() -> dict[str, str]:
    """This process answers. Nothing else is looked at."""
    return {"status": "alive"}


@router.get("/readyz", tags=["service"], responses={503: {"description": "Not ready, or shutting down"}})
@router.head("/readyz", include_in_schema=False)
@public
async def read_readiness(request: Request, parts: Parts) -> Response:
    """Whether this process can do its work: every dependency, by name."""
    if parts.readiness.is_draining:
        return problem_for_status(request.scope, 503, "The process is shutting down")
    checks = await parts.readiness.report()
    if all(result == "ok" for result in checks.values()):
        return JSONResponse({"status": "ready", "checks": checks})
    down = [name for name, result in checks.items() if result != "ok"]
    return render_problem(
        request.scope,
        status=503,
        code="dependency_unavailable",
        title="A part of the service is unavailable",
        detail=f"Not ready: {', '.join(down)}.",
        action="Try again in a moment; `ingather doctor` says which part is down.",
        facts={"checks": checks},
    )


@router.get("/metrics", tags=["service"])
@public
async def read_metrics(parts: Parts) -> Response:
    """Prometheus metrics of this process."""
    return Response(parts.metrics.render(), media_type=METRICS_MEDIA_TYPE)


@router.get("/problems/{code}", tags=["service"])
@public
async def read_problem_kind(request: Request, code: str) -> Response:
    """What a problem's code means, and what to do about it."""
    known = known_codes().get(code)
    if known is None:
        return problem_for_status(request.scope, 404)
    status, title, action = known
    return JSONResponse(ProblemKind(code=code, status=status, title=title, action=action).model_dump())


@router.get("/docs", include_in_schema=False)
@public
async def read_docs(request: Request) -> HTMLResponse:
    """Interactive documentation; everything it needs is served from here."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=request.app.title,
        swagger_js_url="/static/swagger-ui-bundle.js",
        swagger_css_url="/static/swagger-ui.css",
        swagger_favicon_url="/static/favicon-32x32.png",
    )

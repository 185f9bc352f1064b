"""Every route there is, of the API, the contracts and the dashboard, in the order in which they are asked."""

from collections.abc import Mapping, Sequence
from functools import cache

from fastapi import APIRouter, Depends
from fastapi.staticfiles import StaticFiles
from starlette.routing import BaseRoute

from api import problems
from api.access import admitted
from api.contracts import (
    document_upload,
    sheet_login,
    sheet_uploads,
    sheets,
    source_job_socket,
    source_jobs,
    tenant_jobs,
    texts,
)
from api.dashboard import pages as dashboard
from api.routes import (
    api_keys,
    audit,
    batches,
    connections,
    documents,
    events,
    handoff,
    search,
    service_info,
    sessions,
    stream_tickets,
    submissions,
    system,
    tenants,
    tus,
    users,
    webhooks,
)

MAX_BODY_BYTES = 1024 * 1024
"""What a request may carry where nothing else is said; submissions have limits of their own."""

BATCH_ROUTES = (
    submissions,
    batches,
    documents,
    events,
    stream_tickets,
    handoff,
    search,
    connections,
    webhooks,
    tus,
)
ACCOUNT_ROUTES = (tenants, users, api_keys, sessions, audit, system)
CONTRACTS = (tenant_jobs, document_upload, source_jobs, texts, sheets, sheet_login, sheet_uploads)


@cache
def all_routes() -> Sequence[BaseRoute]:
    """Routes, each asking for what lets a caller in, unless it says that it is open.

    FastAPI makes a route ready when the router that includes it is first asked for anything, some milliseconds each. So this is done
    once a process, however many applications it makes.
    """
    router = APIRouter(
        max_body_size=MAX_BODY_BYTES,
        redirect_slashes=False,
        responses={"default": problems.problem_document()},
        # No route is open by oversight: those that are say so.
        dependencies=[Depends(admitted)],
    )
    for routes in (*BATCH_ROUTES, *ACCOUNT_ROUTES, service_info, *CONTRACTS):
        router.include_router(routes.router)
    router.include_router(source_jobs.health_router)
    router.include_router(texts.status_router)
    router.include_router(source_job_socket.router)
    router.mount("/static", StaticFiles(directory=service_info.STATIC_FOLDER), name="static")
    for pages in dashboard.ROUTERS:
        router.include_router(pages)
    router.mount("/assets", dashboard.Assets(directory=dashboard.STATIC_FOLDER), name="assets")
    return tuple(router.routes)


def envelopes() -> Mapping[str, problems.Envelope]:
    """By the beginning of a path, how an error is said there where that is not as everywhere else."""
    said = {contract.router.prefix: contract.envelope for contract in CONTRACTS}
    return said | {texts.status_router.prefix: texts.envelope}

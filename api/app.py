"""Composition root of the HTTP API: settings in, an ASGI application out.

``uvicorn --factory api.app:create_app`` serves it. Parts are opened when the server starts and
closed when it stops; nothing is opened by importing or creating the application.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from api import problems
from api.composition import build_parts
from api.contracts import job_body
from api.contracts.job_events import JobAnnouncer
from api.dashboard import rendering as dashboard
from api.dependencies import ApiParts
from api.engine import BatchEngine
from api.guard import check_bind_of_this_process
from api.memory import return_large_buffers_to_the_system, spare_the_collector_what_stays
from api.metrics import ApiMetrics
from api.middleware import LoopbackGuard, ProblemMiddleware, RequestContextMiddleware
from api.openapi import describe_security
from api.route_table import MAX_BODY_BYTES, all_routes, envelopes
from api.routes import webhooks
from api.search_process import SearchProcess, open_local_backend
from api.service.search import SearchService, remote_or_none
from api.streams import EventStreams, ProgressReader
from api.streams.meters import StreamMeters
from api.streams.sheet_feed import SheetFeed
from api.termination import on_termination
from ingather.adapters.rate_limiter import LimitsRateLimiter
from ingather.adapters.redis_short_memory import RedisShortMemory
from ingather.bootstrap import (
    build_embedder,
    build_other_embedders,
    build_page_images,
    connect,
    migrate,
    open_stores,
    tell_unknown_variables,
)
from ingather.logging import configure_logging
from ingather.models.identity import DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME
from ingather.settings import Settings, read_settings

log = structlog.get_logger(__name__)

CACHE_BYTES = 1024 * 1024
"""Objects kept in memory: little, because this process writes uploads once and seldom reads them."""

OpenParts = Callable[[FastAPI], AbstractAsyncContextManager[ApiParts]]


class IngatherApi(FastAPI):
    """FastAPI with our layers around everything, its own body limit and error page included."""

    def __init__(
        self, *, metrics: ApiMetrics, public_hosts: frozenset[str], lifespan: OpenParts, is_open: bool = True
    ) -> None:
        self._metrics = metrics
        self._public_hosts = public_hosts
        self._is_open = is_open

        @asynccontextmanager
        async def opened(app: FastAPI) -> AsyncIterator[None]:
            async with lifespan(app) as parts:
                app.state.parts = parts
                yield

        super().__init__(
            title="Ingather",
            version=version("ingather"),
            description="Takes documents in, by the thousand, and loses none.",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            max_body_size=MAX_BODY_BYTES,
            lifespan=opened,
            routes=list(all_routes()),
        )

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            describe_security(super().openapi(), self.routes)
        return super().openapi()

    def build_middleware_stack(self) -> ASGIApp:
        inner = super().build_middleware_stack()
        shaped: ASGIApp = ProblemMiddleware(inner)
        if self._is_open:
            shaped = LoopbackGuard(shaped, self._public_hosts)
        return RequestContextMiddleware(shaped, self._metrics)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application as it is served. Raises ``ConfigurationError`` when settings do not fit, or would open it to the network."""
    settings = settings or read_settings()
    if settings.auth.mode == "open":
        check_bind_of_this_process(settings.api.host)
    configure_logging(settings.log.format, settings.log.level)
    tell_unknown_variables()
    _keep_query_strings_out_of_logs()
    return_large_buffers_to_the_system()
    metrics = ApiMetrics()
    is_open = settings.auth.mode == "open"
    lifespan = partial(_open_parts, settings, metrics)
    return build_app(metrics, lifespan, public_url=settings.api.public_url, is_open=is_open)


@asynccontextmanager
async def _open_parts(settings: Settings, metrics: ApiMetrics, app: FastAPI) -> AsyncIterator[ApiParts]:
    """Everything there is to serve, until the block ends."""
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(migrate, settings)
        stores = await stack.enter_async_context(open_stores(settings, cache_bytes=CACHE_BYTES))
        await stores.catalog.add_tenant(DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME)
        # What needs no engine is served without one, and the rest as soon as it is there.
        client = await connect(settings, lazy=True)
        engine, reader = BatchEngine(client), ProgressReader(client, stores.events)
        search = await stack.enter_async_context(_open_search(settings))
        redis_url = settings.redis.url.get_secret_value()
        limiter, memory = LimitsRateLimiter.over_redis(redis_url), RedisShortMemory(redis_url)
        page_images = build_page_images()
        for port in (limiter, memory, page_images):
            stack.push_async_callback(port.close)
        parts = build_parts(
            settings,
            stores,
            engine,
            reader,
            metrics,
            search=search,
            page_images=page_images,
            limiter=limiter,
            memory=memory,
        )
        stack.push_async_callback(parts.gate.authenticator.close)
        stack.push_async_callback(parts.webhooks.close)
        if settings.auth.first_key is not None:
            await parts.accounts.register_first_key(settings.auth.first_key)
        await parts.connections.renew_all()
        await parts.webhooks.renew_all()
        streams = EventStreams(
            client,
            stores.events,
            stores.catalog,
            reader=reader,
            settle=lambda key: parts.batches.settle(key.tenant_id, key.batch_id),
            streams_per_tenant=settings.limits.streams_per_client,
            announcers={job_body.CONTRACT: JobAnnouncer},
        )
        sheet_feed = SheetFeed(stores.sheet_progress)
        await stack.enter_async_context(_streams_open(app, parts, metrics, streams, sheet_feed))
        stack.push_async_callback(parts.open_jobs.close)
        spare_the_collector_what_stays()
        log.info("api.opened", namespace=engine.namespace, auth=settings.auth.mode)
        try:
            yield parts
        finally:
            await parts.additions.signals.close()
            log.info("api.closed")


@asynccontextmanager
async def _streams_open(
    app: FastAPI, parts: ApiParts, metrics: ApiMetrics, streams: EventStreams, sheet_feed: SheetFeed
) -> AsyncIterator[None]:
    """What is told as it happens; who listens is sent away in order when the server is to stop, and when the block ends."""
    async with streams:
        sheet_feed.start()
        app.state.streams, app.state.sheet_feed = streams, sheet_feed
        metrics.registry.register(StreamMeters(streams))
        parts.attend = streams.attend
        parts.readiness.drains_with(lambda: streams.draining)
        on_termination(streams.hub.drain)
        on_termination(sheet_feed.drain)
        try:
            yield
        finally:
            sheet_feed.drain()
            await streams.drain()
            await sheet_feed.close()


@asynccontextmanager
async def _open_search(settings: Settings) -> AsyncIterator[SearchService]:
    """The search process; a model behind HTTP is asked from here."""
    async with AsyncExitStack() as stack:
        backend = SearchProcess(settings, open_local_backend)
        stack.push_async_callback(backend.close)
        backend.warm_up()
        search = SearchService(backend, remote_or_none(build_embedder(settings)), build_other_embedders(settings))
        stack.push_async_callback(search.close)
        yield search


def build_app(
    metrics: ApiMetrics, open_parts: OpenParts, *, public_url: str | None = None, is_open: bool = True
) -> FastAPI:
    """The application around parts that somebody else opens. Where it is open, it serves this machine alone."""
    host = urlsplit(public_url or "").hostname
    hosts = frozenset({host} if host else ())
    app = IngatherApi(metrics=metrics, public_hosts=hosts, lifespan=open_parts, is_open=is_open)
    problems.install(app, envelopes())
    app.webhooks.post("event")(webhooks.describe_event)
    dashboard.install(app)
    return app


def _keep_query_strings_out_of_logs() -> None:
    """Ours has none; uvicorn's access log has, and what it says of a WebSocket."""
    logging.getLogger("uvicorn.access").disabled = True
    lines = logging.getLogger("uvicorn.error")
    lines.addFilter(_without_query_string)
    # Below this it writes every header of a WebSocket's request, credentials included.
    lines.setLevel(max(lines.level, logging.INFO))


def _without_query_string(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True

"""Composition root of the HTTP API: settings in, an ASGI application out.

``uvicorn --factory api.app:create_app`` serves it. Parts are opened when the server starts and
closed when it stops; nothing is opened by importing or creating the application.
"""

import asyncio
import dataclasses
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from activities.webhooks import Newsroom
from api import problems
from api.access import Gate, admitted
from api.contracts import (
    document_upload,
    job_body,
    sheet_login,
    sheet_uploads,
    sheets,
    source_job_body,
    source_job_socket,
    source_jobs,
    tenant_jobs,
    texts,
)
from api.contracts.job_events import JobAnnouncer
from api.credentials import Authenticator
from api.cursors import CursorCodec
from api.dashboard import pages as dashboard
from api.dependencies import ApiParts, RequestLimits
from api.engine import BatchEngine
from api.guard import check_bind_of_this_process
from api.json_room import JsonRoom
from api.memory import return_large_buffers_to_the_system, spare_the_collector_what_stays
from api.metrics import ApiMetrics
from api.middleware import LoopbackGuard, ProblemMiddleware, RequestContextMiddleware
from api.openapi import describe_security
from api.passwords import Passwords
from api.rates import RateLimits, Rates
from api.readiness import Readiness
from api.routes import (
    api_keys,
    batches,
    connections,
    documents,
    events,
    handoff,
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
from api.routes import audit as audit_routes
from api.routes import search as search_routes
from api.search_process import SearchProcess, open_local_backend
from api.service.accounts import AccountService
from api.service.added_signals import AddedSignals
from api.service.additions import AdditionService
from api.service.audit import AuditService
from api.service.batches import BatchService
from api.service.capacity import Capacity
from api.service.chunked_uploads import ChunkedUploads, UploadLimits
from api.service.connections import ConnectionService
from api.service.control import ControlService
from api.service.documents import DocumentService
from api.service.handoff import HandoffService
from api.service.jobs import JobService
from api.service.metadata_rules import rules_in
from api.service.open_batches import OpenBatches
from api.service.receiving import Receiving
from api.service.search import SearchService, remote_or_none
from api.service.sheets import SheetService
from api.service.submission import SubmissionService
from api.service.system import SystemService
from api.service.tenants import TenantBook
from api.service.texts import TextLimits, TextService
from api.service.tus_uploads import TusUploads
from api.service.webhooks import WebhookService
from api.streams import EventStreams, ProgressReader
from api.streams.meters import StreamMeters
from api.streams.origins import origin_of
from api.streams.sheet_feed import SheetFeed
from api.termination import on_termination
from api.tickets import StreamTickets
from api.tokens import Tokens
from api.uploads import IntakeLimits
from ingather.adapters.memory.short_memory import InMemoryShortMemory
from ingather.adapters.rate_limiter import LimitsRateLimiter
from ingather.adapters.redis_short_memory import RedisShortMemory
from ingather.adapters.sources.patience import FOR_PEOPLE
from ingather.bootstrap import (
    Stores,
    build_embedder,
    build_other_embedders,
    build_page_images,
    build_reader,
    build_secret_box,
    build_sources,
    build_webhook_sender,
    connect,
    embedding_models,
    migrate,
    open_stores,
)
from ingather.logging import configure_logging
from ingather.models.identity import DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME
from ingather.ports.page_images import PageImages
from ingather.ports.rate_limiter import RateLimiter
from ingather.ports.short_memory import ShortMemory
from ingather.settings import AuthSettings, Limits, Settings
from workflows.pipelines import OFFERED_PIPELINES, PIPELINES

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 1024 * 1024
"""What a request may carry where nothing else is said; submissions have limits of their own."""

CACHE_BYTES = 1024 * 1024
"""Objects kept in memory: little, because this process writes uploads once and seldom reads them."""

BATCH_ROUTES = (
    submissions,
    batches,
    documents,
    events,
    stream_tickets,
    handoff,
    search_routes,
    connections,
    webhooks,
    tus,
)
ACCOUNT_ROUTES = (tenants, users, api_keys, sessions, audit_routes, system)
CONTRACTS = (tenant_jobs, document_upload, source_jobs, texts, sheets, sheet_login, sheet_uploads)

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
            responses={"default": problems.problem_document()},
            # No route is open by oversight: those that are say so.
            dependencies=[Depends(admitted)],
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
    """The application as it is served. Raises ``ConfigurationError`` when it would be open to the network."""
    settings = settings or Settings()
    if settings.auth.mode == "open":
        check_bind_of_this_process(settings.api.host)
    configure_logging(settings.log.format, settings.log.level)
    _keep_query_strings_out_of_logs()
    return_large_buffers_to_the_system()
    metrics = ApiMetrics()

    @asynccontextmanager
    async def open_parts(app: FastAPI) -> AsyncIterator[ApiParts]:
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(migrate, settings)
            stores = await stack.enter_async_context(open_stores(settings, cache_bytes=CACHE_BYTES))
            await stores.catalog.add_tenant(DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME)
            # What needs no engine is served without one, and the rest as soon as it is there.
            client = await connect(settings, lazy=True)
            engine = BatchEngine(client)
            reader = ProgressReader(client, stores.events)
            search = await stack.enter_async_context(_open_search(settings))
            limiter = LimitsRateLimiter.over_redis(settings.redis.url.get_secret_value())
            stack.push_async_callback(limiter.close)
            memory = RedisShortMemory(settings.redis.url.get_secret_value())
            stack.push_async_callback(memory.close)
            page_images = build_page_images()
            stack.push_async_callback(page_images.close)
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
            if settings.auth.first_key is not None:
                await parts.accounts.register_first_key(settings.auth.first_key)
            await parts.connections.renew_all()
            stack.push_async_callback(parts.webhooks.close)
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
            app.state.streams = await stack.enter_async_context(streams)
            app.state.sheet_feed = SheetFeed(stores.sheet_progress)
            app.state.sheet_feed.start()
            stack.push_async_callback(app.state.sheet_feed.close)
            metrics.registry.register(StreamMeters(streams))
            parts.attend = streams.attend
            parts.readiness.drains_with(lambda: streams.draining)
            stack.push_async_callback(parts.open_jobs.close)
            on_termination(streams.hub.drain)
            on_termination(app.state.sheet_feed.drain)
            spare_the_collector_what_stays()
            log.info("api.opened", namespace=engine.namespace, auth=settings.auth.mode)
            try:
                yield parts
            finally:
                await parts.additions.signals.close()
                app.state.sheet_feed.drain()
                await streams.drain()
                log.info("api.closed")

    is_open = settings.auth.mode == "open"
    return build_app(metrics, open_parts, public_url=settings.api.public_url, is_open=is_open)


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
    envelopes = {contract.router.prefix: contract.envelope for contract in CONTRACTS}
    problems.install(app, envelopes | {texts.status_router.prefix: texts.envelope})
    for routes in (*BATCH_ROUTES, *ACCOUNT_ROUTES, service_info):
        app.include_router(routes.router)
    app.webhooks.post("event")(webhooks.describe_event)
    for contract in CONTRACTS:
        app.include_router(contract.router)
    app.include_router(source_jobs.health_router)
    app.include_router(texts.status_router)
    app.include_router(source_job_socket.router)
    app.mount("/static", StaticFiles(directory=service_info.STATIC_FOLDER), name="static")
    dashboard.install(app)
    return app


def build_parts(
    settings: Settings,
    stores: Stores,
    engine: BatchEngine,
    reader: ProgressReader,
    metrics: ApiMetrics,
    *,
    search: SearchService,
    page_images: PageImages,
    limiter: RateLimiter | None = None,
    memory: ShortMemory | None = None,
) -> ApiParts:
    """Services over ports, with the limits of the settings."""
    limits = settings.limits
    has_provider = settings.embedder.kind == "openai" or settings.llm.base_url is not None
    newsroom = Newsroom(stores.catalog.webhooks, engine, settings.api.public_url or "")
    batch_service = BatchService(stores.catalog, engine, reader, has_provider=has_provider, newsroom=newsroom)
    gate = build_gate(settings, stores, limiter or LimitsRateLimiter.in_memory())
    receiving = Receiving(
        stores.blobs,
        IntakeLimits(
            max_documents=limits.max_documents_per_batch,
            max_file_bytes=limits.max_file_bytes,
            max_metadata_bytes=limits.max_metadata_bytes,
        ),
        gate.tenants,
    )
    readiness = Readiness(
        {
            "storage": stores.blobs.check,
            "catalog": stores.catalog.check,
            "index": search.check,
            "events": stores.events.check,
            "engine": engine.check,
        }
    )
    box, known_models = build_secret_box(settings), embedding_models(settings)
    sheet_service = SheetService(
        stores.catalog,
        stores.blobs,
        engine,
        gate.tenants,
        parser_seconds=limits.parser_seconds,
        children_at_once=settings.engine.children_at_once,
    )
    tus_uploads = TusUploads(
        stores.blobs, stores.parted, stores.catalog.uploads, upload_limits(limits), receiving.large_file_turns
    )
    secret, audit = settings.api.cursor_secret, AuditService(stores.catalog.audit)
    webhook_service = WebhookService(
        stores.catalog.webhooks,
        stores.catalog.audit,
        box,
        build_webhook_sender(settings),
        engine,
        gate.tenants,
        most=limits.max_webhooks,
        rotation_overlap=settings.webhooks.rotation_overlap,
    )
    return ApiParts(
        batches=batch_service,
        control=ControlService(batch_service, engine, stores.blobs, audit),
        documents=DocumentService(stores.catalog, stores.blobs, engine, batch_service, search, page_images=page_images),
        submissions=SubmissionService(
            stores.catalog,
            engine,
            batch_service,
            receiving,
            gate.tenants,
            webhook_service,
            tus_uploads,
            parser_seconds=limits.parser_seconds,
            max_parser_seconds=limits.max_parser_seconds,
            embedding_models=known_models,
            parsing_model=_parsing_model(settings),
            children_at_once=settings.engine.children_at_once,
            pipelines=tuple(PIPELINES) if settings.engine.allow_noop else OFFERED_PIPELINES,
            rules=rules_in(gate.tenants.find),
        ),
        additions=AdditionService(stores.catalog, engine, batch_service, receiving, AddedSignals(engine), audit),
        search=search,
        audit=audit,
        handoff=HandoffService(stores.catalog, stores.handoff, batch_service, audit),
        connections=ConnectionService(
            stores.catalog.connections, box, build_sources(settings, box, patience=FOR_PEOPLE)
        ),
        webhooks=webhook_service,
        jobs=JobService(stores.catalog, batch_service, memory or InMemoryShortMemory()),
        texts=TextService(
            stores.catalog,
            stores.blobs,
            engine,
            batch_service,
            TextLimits(
                max_requests=limits.max_batch_requests,
                concurrency=limits.text_concurrency,
                max_retries=settings.llm.max_retries,
                answer_seconds=limits.text_answer_seconds,
            ),
        ),
        capacity=Capacity(stores.catalog, batch_service),
        catalog=stores.catalog,
        events=stores.events,
        gate=gate,
        accounts=AccountService(
            stores.catalog.accounts,
            stores.catalog.connections,
            gate.tenants,
            gate.authenticator,
            Passwords(),
            gate,
            session_lifetime=settings.auth.session_lifetime,
        ),
        readiness=readiness,
        system=SystemService(readiness, gate.tenants, engine.overviews.get),
        metrics=metrics,
        cursors=CursorCodec(secret.get_secret_value().encode() if secret else secrets.token_bytes(32)),
        json_room=JsonRoom(limits.max_json_bytes, limits.max_json_values),
        limits=RequestLimits(
            max_request_bytes=limits.max_request_bytes,
            max_json_bytes=limits.max_json_bytes,
            max_line_bytes=limits.max_line_bytes,
            page_size_default=limits.page_size_default,
            page_size_max=limits.page_size_max,
        ),
        published_limits=limits.model_dump(mode="json"),
        public_url=settings.api.public_url,
        temporal_ui_url=settings.temporal_ui.url,
        temporal_namespace=engine.namespace,
        embedding_models=frozenset(known_models),
        allowed_origins=frozenset(
            map(origin_of, filter(None, (*settings.api.allowed_origins, settings.api.public_url)))
        ),
        open_jobs=OpenBatches(stores.catalog, batch_service, source_job_body.CONTRACT),
        sheets=sheet_service,
        sheet_progress=stores.sheet_progress,
        tus_uploads=tus_uploads,
        chunked_uploads=ChunkedUploads(
            stores.blobs,
            stores.parted,
            stores.catalog.uploads,
            sheet_service,
            stores.sheet_progress,
            upload_limits(limits),
            receiving.large_file_turns,
        ),
    )


def upload_limits(limits: Limits) -> UploadLimits:
    """What uploads in pieces may be."""
    return UploadLimits(
        max_chunk_bytes=limits.max_chunk_bytes,
        max_upload_bytes=limits.max_upload_bytes,
        max_upload_chunks=limits.max_upload_chunks,
        lifetime=timedelta(hours=limits.upload_lifetime_hours),
    )


def _parsing_model(settings: Settings) -> str | None:
    """What the language model is called that documents may be read by. Opens nothing."""
    reader = build_reader(settings)
    return reader.name if reader else None


def build_gate(settings: Settings, stores: Stores, limiter: RateLimiter) -> Gate:
    """Who is let in, as the settings say."""
    accounts = stores.catalog.accounts
    limits = settings.limits
    tokens, tickets = build_tokens(settings.auth)
    return Gate(
        Authenticator(accounts, tokens),
        tickets,
        TenantBook(accounts),
        Rates(limiter, build_rate_limits(limits), LimitsRateLimiter.in_memory()),
        stores.catalog,
        is_open=settings.auth.mode == "open",
        streams_per_key=limits.streams_per_key,
        websockets_per_user=limits.websockets_per_user,
    )


def build_tokens(auth: AuthSettings) -> tuple[Tokens, StreamTickets]:
    """Access tokens and stream tickets; of this process alone where no secret is set."""
    secret = auth.token_secret.get_secret_value().encode() if auth.token_secret else secrets.token_bytes(32)
    tokens = Tokens(secret, issuer=auth.issuer, audience=auth.audience, lifetime=auth.token_lifetime)
    lifetime = auth.stream_ticket_lifetime
    return tokens, StreamTickets(secret, issuer=auth.issuer, audience=auth.audience, lifetime=lifetime)


def build_rate_limits(limits: Limits) -> RateLimits:
    """What may be asked for in a minute."""
    return RateLimits(**{each.name: getattr(limits, each.name) for each in dataclasses.fields(RateLimits)})


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

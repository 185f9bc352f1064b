"""What the API serves, composed: services over ports, with the limits of the settings.

Nothing is opened here; whoever serves them opens the ports and hands them in.
"""

import dataclasses
import secrets
from datetime import timedelta

from activities.webhooks import Newsroom
from api.access import Gate
from api.contracts import (
    source_job_body,
)
from api.credentials import Authenticator
from api.cursors import CursorCodec
from api.dependencies import ApiParts, RequestLimits
from api.engine import BatchEngine
from api.json_room import JsonRoom
from api.metrics import ApiMetrics
from api.passwords import Passwords
from api.rates import RateLimits, Rates
from api.readiness import Readiness
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
from api.service.listeners import Listeners
from api.service.metadata_rules import rules_in
from api.service.open_batches import OpenBatches
from api.service.receiving import Receiving
from api.service.search import SearchService
from api.service.sheets import SheetService
from api.service.submission import SubmissionService
from api.service.system import SystemService
from api.service.tenants import TenantBook
from api.service.texts import TextLimits, TextService
from api.service.tus_uploads import TusUploads
from api.service.webhooks import WebhookService
from api.streams import ProgressReader
from api.streams.origins import origin_of
from api.tickets import StreamTickets
from api.tokens import Tokens
from api.uploads import IntakeLimits
from ingather.adapters.memory.short_memory import InMemoryShortMemory
from ingather.adapters.rate_limiter import LimitsRateLimiter
from ingather.adapters.sources.patience import FOR_PEOPLE
from ingather.bootstrap import (
    Stores,
    build_reader,
    build_secret_box,
    build_sources,
    build_webhook_sender,
    embedding_models,
)
from ingather.ports.page_images import PageImages
from ingather.ports.rate_limiter import RateLimiter
from ingather.ports.short_memory import ShortMemory
from ingather.settings import AuthSettings, Limits, Settings
from workflows.pipelines import OFFERED_PIPELINES, PIPELINES


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
        Listeners(stores.catalog, engine),
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

"""Ports from settings, shared by every composition root: workers, API, stack, bench."""

import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import structlog
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfigProfile

from ingather.adapters.cached_blob_store import CachedBlobStore
from ingather.adapters.fernet_box import FernetBox
from ingather.adapters.index_by_model import IndexByModel
from ingather.adapters.openai_embedder import OpenAiEmbedder
from ingather.adapters.openai_reader import OpenAiReader
from ingather.adapters.openai_texts import OpenAiTexts
from ingather.adapters.page_images import SupervisedPageImages
from ingather.adapters.redis_handoff_queue import RedisHandoffQueue
from ingather.adapters.redis_sheet_progress import RedisSheetProgress
from ingather.adapters.s3.blob_store import S3BlobStore
from ingather.adapters.sources.opener import SourceOpener
from ingather.adapters.sources.patience import FOR_BATCHES, Patience
from ingather.adapters.sql.catalog import SqlCatalog
from ingather.adapters.sql.migrate import migrate as migrate_catalog
from ingather.adapters.webhook_http import HttpWebhookSender
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.models.archive import ArchiveLimits
from ingather.models.errors import ConfigurationError
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.chunk_index import ChunkIndex
from ingather.ports.event_log import EventLog
from ingather.ports.handoff_queue import HandoffQueue
from ingather.ports.page_images import PageImages
from ingather.ports.parted_objects import PartedObjects
from ingather.ports.secret_box import SecretBox
from ingather.ports.sheet_progress import SheetProgress
from ingather.ports.source import SourceFactory
from ingather.ports.text_processor import TextProcessor
from ingather.ports.webhook_sender import WebhookSender
from ingather.settings import MIB, OtherEmbedder, Settings, unknown_variables

log = structlog.get_logger(__name__)

CACHE_BYTES = 128 * MIB
"""Packs, manifest pages and fresh artifacts kept in a process."""


@dataclass(frozen=True)
class Ports:
    """Everything that working on documents needs from the world, opened."""

    blobs: BlobStore
    catalog: Catalog
    index: ChunkIndex
    embedder: WordLlamaEmbedder | OpenAiEmbedder
    handoff: HandoffQueue
    sheet_progress: SheetProgress
    parted: PartedObjects


@dataclass(frozen=True)
class Stores:
    """Where things are kept: all that a process needs that neither indexes nor embeds."""

    blobs: BlobStore
    catalog: Catalog
    events: EventLog
    handoff: HandoffQueue
    sheet_progress: SheetProgress
    parted: PartedObjects


@asynccontextmanager
async def open_ports(settings: Settings) -> AsyncIterator[Ports]:
    """Open every port; all are closed when the block ends. Nothing connects before it is used."""
    async with AsyncExitStack() as stack:
        s3 = build_s3(settings)
        blobs, catalog = CachedBlobStore(s3, CACHE_BYTES), SqlCatalog(settings.catalog.url.get_secret_value())
        index, embedder = build_index(settings), build_embedder(settings)
        handoff = RedisHandoffQueue(settings.redis.url.get_secret_value())
        sheet_progress = RedisSheetProgress(settings.redis.url.get_secret_value())
        for port in (blobs, catalog, index, handoff, sheet_progress):
            stack.push_async_callback(port.close)
        if isinstance(embedder, OpenAiEmbedder):
            stack.push_async_callback(embedder.close)
        yield Ports(
            blobs=blobs,
            catalog=catalog,
            index=index,
            embedder=embedder,
            handoff=handoff,
            sheet_progress=sheet_progress,
            parted=s3.parted,
        )


@asynccontextmanager
async def open_stores(settings: Settings, *, cache_bytes: int = CACHE_BYTES) -> AsyncIterator[Stores]:
    """Open what keeps things; closed when the block ends."""
    # Most workers need no Redis, and are back sooner without its library.
    from ingather.adapters.redis_event_log import RedisEventLog  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        s3 = build_s3(settings)
        stores = Stores(
            blobs=CachedBlobStore(s3, max_bytes=cache_bytes),
            parted=s3.parted,
            catalog=SqlCatalog(settings.catalog.url.get_secret_value()),
            events=RedisEventLog(settings.redis.url.get_secret_value()),
            handoff=RedisHandoffQueue(settings.redis.url.get_secret_value()),
            sheet_progress=RedisSheetProgress(settings.redis.url.get_secret_value()),
        )
        for store in (stores.blobs, stores.catalog, stores.events, stores.handoff, stores.sheet_progress):
            stack.push_async_callback(store.close)
        yield stores


def build_blob_store(settings: Settings, *, cache_bytes: int = CACHE_BYTES) -> BlobStore:
    """Object storage behind a cache of what never changes."""
    return CachedBlobStore(build_s3(settings), max_bytes=cache_bytes)


def build_s3(settings: Settings) -> S3BlobStore:
    """Object storage as it is."""
    s3 = settings.s3
    return S3BlobStore(
        endpoint_url=s3.endpoint_url,
        region=s3.region,
        bucket=s3.bucket,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key.get_secret_value() if s3.secret_access_key else None,
    )


async def prepare_storage(settings: Settings) -> None:
    """Make the bucket where it is missing, and drop parts that killed uploads left behind."""
    store = build_s3(settings)
    try:
        # An upload's parts are given up with it, an hour before this would.
        hours = max(24.0, settings.limits.upload_lifetime_hours + 1)
        await store.ensure_bucket(abandoned_after=timedelta(hours=hours))
    finally:
        await store.close()


def build_index(settings: Settings) -> ChunkIndex:
    """The search index, in a folder or on S3 with the S3 settings."""
    # Arrow comes with it: 25 MB that a process without an index does not need.
    from ingather.adapters.lancedb_index import LanceDbChunkIndex  # noqa: PLC0415  # LanceDB takes a second to import, and the API has no use for it

    uri = settings.index.uri
    storage = _lance_storage(settings) if urlsplit(uri).scheme == "s3" else None
    usual = LanceDbChunkIndex(uri, dimensions=build_embedder(settings).dimensions, storage_options=storage)
    others = {
        name: LanceDbChunkIndex(
            f"{uri.rstrip('/')}/models/{_folder_of(name)}", dimensions=embedder.dimensions, storage_options=storage
        )
        for name, embedder in build_other_embedders(settings).items()
    }
    return IndexByModel(usual, others) if others else usual


def _folder_of(model: str) -> str:
    """A folder for a model's name, which may hold anything: readable, and no other's."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", model)[:80]
    return f"{readable}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def _lance_storage(settings: Settings) -> dict[str, str]:
    s3 = settings.s3
    options = {"region": s3.region}
    if s3.endpoint_url:
        options |= {"endpoint": s3.endpoint_url, "allow_http": str(s3.endpoint_url.startswith("http://")).lower()}
    if s3.access_key_id and s3.secret_access_key:
        options |= {
            "access_key_id": s3.access_key_id,
            "secret_access_key": s3.secret_access_key.get_secret_value(),
        }
    return options


def build_page_images() -> PageImages:
    """Draws pages in a confined process; nothing is started before the first."""
    return SupervisedPageImages()


def build_embedder(settings: Settings) -> WordLlamaEmbedder | OpenAiEmbedder:
    """The model that turns texts into vectors: from the wheel, or behind an OpenAI-compatible endpoint."""
    embedder = settings.embedder
    if embedder.kind == "wordllama":
        return WordLlamaEmbedder()
    if embedder.base_url is None or embedder.model is None:
        raise ConfigurationError(
            "INGATHER_EMBEDDER__KIND is openai, but base URL or model is missing.",
            action="Set INGATHER_EMBEDDER__BASE_URL and INGATHER_EMBEDDER__MODEL.",
        )
    return OpenAiEmbedder(
        base_url=embedder.base_url,
        model=embedder.model,
        api_key=embedder.api_key.get_secret_value() if embedder.api_key else None,
        dimensions=embedder.dimensions,
    )


def build_text_processor(settings: Settings) -> TextProcessor:
    """The language model that texts go to, or what answers without one. Raises ``ConfigurationError`` for half a setting."""
    # With it comes numpy: 13 MB that the API has no use for.
    from ingather.adapters.extractive_texts import ExtractiveTexts  # noqa: PLC0415

    return _language_model(settings) or ExtractiveTexts(WordLlamaEmbedder())


def build_reader(settings: Settings) -> OpenAiReader | None:
    """The language model that reads documents; None without one. Raises ``ConfigurationError`` for half a setting."""
    text = _language_model(settings)
    if text is None:
        return None
    vision = settings.llm.vision_model
    return OpenAiReader(text, _language_model(settings, vision) if vision else None)


def _language_model(settings: Settings, model: str | None = None) -> OpenAiTexts | None:
    llm = settings.llm
    if llm.base_url is None and llm.model is None and llm.vision_model is None:
        return None
    if llm.base_url is None or llm.model is None:
        raise ConfigurationError(
            "A language model is half configured: its base URL or its name is missing.",
            action="Set both INGATHER_LLM__BASE_URL and INGATHER_LLM__MODEL, or neither.",
        )
    return OpenAiTexts(
        base_url=llm.base_url,
        model=model or llm.model,
        api_key=llm.api_key.get_secret_value() if llm.api_key else None,
        timeout=llm.timeout,
        structured_outputs=llm.structured_outputs,
    )


def build_other_embedders(settings: Settings) -> dict[str, WordLlamaEmbedder | OpenAiEmbedder]:
    """Further models that batches may name, by their full names. Raises ``ConfigurationError`` for one named twice."""
    usual, found = build_embedder(settings).name, dict[str, WordLlamaEmbedder | OpenAiEmbedder]()
    for other in settings.embedder.others:
        embedder = WordLlamaEmbedder() if other.kind == "wordllama" else _openai_embedder(other)
        if embedder.name in {usual, *found}:
            raise ConfigurationError(
                f"INGATHER_EMBEDDER__OTHERS names {embedder.name} a second time.", action="Leave it out."
            )
        found[embedder.name] = embedder
    return found


def embedding_models(settings: Settings) -> dict[str, str | None]:
    """What clients may call each model that documents can be embedded by, and its full name; None for the usual one."""
    usual = build_embedder(settings)
    short = settings.embedder.model if settings.embedder.kind == "openai" else "wordllama"
    names: dict[str, str | None] = {other.model: None for other in settings.embedder.others}
    for other, full in zip(settings.embedder.others, build_other_embedders(settings), strict=True):
        names |= {other.model: full, full: full}
    return names | {short or usual.name: None, usual.name: None}


def _openai_embedder(other: OtherEmbedder) -> OpenAiEmbedder:
    assert other.base_url is not None  # the settings have seen to it
    return OpenAiEmbedder(
        base_url=other.base_url,
        model=other.model,
        api_key=other.api_key.get_secret_value() if other.api_key else None,
        dimensions=other.dimensions,
    )


def archive_limits(settings: Settings) -> ArchiveLimits:
    """What one archive may cost."""
    limits = settings.limits
    return ArchiveLimits(
        entries=limits.zip_entries,
        unpacked_bytes=limits.zip_unpacked_bytes,
        ratio=limits.zip_ratio,
        depth=limits.zip_depth,
        entry_bytes=limits.max_file_bytes,
    )


def build_secret_box(settings: Settings) -> SecretBox:
    """Where credentials of connections are closed up. Raises ``ConfigurationError`` for a key that is none."""
    return FernetBox([key.get_secret_value() for key in settings.sources.keys])


def build_sources(settings: Settings, box: SecretBox, *, patience: Patience = FOR_BATCHES) -> SourceFactory:
    """Opens connections, within what this deployment allows."""
    return SourceOpener(
        box,
        roots=settings.sources.roots,
        archive_limits=archive_limits(settings),
        allow_private=settings.sources.allow_private,
        patience=patience,
    )


def build_webhook_sender(settings: Settings) -> WebhookSender:
    """Carries events to endpoints, within what this deployment allows."""
    webhooks = settings.webhooks
    return HttpWebhookSender(allow_private=webhooks.allow_private, timeout=webhooks.timeout)


def migrate(settings: Settings) -> None:
    """Bring the catalog's schema up to date. Safe when several processes do it at once."""
    migrate_catalog(settings.catalog.url.get_secret_value())


def tell_unknown_variables() -> None:
    """A misspelt setting sets nothing: say so, since nobody else will."""
    for name, meant in unknown_variables(os.environ).items():
        log.warning("settings.unknown", variable=name, perhaps=meant)


async def connect(settings: Settings, *, lazy: bool = False) -> Client:  # noqa: ARG001  # Temporal has variables of its own
    """A Temporal client from Temporal's standard variables and profile files.

    A ``lazy`` one connects with its first call, and with each one after that until it has: nobody has to be there now.
    """
    config = ClientConfigProfile.load().to_client_connect_config()
    config.setdefault("target_host", "127.0.0.1:7233")
    return await Client.connect(**config, data_converter=pydantic_data_converter, lazy=lazy)

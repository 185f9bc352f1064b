"""Ports from settings, shared by every composition root: workers, API, stack, bench."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfigProfile

from ingather.adapters.cached_blob_store import CachedBlobStore
from ingather.adapters.fernet_box import FernetBox
from ingather.adapters.openai_embedder import OpenAiEmbedder
from ingather.adapters.page_images import SupervisedPageImages
from ingather.adapters.redis_handoff_queue import RedisHandoffQueue
from ingather.adapters.s3.blob_store import S3BlobStore
from ingather.adapters.sources.opener import SourceOpener
from ingather.adapters.sources.patience import FOR_BATCHES, Patience
from ingather.adapters.sql.catalog import SqlCatalog
from ingather.adapters.sql.migrate import migrate as migrate_catalog
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.models.archive import ArchiveLimits
from ingather.models.errors import ConfigurationError
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.chunk_index import ChunkIndex
from ingather.ports.event_log import EventLog
from ingather.ports.handoff_queue import HandoffQueue
from ingather.ports.page_images import PageImages
from ingather.ports.secret_box import SecretBox
from ingather.ports.source import SourceFactory
from ingather.settings import MIB, Settings

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


@dataclass(frozen=True)
class Stores:
    """Where things are kept: all that a process needs that neither indexes nor embeds."""

    blobs: BlobStore
    catalog: Catalog
    events: EventLog
    handoff: HandoffQueue


@asynccontextmanager
async def open_ports(settings: Settings) -> AsyncIterator[Ports]:
    """Open every port; all are closed when the block ends. Nothing connects before it is used."""
    async with AsyncExitStack() as stack:
        blobs, catalog = build_blob_store(settings), SqlCatalog(settings.catalog.url.get_secret_value())
        index, embedder = build_index(settings), build_embedder(settings)
        handoff = RedisHandoffQueue(settings.redis.url.get_secret_value())
        for port in (blobs, catalog, index, handoff):
            stack.push_async_callback(port.close)
        if isinstance(embedder, OpenAiEmbedder):
            stack.push_async_callback(embedder.close)
        yield Ports(blobs=blobs, catalog=catalog, index=index, embedder=embedder, handoff=handoff)


@asynccontextmanager
async def open_stores(settings: Settings, *, cache_bytes: int = CACHE_BYTES) -> AsyncIterator[Stores]:
    """Open what keeps things; closed when the block ends."""
    # Most workers need no Redis, and are back sooner without its library.
    from ingather.adapters.redis_event_log import RedisEventLog  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        stores = Stores(
            blobs=build_blob_store(settings, cache_bytes=cache_bytes),
            catalog=SqlCatalog(settings.catalog.url.get_secret_value()),
            events=RedisEventLog(settings.redis.url.get_secret_value()),
            handoff=RedisHandoffQueue(settings.redis.url.get_secret_value()),
        )
        for store in (stores.blobs, stores.catalog, stores.events, stores.handoff):
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
        await store.ensure_bucket()
    finally:
        await store.close()


def build_index(settings: Settings) -> ChunkIndex:
    """The search index, in a folder or on S3 with the S3 settings."""
    # Arrow comes with it: 25 MB that a process without an index does not need.
    from ingather.adapters.lancedb_index import LanceDbChunkIndex  # noqa: PLC0415  # LanceDB takes a second to import, and the API has no use for it

    return LanceDbChunkIndex(
        settings.index.uri,
        dimensions=build_embedder(settings).dimensions,
        storage_options=_lance_storage(settings) if urlsplit(settings.index.uri).scheme == "s3" else None,
    )


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


def migrate(settings: Settings) -> None:
    """Bring the catalog's schema up to date. Safe when several processes do it at once."""
    migrate_catalog(settings.catalog.url.get_secret_value())


async def connect(settings: Settings, *, lazy: bool = False) -> Client:  # noqa: ARG001  # Temporal has variables of its own
    """A Temporal client from Temporal's standard variables and profile files.

    A ``lazy`` one connects with its first call, and with each one after that until it has: nobody has to be there now.
    """
    config = ClientConfigProfile.load().to_client_connect_config()
    config.setdefault("target_host", "127.0.0.1:7233")
    return await Client.connect(**config, data_converter=pydantic_data_converter, lazy=lazy)

"""Temporal, Redis, a catalog, scripted workers and real API processes, as many as a test wants."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from redis.asyncio import Redis
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from ingather.adapters.sql.catalog import SqlCatalog
from ingather.adapters.sql.migrate import migrate
from ingather.models.identity import DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME
from tests.support.batch_driver import BatchDriver, workers
from tests.support.watched_world import ApiProcess, CatalogWorld, submit


class Deployment:
    """Temporal, Redis, a catalog, workers and as many API processes as a test wants."""

    def __init__(self, client: Client, shared: ApiProcess, folder: Path) -> None:
        self.client = client
        self.shared = shared
        self.folder = folder
        self.catalog = SqlCatalog(shared.environment["INGATHER_CATALOG__URL"])
        self.redis = Redis.from_url(shared.environment["INGATHER_REDIS__URL"])
        self.stack = AsyncExitStack()

    async def api(self, **settings: str) -> ApiProcess:
        """An API process of the test's own, to be killed or set up differently."""
        api = ApiProcess(self.shared.environment | settings, self.folder / "api.log")
        self.stack.push_async_callback(api.stop)
        await asyncio.to_thread(api.start)
        return api

    async def world(self, **script: object) -> CatalogWorld:
        world = CatalogWorld(catalog=self.catalog, **script)
        await self.stack.enter_async_context(workers(self.client, world))
        return world

    async def batch(self, world: CatalogWorld, **fields: object) -> BatchDriver:
        driver = BatchDriver(self.client, world)
        self.stack.push_async_callback(driver.clean_up)
        await submit(driver, self.catalog, **fields)
        return driver


def api_not_started(temporal_address: str, redis_url: str, folder: Path) -> ApiProcess:
    """An API process that could be started, around a catalog that is there."""
    catalog_url = f"sqlite:///{folder}/catalog.db"
    environment = {
        "TEMPORAL_ADDRESS": temporal_address,
        "INGATHER_REDIS__URL": redis_url,
        "INGATHER_CATALOG__URL": catalog_url,
        "INGATHER_INDEX__URI": str(folder / "index"),
        "INGATHER_S3__ENDPOINT_URL": "http://127.0.0.1:9",
    }
    migrate(catalog_url)
    return ApiProcess(environment, folder / "api.log")


@contextmanager
def api_for_all(temporal_address: str, redis_url: str, folder: Path) -> Iterator[ApiProcess]:
    """One API process for all tests that leave it as it was."""
    api = api_not_started(temporal_address, redis_url, folder)
    api.start()
    try:
        yield api
    finally:
        api.kill()


@asynccontextmanager
async def deployed(shared_api: ApiProcess, folder: Path) -> AsyncIterator[Deployment]:
    """A test's own workers, batches and further API processes around the shared one."""
    address = shared_api.environment["TEMPORAL_ADDRESS"]
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    deployment = Deployment(client, shared_api, folder)
    await deployment.catalog.add_tenant(DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME)
    async with deployment.stack:
        yield deployment
    await shared_api.close_clients()
    await deployment.catalog.close()
    await deployment.redis.aclose()

"""What several contract suites share."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.adapters.sql import SqlCatalog, migrate
from ingather.ports.catalog import Catalog
from tests.support.catalog_records import batch_record
from tests.support.postgres import new_database, started_postgres


@pytest.fixture(scope="session")
def postgres_sockets() -> Iterator[str]:
    """A private PostgreSQL server, as the folder of its sockets; the test is skipped where there is none."""
    with started_postgres() as sockets:
        yield sockets


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def catalog_kind(request) -> str:
    return request.param


@pytest.fixture
def database_url(request, catalog_kind, tmp_path) -> str | None:
    """A migrated database of this test's own; None for the memory catalog, which needs none."""
    if catalog_kind == "memory":
        return None
    if catalog_kind == "sqlite":
        url = f"sqlite:///{tmp_path}/a folder/catalog.db"
    else:
        url = new_database(request.getfixturevalue("postgres_sockets"))
    migrate(url)
    return url


@pytest.fixture
async def catalog(database_url) -> AsyncIterator[Catalog]:
    opened = InMemoryCatalog() if database_url is None else SqlCatalog(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def batch_id(catalog) -> str:
    record, _ = await catalog.add_batch(batch_record())
    return record.batch_id


@pytest.fixture
def home() -> str:
    """A place of this test's own, among the keys whose content is immutable."""
    return f"uploads/{uuid.uuid4()}/"

"""Sources kept open between documents, while many connections come and go at once."""

import asyncio

import pytest

from activities.open_sources import MOST_IDLE, OpenSources
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.models.identity import DEFAULT_TENANT_ID as TENANT
from ingather.models.source import Connection
from tests.support.sources import SourceStandIn, connection, ref

ROOM_FOR_ALL = [f"c{number}" for number in range(MOST_IDLE)]


class Slow:
    """A catalog's connections that can be held back one by one."""

    def __init__(self, connections) -> None:
        self._connections = connections
        self.held: dict[str, asyncio.Event] = {}
        self.asked: dict[str, asyncio.Event] = {}

    def hold(self, connection_id: str) -> None:
        self.held[connection_id], self.asked[connection_id] = asyncio.Event(), asyncio.Event()

    async def get_connection(self, tenant_id: str, connection_id: str) -> Connection | None:
        if connection_id in self.held:
            self.asked[connection_id].set()
            await self.held[connection_id].wait()
        return await self._connections.get_connection(tenant_id, connection_id)


class CountsClosings(SourceStandIn):
    """A source that knows how often it was closed."""

    closings = 0

    async def close(self) -> None:
        self.closings += 1
        await super().close()


class Factory:
    """Opens a new source each time, and keeps all it opened."""

    def __init__(self) -> None:
        self.opened: list[CountsClosings] = []

    def open(self, _connection: Connection) -> CountsClosings:
        self.opened.append(CountsClosings())
        return self.opened[-1]


@pytest.fixture
async def connections():
    catalog = InMemoryCatalog()
    for each in ("first", *ROOM_FOR_ALL):
        await catalog.connections.add_connection(connection(each))
    return Slow(catalog.connections)


@pytest.fixture
def factory():
    return Factory()


@pytest.fixture
def sources(connections, factory):
    return OpenSources(connections, factory, trusted_seconds=0)


async def touch(sources: OpenSources, *connection_ids: str) -> None:
    for each in connection_ids:
        async with sources.use(TENANT, ref(each, "a")):
            pass


async def test_an_idle_source_that_is_closed_while_it_is_looked_up_is_opened_anew(sources, connections, factory):
    """Whoever waited for the catalog gets one that is open."""
    await touch(sources, "first")
    connections.hold("first")

    async def use():
        async with sources.use(TENANT, ref("first", "a")) as source:
            return source, source.is_closed

    waiting = asyncio.ensure_future(use())
    await connections.asked["first"].wait()
    await touch(sources, *ROOM_FOR_ALL)
    assert factory.opened[0].is_closed
    connections.held["first"].set()

    source, was_closed = await waiting
    assert source is not factory.opened[0]
    assert not was_closed


async def test_a_source_is_closed_once(sources, factory):
    """Also by a last user who leaves when enough others are idle."""
    async with sources.use(TENANT, ref("first", "a")):
        await touch(sources, *ROOM_FOR_ALL)
        assert factory.opened[0].closings == 0
    assert [each.closings for each in factory.opened] == [1] + [0] * MOST_IDLE
    await sources.close()
    assert {each.closings for each in factory.opened} == {1}

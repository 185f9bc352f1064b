"""Streams while their Redis dies, comes back, or comes back empty."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingather.adapters.redis_event_log import RedisEventLog
from ingather.models.batch import BatchState
from ingather.stack import part
from ingather.stack.process import Process
from ingather.stack.redis import RedisServer
from tests.support.house import House
from tests.support.scripted_batch import ScriptedBatch
from tests.support.servers import redis_server


class Mortal:
    """A Redis server that can be killed and started again on the same port."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.process: Process | None = None

    async def start(self) -> None:
        self.process = await part.start(self.server)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Mortal]:
    redis = Mortal(redis_server(tmp_path))
    await redis.start()
    yield redis
    await redis.kill()


@pytest.fixture
async def batch() -> ScriptedBatch:
    return await ScriptedBatch(str(uuid.uuid4()), document_count=6).create()


@pytest.fixture
async def house(redis: Mortal, batch: ScriptedBatch) -> AsyncIterator[House]:
    log = RedisEventLog(redis.server.url)
    house = House(batch, log)
    yield house
    await house.close()
    await log.close()


async def test_a_killed_redis_interrupts_and_costs_nothing(house, batch, redis) -> None:
    """Streams stay open; when it is back they go on with the next number."""
    batch.state(BatchState.RUNNING)
    watcher = house.watch("0")
    batch.start(0)
    await watcher.sees("document.started")
    await redis.kill()
    await batch.end(0)
    await asyncio.sleep(1.5)
    assert not watcher.is_closed
    await redis.start()
    await watcher.sees("document.succeeded")
    batch.start(1)
    await batch.end(1)
    await batch.close()
    await watcher.closes()

    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
    assert watcher.documents == [("started", 0), ("succeeded", 0), ("started", 1), ("succeeded", 1)]


async def test_another_poller_after_a_restart_leaves_the_last_numbers_alone(house, batch, redis) -> None:
    """A restarted Redis may have lost what clients know: another process begins a new block, with a reset."""
    batch.state(BatchState.RUNNING)
    watcher = house.watch("0")
    batch.start(0)
    await watcher.sees("document.started")
    seen = watcher.seqs[-1]
    await house.hub.close()
    await watcher.closes()
    await redis.kill()
    await redis.start()
    other = house.open_hub()
    again = house.watch(str(seen), hub=other)
    await again.sees("stream.open")
    await batch.end(0)
    await again.sees("document.succeeded")
    await batch.close()
    await again.closes()

    assert min(again.seqs) > 1_000
    assert again.names.index("stream.reset") < again.names.index("document.succeeded")
    assert again.documents == [("succeeded", 0)]


async def test_a_watcher_who_comes_while_redis_is_away_is_served(house, batch, redis) -> None:
    """A snapshot at once, the events when Redis is back."""
    batch.state(BatchState.RUNNING)
    await redis.kill()
    watcher = house.watch("0")
    await watcher.sees("stream.snapshot")
    batch.start(0)
    await redis.start()
    await watcher.sees("document.started", seconds=15)

    assert watcher.frames[0].data["mode"] == "waiting"
    assert watcher.seqs[0] == 1


async def test_two_hundred_watchers_share_one_blocking_read(house, batch, redis) -> None:
    """One connection waits for all of them, on as many batches as they watch."""
    batch.state(BatchState.RUNNING)
    watchers = [house.watch("0") for _ in range(200)]
    for watcher in watchers:
        await watcher.sees("batch.started")
    reads = house.hub.reads
    batch.start(0)
    await asyncio.gather(*(watcher.sees("document.started") for watcher in watchers))

    assert house.hub.reads - reads <= 4
    assert batch.count < 30

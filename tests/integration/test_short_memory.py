"""Words for some minutes: in this process and over a real Redis."""

import asyncio
import uuid

import pytest

from ingather.adapters.memory.short_memory import InMemoryShortMemory
from ingather.adapters.redis_short_memory import RedisShortMemory
from ingather.stack.ports import choose_ports


@pytest.fixture(params=["memory", "redis"])
def server_url(request) -> str | None:
    """URL of the server behind the memory; None for this process's own."""
    return request.getfixturevalue("redis_url") if request.param == "redis" else None


@pytest.fixture
async def memory(server_url):
    opened = RedisShortMemory(server_url) if server_url else InMemoryShortMemory()
    yield opened
    await opened.close()


async def test_the_last_word_is_known_and_no_other(memory):
    """By its key alone."""
    key = uuid.uuid4().hex
    assert await memory.recall(key) is None
    await memory.remember(key, "one", 60)
    await memory.remember(key, "two – of Vela", 60)
    assert await memory.recall(key) == "two – of Vela"
    assert await memory.recall(key + "2") is None


async def test_a_word_is_forgotten_in_time(memory):
    """Nothing has to be tidied up."""
    key = uuid.uuid4().hex
    await memory.remember(key, "soon gone", 1)
    while await memory.recall(key) is not None:  # noqa: ASYNC110  # nobody could set an event
        await asyncio.sleep(0.05)


async def test_nothing_fails_where_redis_is_away():
    """It is as if nothing had been said."""
    port = choose_ports(["nobody"])["nobody"]
    memory = RedisShortMemory(f"redis://127.0.0.1:{port}/0")
    await memory.remember("key", "word", 60)
    assert await memory.recall("key") is None
    await memory.close()

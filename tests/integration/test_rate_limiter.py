"""Counting in a window: in memory and over a real Redis."""

import asyncio
import time
import uuid
from urllib.parse import urlsplit

import pytest

from ingather.adapters.rate_limiter import LimitsRateLimiter
from ingather.ports.rate_limiter import RatePolicy
from ingather.stack.ports import choose_ports


@pytest.fixture(params=["memory", "redis"])
def server_url(request) -> str | None:
    """URL of the server behind the limiter; None for memory."""
    return request.getfixturevalue("redis_url") if request.param == "redis" else None


@pytest.fixture
async def limiter(server_url):
    opened = LimitsRateLimiter.over_redis(server_url) if server_url else LimitsRateLimiter.in_memory()
    yield opened
    await opened.close()


@pytest.fixture
def subject() -> str:
    return uuid.uuid4().hex


async def test_a_quota_is_a_quota(limiter, subject):
    """So many are allowed, each says how many are left, and the next is not."""
    policy = RatePolicy("default", 3)
    states = [await limiter.hit(policy, subject) for _ in range(5)]
    assert [state.is_allowed for state in states] == [True, True, True, False, False]
    assert [state.remaining for state in states] == [2, 1, 0, 0, 0]
    assert all(0 < state.reset_seconds <= 60 for state in states)


async def test_subjects_and_policies_are_counted_apart(limiter, subject):
    """Nobody uses up what is another's, or another kind's."""
    for name, who in (("default", subject), ("upload", subject), ("default", subject + "2")):
        assert (await limiter.hit(RatePolicy(name, 1), who)).is_allowed


async def test_there_is_room_again_when_it_says_so(limiter, subject):
    """A refused caller that waits as long as it was told is served."""
    policy = RatePolicy("default", 2, window_seconds=1)
    for _ in range(2):
        await limiter.hit(policy, subject)
    refused = await limiter.hit(policy, subject)
    assert not refused.is_allowed
    await asyncio.sleep(refused.reset_seconds + 1)
    assert (await limiter.hit(policy, subject)).is_allowed


async def test_callers_at_once_get_no_more_than_the_quota(limiter, subject):
    """Counting and allowing are one step."""
    policy = RatePolicy("default", 10)
    states = await asyncio.gather(*(limiter.hit(policy, subject) for _ in range(40)))
    assert sum(state.is_allowed for state in states) == 10


async def test_processes_count_together(redis_url, subject):
    """Two limiters over one Redis."""
    one, two = LimitsRateLimiter.over_redis(redis_url), LimitsRateLimiter.over_redis(redis_url)
    policy = RatePolicy("default", 2)
    states = [await limiter.hit(policy, subject) for limiter in (one, two, one)]
    assert [state.is_allowed for state in states] == [True, True, False]
    await one.close()
    await two.close()


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "10.255.255.1:{port}"], ids=["refuses", "is silent"])
async def test_nobody_waits_for_counters_that_are_away(address):
    """None, soon; and at once for a while, so that not every request pays for it."""
    port = choose_ports(["nobody"])["nobody"]
    url = f"redis://{address.format(port=port)}/0"
    assert urlsplit(url).port == port
    limiter = LimitsRateLimiter.over_redis(url)
    began = time.monotonic()
    assert await limiter.hit(RatePolicy("default", 1), "a") is None
    for _ in range(100):
        assert await limiter.hit(RatePolicy("default", 1), "a") is None
    assert time.monotonic() - began < 10
    await limiter.close()

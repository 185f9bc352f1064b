"""What can go wrong, one function a fault: it strikes a running batch and returns once its cause has passed."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
from redis.asyncio import Redis

from tests.faults.s3_proxy import Weather
from tests.faults.stack import PARTS, BreakableStack
from tests.support.running_stack import Json, Visitor

Strike = Callable[[BreakableStack, str], Awaitable[None]]

EARLY, MIDDLE, LATE = "early", "middle", "late"


@dataclass(frozen=True)
class Fault:
    """One line of the matrix."""

    name: str
    strike: Strike
    moment: str = MIDDLE
    """Early: as soon as it is accepted. Middle: 40 % done. Late: the last tenth, index and report."""
    documents: int = 300
    words: int = 2_000
    """A document's length; 2,000 make about 14 KB."""
    options: dict[str, Any] = field(default_factory=dict)
    events_kept: bool = True
    """Whether the event log must have everything from the first event on."""


# --- Deaths -----------------------------------------------------------------------------------------


async def kill(part: str, stack: BreakableStack, _batch_id: str) -> None:
    stack.kill(part)


async def kill_every(seconds: float, stack: BreakableStack, batch_id: str) -> None:
    """A worker that does not live long, however it ends, until the batch has."""
    for number in range(12):
        if number % 2:
            await stack.stop_and_start("worker-1")
        else:
            before = stack.restarts("worker-1")
            stack.kill("worker-1")
            await stack.is_back("worker-1", before)
        if await ends_within(stack.visitor, batch_id, seconds):
            return


async def stop_gracefully(stack: BreakableStack, _batch_id: str) -> None:
    """SIGTERM, as every deploy sends it."""
    await stack.stop_and_start("worker-1")


# --- Company ----------------------------------------------------------------------------------------


@asynccontextmanager
async def paused(visitor: Visitor, batch_id: str) -> AsyncIterator[None]:
    """The batch stands still for the block: company takes seconds to come, and is to find something to do."""
    await visitor.post(f"/v1/batches/{batch_id}/pause")
    try:
        yield
    finally:
        await visitor.post(f"/v1/batches/{batch_id}/resume")


async def join(stack: BreakableStack, batch_id: str) -> None:
    """A second worker comes for the rest of the batch and must find work."""
    async with AsyncExitStack() as company:
        async with paused(stack.visitor, batch_id):
            name = await company.enter_async_context(stack.second_worker())
        stack.strikes()
        await stack.visitor.ended(batch_id)
        assert "document.ended" in stack.log_of(name), "the second worker did nothing"


async def freeze(seconds: float, stack: BreakableStack, batch_id: str) -> None:
    """One of two workers stands still and wakes up among attempts that took its place."""
    async with AsyncExitStack() as company:
        async with paused(stack.visitor, batch_id):
            await company.enter_async_context(stack.second_worker())
        await stack.visitor.until(batch_id, lambda batch: batch["ended_at"] or batch["counts"]["in_flight"])
        async with stack.frozen("worker-1"):
            await asyncio.sleep(seconds)
        await asyncio.sleep(3)  # what it had in hand is written, or stopped at its next beat


async def kill_owner_of_poller(stack: BreakableStack, batch_id: str) -> None:
    """Two API processes with a watcher each; the one that polls dies, and the other's watcher misses nothing."""
    async with AsyncExitStack() as company:
        async with paused(stack.visitor, batch_id):
            other = await company.enter_async_context(stack.second_api())
            http = httpx.AsyncClient(base_url=other.url, timeout=60, trust_env=False)
            visitor = Visitor(await company.enter_async_context(http))
            first = stack.visitor.watch(batch_id, "0")
            await first.sees("document.succeeded")
            second = visitor.watch(batch_id, "0")
            await second.sees("document.succeeded")
        stack.kill("api")
        await second.closes(120)
        await visitor.leave()
        assert second.seqs == list(range(1, len(second.seqs) + 1)), "the other watcher has gaps"


# --- Memory and storage -----------------------------------------------------------------------------


async def empty_redis(stack: BreakableStack, _batch_id: str) -> None:
    async with Redis.from_url(stack.redis.url) as redis:
        await redis.flushall()
        stack.strikes()


async def weather(seconds: float, what: Weather, stack: BreakableStack, _batch_id: str) -> None:
    """Storage behaves like this for a while."""
    refused, cut = stack.storage.refused, stack.storage.cut
    with stack.foul(what):
        await asyncio.sleep(seconds)
    if what.refuse_all or what.refuse_writes:
        assert stack.storage.refused > refused, "no request met the error"
    if what.cut_after_bytes is not None:
        assert stack.storage.cut > cut, "no answer broke off"


# --- Waiting ----------------------------------------------------------------------------------------


async def ends_within(visitor: Visitor, batch_id: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (await visitor.batch(batch_id))["ended_at"]:
            return True
        await asyncio.sleep(0.2)
    return False


def has_come(moment: str, batch: Json) -> bool:
    """Whether a batch is where a fault shall strike it."""
    counts = batch["counts"]
    if moment == EARLY:
        return True
    if moment == MIDDLE:
        return bool(counts["done"] >= counts["total"] * 0.4 > 0)
    return bool(counts["total"] and counts["pending"] + counts["in_flight"] <= max(6, counts["total"] // 10))


# --- The lists --------------------------------------------------------------------------------------

KILLS = tuple(
    Fault(f"kill -9 {part}", partial(kill, part), moment) for part in PARTS for moment in (EARLY, MIDDLE, LATE)
)

ERRORS = Weather(refuse_all=503)
FULL = Weather(refuse_writes=507)
CUT = Weather(cut_after_bytes=60)
SLOW = Weather(delay_seconds=0.15)

OTHERS = (
    Fault("storage answers 500 for 20 s", partial(weather, 20, Weather(refuse_all=500))),
    Fault("storage answers 503 for 20 s", partial(weather, 20, ERRORS)),
    Fault("storage is full (507) for 20 s", partial(weather, 20, FULL)),
    Fault("storage breaks answers off for 20 s", partial(weather, 20, CUT)),
    Fault("storage is slow (0.15 s a block) for 20 s", partial(weather, 20, SLOW)),
    Fault("Redis FLUSHALL", empty_redis, events_kept=False),
    Fault("kill -9 of the API that polls, of two", kill_owner_of_poller),
    Fault("worker stopped with SIGTERM", stop_gracefully),
    Fault(
        "worker killed while small documents share activities", partial(kill, "worker-1"), options={"pack_small": True}
    ),
    Fault("worker restarted every 10 s", partial(kill_every, 10), documents=900, words=8_000),
    Fault("one of two workers frozen for 60 s", partial(freeze, 60)),
    Fault("second worker joins", join, documents=600, words=8_000),
    Fault("worker killed, 1,600 documents in children", partial(kill, "worker-1"), documents=1_600, words=300),
    Fault("Temporal killed, 1,600 documents in children", partial(kill, "temporal"), documents=1_600, words=300),
)

MATRIX = KILLS + OTHERS

_BRIEFLY: dict[str, Any] = {"documents": 120, "words": 1_000}
SHORT = (
    Fault("kill -9 worker-1", partial(kill, "worker-1"), EARLY, **_BRIEFLY),
    Fault("kill -9 temporal", partial(kill, "temporal"), LATE, **_BRIEFLY),
    Fault("storage answers 503 for 3 s", partial(weather, 3, ERRORS), **_BRIEFLY),
    Fault("storage is full (507) for 3 s", partial(weather, 3, FULL), **_BRIEFLY),
    Fault("storage breaks answers off for 3 s", partial(weather, 3, CUT), **_BRIEFLY),
    Fault("storage is slow (0.15 s a block) for 3 s", partial(weather, 3, SLOW), **_BRIEFLY),
    Fault("worker killed, 1,040 documents in children and packs", partial(kill, "worker-1"), documents=1_040, words=60),
    Fault("kill -9 of the API that polls, of two", kill_owner_of_poller, **_BRIEFLY),
    Fault("worker stopped with SIGTERM", stop_gracefully, **_BRIEFLY),
    Fault("one of two workers frozen for 8 s", partial(freeze, 8), **_BRIEFLY),
    Fault("second worker joins", join, EARLY, documents=300, words=8_000),
)
"""What every test run has time for; deaths in the middle of a batch have tests of their own."""

"""Whatever is killed in the middle of a batch, nothing is lost, nothing is there twice, and nobody has to do anything."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser
from redis.asyncio import Redis

from tests.support.browser import Viewer, viewing
from tests.support.http_stand_in import Told
from tests.support.large_upload import assert_arrived_whole, has_sent, large_file, offsets_of, slow_down, speed_up
from tests.support.running_stack import (
    RunningStack,
    Visitor,
    assert_counted_once,
    assert_told_once,
    notes,
    running_stack,
)
from tests.support.waiting import until, until_async
from tests.support.webhooks import receiver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COUNT = 200
AT_40_PERCENT = COUNT * 4 // 10


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack whose parts are killed. Its webhooks may lead to servers of this machine."""
    allowed = {"INGATHER_WEBHOOKS__ALLOW_PRIVATE": "true"}
    with running_stack(tmp_path_factory.mktemp("fragile") / ".ingather", **allowed) as stack:
        yield stack


@pytest.fixture
async def visitor(fragile: RunningStack) -> AsyncIterator[Visitor]:
    async with fragile.visitor() as visitor:
        yield visitor


def forgive_absence(viewer: Viewer) -> None:
    """That nobody was there for a while is all the browser may have complained about."""
    # The last three are how htmx writes that a stream broke off and that a request reached nobody.
    of_absence = ("net::ERR_", "503", "[object Event]", "htmx:sendError", "htmx:afterRequest")
    viewer.complaints[:] = [each for each in viewer.complaints if not any(word in each for word in of_absence)]


def is_at_40_percent(batch: dict) -> bool:
    return batch["counts"]["done"] >= AT_40_PERCENT


@pytest.mark.parametrize("part", ["worker-1", "api", "redis", "s3", "temporal"])
async def test_a_killed_part_loses_and_doubles_nothing(fragile: RunningStack, visitor: Visitor, part: str):
    """SIGKILL at 40 % of 200 documents: it comes back by itself, and every book counts each document once."""
    batch_id = await visitor.submit(notes(COUNT, f"killed-{part}"), collection=part)
    at_kill = await visitor.until(batch_id, is_at_40_percent)
    killed = fragile.kill(part)
    assert at_kill["counts"]["done"] < COUNT, "it was over before anything was killed"

    await fragile.is_back(part, killed)
    await assert_counted_once(fragile, visitor, batch_id, COUNT)
    await assert_told_once(visitor, batch_id, COUNT)
    [best, *_] = await visitor.search(f"Note 123 of killed-{part}", batch_id=batch_id)
    assert best["batch_id"] == batch_id


async def test_an_event_whose_sender_is_killed_is_taken_once(fragile: RunningStack, visitor: Visitor):
    """SIGKILL while the receiver has an event and has not answered: it comes again under the same id, and once it is taken no more."""
    async with receiver() as hook:
        made = await visitor.post("/v1/webhook-endpoints", {"url": hook.url, "event_types": ["batch.completed"]}, 201)
        hook.secrets, hook.answers = [made["secret"]], [Told(503, is_silent=True)]
        batch_id = await visitor.submit(notes(1, "mid-delivery"))
        await until(lambda: len(hook.asked) == 1)
        killed = {part: fragile.kill(part) for part in fragile.up.facts()["pids"] if part.startswith("worker")}
        for part, pid in killed.items():
            await fragile.is_back(part, pid)

        log = f"/v1/webhook-endpoints/{made['webhook_id']}/deliveries"

        async def taken() -> list[dict] | None:
            deliveries = (await visitor.get(log)).json()["data"]
            return deliveries if deliveries[0]["status"] == "succeeded" else None

        [delivery] = await until_async(taken, 90)
        await visitor.http.delete(f"/v1/webhook-endpoints/{made['webhook_id']}")
    assert [attempt["status_code"] for attempt in delivery["attempts"]] == [204]
    assert [asked.headers["webhook-id"] for asked in hook.asked] == [delivery["event_id"]] * 2
    assert [event["batch_id"] for event in hook.received] == [batch_id]


@pytest.mark.asyncio(loop_scope="session")
async def test_a_page_finds_its_way_back(fragile: RunningStack, browser: Browser):
    """The API is killed under a batch's page: it says that it is not live, comes back by itself and tells the rest."""
    async with fragile.visitor() as visitor, viewing(browser, fragile.base_url) as viewer:
        batch_id = await visitor.submit(notes(10, "way-back"), hold=True)
        page = await viewer.open(f"/batches/{batch_id}")
        await page.locator('#live[data-is="live"]').wait_for()
        killed = fragile.kill("api")
        await page.locator('#live[data-is="reconnecting"]').wait_for()
        await fragile.is_back("api", killed)
        await page.locator('#live[data-is="live"]').wait_for(timeout=60_000)
        await visitor.get("/readyz")
        await visitor.post(f"/v1/batches/{batch_id}/start")
        await page.locator('#overview[data-status="completed"]').wait_for()
        assert await page.locator('[data-figure="done"]').inner_text() == "10"
        assert await page.locator("#trouble").is_hidden()
        forgive_absence(viewer)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_large_file_goes_on_where_it_was(fragile: RunningStack, browser: Browser, tmp_path: Path):
    """The API is killed in the middle of an upload: the page waits, asks how much came, and sends the rest alone."""
    path = large_file(tmp_path / "large.bin")
    async with fragile.visitor() as visitor, viewing(browser, fragile.base_url) as viewer:
        page = await viewer.open("/submit")
        await page.locator("#files").set_input_files(path)
        session, offsets = await slow_down(page), offsets_of(page)
        await page.get_by_role("button", name="Submit", exact=True).click()
        await has_sent(page, 0.5)
        killed = fragile.kill("api")
        await fragile.is_back("api", killed)
        await speed_up(session)
        await page.wait_for_url("**/batches/*")
        await assert_arrived_whole(visitor, page.url.rsplit("/", 1)[-1], path)
        assert offsets.count(0) == 1, "it began again"
        forgive_absence(viewer)


async def test_an_emptied_redis_resets_old_cursors_and_nothing_else(fragile: RunningStack, visitor: Visitor):
    """FLUSHALL in mid-stream: a client with an old cursor gets reset and snapshot, then right events to the end."""
    batch_id = await visitor.submit(notes(COUNT, "emptied"))
    faithful = visitor.watch(batch_id, "0")
    await faithful.sees("document.succeeded", 20)
    async with Redis.from_url(fragile.up.facts()["redis"]["url"]) as redis:
        await redis.flushall()
    returning = visitor.watch(batch_id, str(faithful.seqs[3]))
    await returning.sees("stream.snapshot")
    await asyncio.gather(returning.closes(90), faithful.closes(90))

    assert returning.names[:3] == ["stream.open", "stream.reset", "stream.snapshot"]
    assert returning.names[-2:] == ["batch.completed", "stream.end"]
    first = returning.seqs[0]
    assert returning.seqs == list(range(first, first + len(returning.seqs)))
    ended_by_then = returning.of("stream.snapshot")[0].data["counts"]["done"]
    ends_after = [ordinal for kind, ordinal in returning.documents if kind == "succeeded"]
    assert len(set(ends_after)) == len(ends_after) >= COUNT - ended_by_then
    # Who never left has no gap and misses no document.
    assert faithful.seqs == sorted(set(faithful.seqs))
    assert sorted(ordinal for kind, ordinal in faithful.documents if kind == "succeeded") == list(range(COUNT))
    await assert_counted_once(fragile, visitor, batch_id, COUNT)


async def test_a_paused_batch_survives_the_end_of_everything(tmp_path: Path):
    """Paused, the whole stack stopped and started again: still paused with the same counts; resume runs it to the end."""
    data_dir = tmp_path / ".ingather"
    with running_stack(data_dir) as stack:
        async with stack.visitor() as visitor:
            batch_id = await visitor.submit(notes(COUNT, "survivor"))
            await visitor.until(batch_id, lambda batch: batch["counts"]["done"] >= 20)
            await visitor.post(f"/v1/batches/{batch_id}/pause")
            before = await visitor.until(batch_id, lambda batch: batch["status"] == "paused")
    assert 20 <= before["counts"]["done"] < COUNT
    assert before["counts"]["in_flight"] == 0

    with running_stack(data_dir) as stack:
        async with stack.visitor() as visitor:
            after = await visitor.until(batch_id, lambda batch: not batch["stale"])
            assert (after["status"], after["counts"]) == ("paused", before["counts"])
            await asyncio.sleep(1)
            assert (await visitor.batch(batch_id))["counts"] == before["counts"]
            await visitor.post(f"/v1/batches/{batch_id}/resume")
            await assert_counted_once(stack, visitor, batch_id, COUNT)

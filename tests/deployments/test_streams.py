"""Streams over HTTP, with real servers and real API processes, some of which go away in the middle."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from ingather.models.batch import BatchState
from tests.support.batch_driver import request, retry
from tests.support.deployment import Deployment, api_for_all, deployed
from tests.support.fake_activities import DONE, failed
from tests.support.watched_world import ApiProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def shared_api(temporal_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with api_for_all(temporal_address, redis_url, tmp_path_factory.mktemp("streams")) as api:
        yield api


@pytest.fixture
async def deployment(shared_api: ApiProcess, tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(shared_api, tmp_path) as deployment:
        yield deployment


def contiguous(seqs: list[int]) -> bool:
    return seqs == list(range(seqs[0], seqs[0] + len(seqs)))


async def test_a_batch_is_seen_from_its_first_event_to_its_last(deployment: Deployment) -> None:
    """Every document starts and ends once, numbers are gapless, and names never leave their line."""
    names = {0: "two\r\nlines.txt", 1: "naïve \u2028 🎉.pdf"}
    world = await deployment.world(
        document_count=40,
        seconds=0.05,
        outcome=lambda ordinal, _round: failed() if ordinal == 3 else DONE,
        name=lambda ordinal: names.get(ordinal, f"{ordinal}.txt"),
    )
    api = deployment.shared
    batch = await deployment.batch(world)
    watcher = api.watch(batch.batch_id, "0")
    await watcher.closes(30)

    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
    ends = [ordinal for kind, ordinal in watcher.documents if kind != "started"]
    assert sorted(ends) == list(range(40))
    assert sorted(ordinal for kind, ordinal in watcher.documents if kind == "started") == list(range(40))
    told = {frame.data["data"]["ordinal"]: frame.data["data"]["filename"] for frame in watcher.of("document.started")}
    assert told[0] == names[0]
    assert told[1] == names[1]
    [failure] = watcher.of("document.failed")
    assert failure.data["data"]["error"]["code"] == "corrupt"
    last = watcher.of("batch.completed")[0].data
    assert last["data"]["status"] == "completed_with_failures"
    assert last["data"]["counts"]["done"] == 39
    assert watcher.names[-1] == "stream.end"


async def test_headers_and_first_frames_are_as_promised(deployment: Deployment) -> None:
    """No cache, no buffering; retry, open and the batch itself come at once."""
    world = await deployment.world(document_count=1)
    api = deployment.shared
    batch = await deployment.batch(world, hold=True)
    path = f"/v1/batches/{batch.batch_id}/events"
    async with api.client().stream("GET", path, headers={"Accept": "text/event-stream"}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        received = b""
        async for chunk in response.aiter_raw():
            received += chunk
            if b"stream.snapshot" in received and received.endswith(b"\n\n"):
                break
    retry_block, opened, snapshot = received.decode().strip().split("\n\n")[:3]
    assert retry_block == "retry: 3000"
    assert opened.startswith("event: stream.open\ndata: {")
    shown = orjson.loads(snapshot.split("data: ", 1)[1])
    resource = (await api.client().get(f"/v1/batches/{batch.batch_id}")).json()
    assert shown["id"] == batch.batch_id
    assert shown.keys() == resource.keys()
    assert shown["links"] == resource["links"]


async def test_control_is_seen_in_the_stream(deployment: Deployment) -> None:
    """Pausing, paused, resumed, cancelling, cancelled, in this order."""
    world = await deployment.world(document_count=150, seconds=1.0)
    api = deployment.shared
    batch = await deployment.batch(world)
    watcher = api.watch(batch.batch_id, "0")
    await watcher.sees("document.succeeded")
    await batch.handle.execute_update("pause", request())
    await watcher.sees("batch.paused")
    await batch.handle.execute_update("resume", request())
    await watcher.sees("batch.resumed")
    await batch.handle.cancel()
    await watcher.closes(30)

    states = [name for name in watcher.names if name.startswith("batch.") and name != "batch.progress"]
    assert states[-1] == "batch.cancelled"
    order = [state for state in states if state in {"batch.pausing", "batch.paused", "batch.resumed"}]
    assert order == ["batch.pausing", "batch.paused", "batch.resumed"]
    ends = [ordinal for kind, ordinal in watcher.documents if kind != "started"]
    assert sorted(ends) == list(range(150))
    assert contiguous(watcher.seqs)


async def test_a_slow_document_shows_its_stage(deployment: Deployment) -> None:
    """After a second in flight, progress names the file and the stage of its last heartbeat."""
    world = await deployment.world(document_count=1, seconds=2.5)
    api = deployment.shared
    batch = await deployment.batch(world)
    watcher = api.watch(batch.batch_id)
    await watcher.until(lambda seen: any(frame.data["data"]["files"] for frame in seen.of("batch.progress")))

    shown = [frame.data["data"]["files"] for frame in watcher.of("batch.progress") if frame.data["data"]["files"]]
    assert (shown[0][0]["filename"], shown[0][0]["stage"]) == ("document-0.txt", "parsing")
    await watcher.closes(20)


async def test_an_ended_batch_answers_204_to_its_last_number(deployment: Deployment) -> None:
    """Other numbers are replayed, or reset and ended."""
    world = await deployment.world(document_count=3)
    api = deployment.shared
    batch = await deployment.batch(world)
    watcher = api.watch(batch.batch_id, "0")
    await watcher.closes(30)
    end = watcher.of("stream.end")[0]
    path = f"/v1/batches/{batch.batch_id}/events"
    accept = {"Accept": "text/event-stream"}
    client = api.client()

    assert end.id == str(watcher.seqs[-1])
    assert (await client.get(path, headers=accept | {"Last-Event-ID": end.id})).status_code == 204
    assert (await client.get(path, headers=accept, params={"after": end.id})).status_code == 204
    replay = await client.get(path, headers=accept, params={"after": str(watcher.seqs[-3])})
    assert replay.text.count("\nevent: stream.end") == 1
    assert f"id: {watcher.seqs[-2]}\n" in replay.text
    late = await client.get(path, headers=accept, params={"after": "77777"})
    frames = [line.removeprefix("event: ") for line in late.text.splitlines() if line.startswith("event: ")]
    assert frames == ["stream.open", "stream.reset", "stream.snapshot", "stream.end"]


async def test_json_pages_hold_the_same_events(deployment: Deployment) -> None:
    """Page after page, the envelopes of the stream."""
    world = await deployment.world(document_count=5)
    api = deployment.shared
    batch = await deployment.batch(world)
    watcher = api.watch(batch.batch_id, "0")
    await watcher.closes(30)
    pages, after = [], "0"
    async with httpx.AsyncClient(base_url=api.url) as client:
        while True:
            response = await client.get(
                f"/v1/batches/{batch.batch_id}/events",
                params={"after": after, "limit": 4},
                headers={"Accept": "application/json"},
            )
            page = response.json()
            pages.append(page)
            after = page["next_cursor"]
            if not page["has_more"]:
                break

    events = [event for page in pages for event in page["data"]]
    assert events == [frame.data for frame in watcher.frames if frame.id and frame.event != "stream.end"]
    assert all(len(page["data"]) <= 4 for page in pages)
    assert [page["ended"] for page in pages] == [False] * (len(pages) - 1) + [True]


async def test_refusals_come_before_the_stream(deployment: Deployment) -> None:
    """404 and 406 as ordinary problems."""
    world = await deployment.world(document_count=1)
    api = deployment.shared
    batch = await deployment.batch(world, hold=True)
    client = api.client()
    unknown = await client.get("/v1/batches/00000000-0000-7000-8000-00000000dead/events")
    other = await client.get(f"/v1/batches/{batch.batch_id}/events", headers={"Accept": "text/html"})

    assert (unknown.status_code, unknown.json()["code"]) == (404, "batch_not_found")
    assert (other.status_code, other.json()["code"]) == (406, "not_acceptable")


async def test_streams_of_a_tenant_are_limited(deployment: Deployment) -> None:
    """One too many is refused with 429 until another is closed."""
    world = await deployment.world(document_count=1)
    api = await deployment.api(INGATHER_LIMITS__STREAMS_PER_CLIENT="2")
    batch = await deployment.batch(world, hold=True)
    open_ones = [api.watch(batch.batch_id) for _ in range(2)]
    for watcher in open_ones:
        await watcher.sees("stream.snapshot")
    refused = await api.client().get(f"/v1/batches/{batch.batch_id}/events")
    assert refused.status_code == 429
    assert refused.json()["code"] == "too_many_streams"
    assert "retry-after" in refused.headers
    await open_ones[0].leave()
    await asyncio.sleep(0.5)
    await api.watch(batch.batch_id).sees("stream.snapshot")


async def test_sigterm_says_farewell_and_closes(deployment: Deployment) -> None:
    """Every stream gets its retry, all are closed, and the process ends by itself."""
    world = await deployment.world(document_count=1)
    api = await deployment.api()
    batch = await deployment.batch(world, hold=True)
    watchers = [api.watch(batch.batch_id) for _ in range(20)]
    for watcher in watchers:
        await watcher.sees("stream.snapshot")
    api.terminate()
    for watcher in watchers:
        await watcher.closes()
    assert await asyncio.to_thread(api.process.wait, 60) is not None

    assert {watcher.names[-1] for watcher in watchers} == {"stream.draining"}
    assert len({watcher.frames[-1].retry for watcher in watchers}) > 5


async def test_another_process_takes_over_from_a_killed_one(deployment: Deployment) -> None:
    """Without a gap and without a duplicate."""
    world = await deployment.world(document_count=150, seconds=1.0)
    first = await deployment.api()
    batch = await deployment.batch(world)
    lost = first.watch(batch.batch_id, "0")
    await lost.sees("document.succeeded")
    watcher = deployment.shared.watch(batch.batch_id, "0")
    await watcher.sees("document.succeeded")
    seen = watcher.seqs[-1]
    await first.stop()
    await watcher.until(lambda now: now.seqs[-1] > seen + 10)
    await watcher.closes()

    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
    ends = [ordinal for kind, ordinal in watcher.documents if kind != "started"]
    assert sorted(ends) == list(range(150))
    assert "stream.reset" not in watcher.names


async def test_an_emptied_redis_in_mid_stream(deployment: Deployment) -> None:
    """Who watches goes on; an old cursor is reset; no number comes twice; every end is told."""
    world = await deployment.world(document_count=150, seconds=0.5)
    api = deployment.shared
    batch = await deployment.batch(world)
    watcher = api.watch(batch.batch_id, "0")
    await watcher.sees("document.succeeded", 20)
    await deployment.redis.flushall()
    old = api.watch(batch.batch_id, str(watcher.seqs[3]))
    await old.sees("stream.reset")
    await watcher.closes(60)
    await old.closes(5)

    assert contiguous(watcher.seqs)
    ends = [ordinal for kind, ordinal in watcher.documents if kind != "started"]
    assert sorted(ends) == list(range(150))
    assert old.names[1:3] == ["stream.reset", "stream.snapshot"]
    assert set(old.seqs) <= set(watcher.seqs)


async def test_a_terminated_workflow_ends_its_stream(deployment: Deployment) -> None:
    """Ended from the Temporal UI: the stream says failed, with the reason, and ends."""
    world = await deployment.world(document_count=60, seconds=1.0)
    api = deployment.shared
    batch = await deployment.batch(world)
    watcher = api.watch(batch.batch_id, "0")
    await watcher.sees("document.succeeded")
    await batch.handle.terminate("by hand")
    await watcher.closes(15)

    last = watcher.of("batch.failed")[0].data["data"]
    assert last["problem"]["code"] == "terminated"
    counts = last["counts"]
    assert counts["total"] == sum(value for name, value in counts.items() if name != "total")
    assert watcher.names[-1] == "stream.end"


async def test_a_retry_is_followed_under_new_numbers(deployment: Deployment) -> None:
    """A closed batch that is opened again goes on in the same stream."""
    world = await deployment.world(
        document_count=6, outcome=lambda ordinal, round_: failed() if ordinal == 2 and not round_ else DONE
    )
    api = deployment.shared
    batch = await deployment.batch(world)
    first = api.watch(batch.batch_id, "0")
    await first.closes(30)
    await deployment.catalog.set_batch_state(batch.batch_id, BatchState.RETRYING)
    await batch.reopen(retry())
    second = api.watch(batch.batch_id, str(first.seqs[-1]))
    await second.closes(30)

    assert contiguous(first.seqs + second.seqs)
    assert second.documents == [("started", 2), ("succeeded", 2)]
    assert second.of("batch.completed")[0].data["data"]["status"] == "completed"


async def test_an_unwatched_batch_is_told_after_its_end(deployment: Deployment) -> None:
    """Its history is rebuilt from the catalog, without a query to the closed workflow."""
    world = await deployment.world(document_count=8)
    batch = await deployment.batch(world)
    await batch.handle.result()
    api = deployment.shared
    watcher = api.watch(batch.batch_id, "0")
    await watcher.closes(15)

    assert [kind for kind, _ in watcher.documents].count("succeeded") == 8
    assert watcher.names[1] == "batch.created"
    assert watcher.names[-2:] == ["batch.completed", "stream.end"]

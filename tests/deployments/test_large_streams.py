"""Streams of batches that run in children, with real servers and real API processes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ingather.models.batch import BatchState
from tests.support.deployment import Deployment, api_for_all, deployed
from tests.support.fake_activities import DONE, failed
from tests.support.watched_world import ApiProcess
from tests.support.watching import Watcher

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def shared_api(temporal_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with api_for_all(temporal_address, redis_url, tmp_path_factory.mktemp("large")) as api:
        yield api


@pytest.fixture
async def deployment(shared_api: ApiProcess, tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(shared_api, tmp_path) as deployment:
        yield deployment


def told(watcher: Watcher) -> tuple[list[int], list[int]]:
    """Ordinals whose start, and whose end, was told."""
    starts = sorted(ordinal for kind, ordinal in watcher.documents if kind == "started")
    return starts, sorted(ordinal for kind, ordinal in watcher.documents if kind != "started")


def assert_exact(counts: list[dict[str, int]], total: int) -> None:
    assert all(sum(part for name, part in each.items() if name != "total") == each["total"] for each in counts)
    assert {each["total"] for each in counts[1:]} <= {total}
    ended = [each["done"] + each["failed"] for each in counts]
    assert ended == sorted(ended)


async def test_another_process_takes_over_a_large_batch(deployment: Deployment) -> None:
    """The process that tells is killed: every document starts and ends once, in numbers without a gap."""
    world = await deployment.world(
        document_count=1_050, seconds=0.3, outcome=lambda ordinal, _: failed() if ordinal % 100 == 7 else DONE
    )
    first = await deployment.api()
    batch = await deployment.batch(world)
    lost = first.watch(batch.batch_id, "0")
    await lost.sees("document.succeeded", 100, seconds=60)
    watcher = deployment.shared.watch(batch.batch_id, "0")
    await watcher.sees("document.succeeded", 50)
    await first.stop()
    await watcher.closes(120)

    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
    assert "stream.reset" not in watcher.names
    assert told(watcher) == (list(range(1_050)), list(range(1_050)))
    assert_exact([frame.data["data"]["counts"] for frame in watcher.of("batch.progress")], 1_050)
    last = watcher.of("batch.completed")[0].data["data"]
    assert last["counts"]["failed"] == 11


async def test_a_large_batch_that_nobody_watches_adds_up_and_is_told_after_its_end(deployment: Deployment) -> None:
    """Every answer merges the batch with its children, and none goes back; the story is told from the catalog then."""
    world = await deployment.world(document_count=1_050, seconds=0.2)
    batch = await deployment.batch(world)
    client, seen = deployment.shared.client(), []
    while not seen or not BatchState(seen[-1]["status"]).is_final:
        seen.append((await client.get(f"/v1/batches/{batch.batch_id}")).json())
        await asyncio.sleep(0.3)

    assert_exact([each["counts"] for each in seen if each["counts"]["total"] == 1_050], 1_050)
    assert any(0 < each["counts"]["done"] < 1_050 for each in seen)
    assert len({each["counts"]["done"] for each in seen}) > 5

    watcher = deployment.shared.watch(batch.batch_id, "0")
    await watcher.closes(30)
    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
    assert told(watcher)[1] == list(range(1_050))
    assert watcher.names[-2:] == ["batch.completed", "stream.end"]


async def test_a_large_batch_that_is_cancelled_tells_every_end(deployment: Deployment) -> None:
    """Done, stopped or never begun: one end for each document, and the batch's own."""
    world = await deployment.world(document_count=1_300, seconds=0.3)
    batch = await deployment.batch(world)
    watcher = deployment.shared.watch(batch.batch_id, "0")
    await watcher.sees("document.succeeded", 100, seconds=60)
    await batch.handle.cancel()
    await watcher.closes(60)

    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
    _, ends = told(watcher)
    assert ends == list(range(1_300))
    assert watcher.names.count("document.cancelled") > 500
    assert watcher.names[-2:] == ["batch.cancelled", "stream.end"]

"""Streams of sheets: what is retained, then what comes, and one end, whatever happens to the log."""

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from api.streams.sheet_feed import SheetFeed, summary_of
from ingather.adapters.memory.sheet_progress import InMemorySheetProgress
from ingather.domain.sheet_end import end_event, lost_upload_event
from ingather.models.batch import BatchState
from tests.support.catalog_records import batch_record, chunked
from tests.support.sheet_events import stage_event
from tests.support.waiting import until


class Batch:
    """A batch of sheets in the catalog, its log, and those who watch it."""

    def __init__(self):
        self.progress = InMemorySheetProgress()
        self.feed = SheetFeed(self.progress, end_grace_seconds=0.3)
        self.record = batch_record().model_copy(update={"state": BatchState.RUNNING, "created_at": datetime.now(UTC)})
        self.upload = None
        """While it goes on there is no batch."""
        self.is_gone = False
        self.looks = 0
        self._tasks = []

    @property
    def id(self):
        return self.record.batch_id

    async def find(self):
        self.looks += 1
        return None if self.is_gone else self.upload or self.record

    def arrives(self, **fields):
        self.upload = chunked(batch_id=self.id, **fields)

    async def tell(self, stage="extracting", mark=None, **fields):
        await self.progress.tell(stage_event(self.id, stage, mark, **fields))

    def ends(self, state=BatchState.COMPLETED, *, version=3, ago=timedelta(), retry_round=0):
        changes = {"state": state, "version": version, "ended_at": datetime.now(UTC) - ago, "retry_round": retry_round}
        self.record = self.record.model_copy(update=changes)

    async def tell_end(self):
        await self.progress.tell(end_event(summary_of(self.record), self.record.created_at))

    def watch(self):
        """Stages as a client sees them; the list ends with None when the stream closed."""
        seen = []

        async def follow():
            async for event in self.feed.follow(self.id, self.find):  # one by one, as they come
                if event is not None:
                    seen.append(json.loads(event.body)["stage"])  # noqa: PERF401 - seen while they come
            seen.append(None)

        self._tasks.append(asyncio.create_task(follow()))
        return seen

    async def first(self, count):
        """Numbers of so many events, as they come."""
        numbers = []
        async with aclosing(self.feed.follow(self.id, self.find)) as events:
            async for event in events:
                if event is not None:
                    numbers.append(event.number)
                if len(numbers) == count:
                    break
        return numbers

    async def last(self):
        """The last event's object, once it has come."""
        return json.loads([event async for event in self.feed.follow(self.id, self.find) if event][-1].body)

    async def close(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.feed.close()


@pytest.fixture
async def batch():
    batch = Batch()
    batch.feed.start()
    yield batch
    await batch.close()


def has(seen, *stages):
    return until(lambda: seen == list(stages), 20)


async def test_a_client_sees_what_was_told_and_then_what_comes(batch):
    """Each event once, in order; after the end the stream closes."""
    await batch.tell("uploading")
    seen = batch.watch()
    await has(seen, "uploading")
    await batch.tell("extracting")
    await has(seen, "uploading", "extracting")
    batch.ends()
    await batch.tell_end()
    await has(seen, "uploading", "extracting", "completed", None)


async def test_who_comes_after_the_end_sees_all_of_it(batch):
    """And the end once."""
    await batch.tell("uploading")
    batch.ends()
    await batch.tell_end()
    await has(batch.watch(), "uploading", "completed", None)


async def test_a_failure_ends_a_stream_too(batch):
    """With its one last event."""
    batch.ends(BatchState.CANCELLED)
    await batch.tell_end()
    await has(batch.watch(), "failed", None)


async def test_the_end_of_an_earlier_round_is_not_the_end(batch):
    """A retry runs: clients stay, old and new, and see one end."""
    await batch.tell("extracting")
    batch.ends()
    await batch.tell_end()
    batch.record = batch.record.model_copy(update={"state": BatchState.RETRYING})
    seen = batch.watch()
    await has(seen, "extracting")
    await batch.tell("processing_sheets", retry_round=1)
    await has(seen, "extracting", "processing_sheets")
    batch.ends(version=7, retry_round=1)
    await batch.tell_end()
    await has(seen, "extracting", "processing_sheets", "completed", None)
    await has(batch.watch(), "extracting", "processing_sheets", "completed", None)


async def test_an_end_that_is_told_before_the_catalog_was_read_again_is_found(batch):
    """The record that was looked at last said that it runs."""
    seen = batch.watch()
    await batch.tell("cleanup")
    await has(seen, "cleanup")
    before = batch.record
    batch.ends()
    after, batch.record = batch.record, before
    await batch.progress.tell(end_event(summary_of(after), after.created_at))
    await asyncio.sleep(0)
    batch.record = after
    await has(seen, "cleanup", "completed", None)


async def test_a_batch_whose_log_is_gone_ends_by_the_catalogs_word(batch):
    """An hour later, or after Redis was emptied: one event, and the stream closes."""
    batch.ends(ago=timedelta(hours=2))
    await has(batch.watch(), "completed", None)


async def test_a_batch_that_was_ended_from_outside_ends_by_the_catalogs_word(batch):
    """Nobody was left to tell it: what is retained comes first."""
    await batch.tell("processing_sheets")
    batch.ends(BatchState.FAILED)
    await has(batch.watch(), "processing_sheets", "failed", None)


async def test_a_round_of_which_nothing_could_be_told_ends_by_the_catalogs_word(batch):
    """The log was away for all of a retry: the end of the round before is not taken for its end, nor waited behind."""
    await batch.tell("cleanup")
    batch.ends()
    await batch.tell_end()
    batch.ends(BatchState.FAILED, version=7, retry_round=1)
    await has(batch.watch(), "cleanup", "failed", None)


async def test_a_long_log_is_told_in_one_go(batch):
    """However many pages it has, and though nothing new comes: nobody waits between them."""
    for number in range(2_600):
        await batch.tell("organizing_qr", f"0/organizing_qr/{number}")
    watch = asyncio.create_task(batch.first(2_600))
    seen = await asyncio.wait_for(watch, 10)
    assert seen == list(range(1, 2_601))


async def test_a_log_that_begins_anew_is_followed(batch):
    """Redis was emptied in the middle; what is told from then on comes, and nothing twice."""
    seen = batch.watch()
    await batch.tell("extracting")
    await batch.tell("organizing_qr")
    await has(seen, "extracting", "organizing_qr")
    batch.progress.clear()
    await batch.tell("processing_sheets")
    await until(lambda: "processing_sheets" in seen, 20)
    assert seen == ["extracting", "organizing_qr", "processing_sheets"]


async def test_many_watchers_cost_the_log_one(batch):
    """However many there are, one reads."""
    reads = 0
    read = batch.progress.read

    async def counted(*args, **kwargs):
        nonlocal reads
        reads += 1
        return await read(*args, **kwargs)

    batch.progress.read = counted
    await batch.tell("uploading")
    crowd = [batch.watch() for _ in range(200)]
    await until(lambda: all(seen == ["uploading"] for seen in crowd), 20)
    before = reads
    batch.ends()
    await batch.tell_end()
    await until(lambda: all(seen == ["uploading", "completed", None] for seen in crowd), 20)
    assert reads - before < 20


async def test_a_server_that_goes_away_lets_its_streams_end(batch):
    """Clients come again, elsewhere."""
    await batch.tell("uploading")
    seen = batch.watch()
    await has(seen, "uploading")
    batch.feed.drain()
    await has(seen, "uploading", None)


async def test_who_comes_before_the_batch_has_begun_misses_nothing(batch):
    """The upload goes on: its chunks are told, then what the batch does, and its end."""
    batch.arrives()
    seen = batch.watch()
    await batch.tell("uploading", "uploading/0")
    await has(seen, "uploading")
    await batch.tell("uploading", "uploading/1")
    await has(seen, "uploading", "uploading")
    batch.upload = None
    await batch.tell("extracting")
    await has(seen, "uploading", "uploading", "extracting")
    batch.ends()
    await batch.tell_end()
    await has(seen, "uploading", "uploading", "extracting", "completed", None)


@pytest.mark.parametrize("is_told", [True, False])
async def test_an_upload_that_is_never_finished_ends_its_streams(batch, is_told):
    """It was removed when its time was over, whether or not that could be told: one failure, as old as the upload."""
    batch.arrives(created_at=datetime.now(UTC) - timedelta(hours=24))
    await batch.tell("uploading")
    seen, ends = batch.watch(), asyncio.create_task(batch.last())
    await has(seen, "uploading")
    await until(lambda: batch.looks, 20)
    batch.is_gone = True
    if is_told:
        await batch.progress.tell(lost_upload_event(batch.id, batch.upload.created_at))
    await has(seen, "uploading", "failed", None)
    end = await ends
    assert "restart upload" in end["error_details"]
    assert end["elapsed_seconds"] >= 24 * 3600

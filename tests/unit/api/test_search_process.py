"""Search in a process of its own."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from api.search_process import SearchProcess
from ingather.models.errors import IndexUnavailableError
from ingather.models.search import SearchHit, SearchQuery
from ingather.settings import Settings
from tests.support.waiting import until

QUERY = SearchQuery(tenant_id="00000000-0000-7000-8000-000000000001", text="what")


class PidBackend:
    """Answers with the process it runs in."""

    async def search(self, query, vector):
        if query.text == "fail":
            raise IndexUnavailableError("The index is away.")
        if query.collection is not None:
            (folder := Path(query.collection)).joinpath("asked").touch()
            await until((folder / "answer").exists)
        if query.text == "crash":
            raise ValueError("unexpected")
        return [
            SearchHit(
                text=query.text, score=1.0, document_id="d", filename="f", batch_id="b", collection="c", chunk_ordinal=0
            )
        ]

    async def count(self, tenant_id):
        return os.getpid()

    async def check(self):
        return None


def open_pid_backend(settings):
    return PidBackend()


@pytest.fixture
async def search():
    process = SearchProcess(Settings(), open_pid_backend)
    yield process
    await process.close()


async def test_questions_are_answered_elsewhere(search):
    """By another process, the same one every time, several callers at once."""
    answers = await asyncio.gather(*(search.search(QUERY, None) for _ in range(5)))
    assert [hits[0].text for hits in answers] == ["what"] * 5
    pid = await search.count("t")
    assert pid != os.getpid()
    assert await search.count("t") == pid


async def test_errors_come_back_as_they_are(search):
    """Ours in their class; others as an unavailable index, without their message."""
    with pytest.raises(IndexUnavailableError, match="away"):
        await search.search(QUERY.model_copy(update={"text": "fail"}), None)
    with pytest.raises(IndexUnavailableError, match="could not answer"):
        await search.search(QUERY.model_copy(update={"text": "crash"}), None)


async def test_a_process_that_was_killed_is_started_again(search):
    """The next question is answered, by a new one."""
    pid = await search.count("t")
    os.kill(pid, signal.SIGKILL)
    assert await search.count("t") not in {pid, os.getpid()}


async def test_a_caller_that_goes_away_leaves_nothing_for_the_next(search, tmp_path):
    """However often it is cancelled, its question is answered before another one is put."""
    going = asyncio.create_task(search.search(QUERY.model_copy(update={"collection": str(tmp_path)}), None))
    await until((tmp_path / "asked").exists)
    for _ in range(2):
        going.cancel()
        await asyncio.sleep(0.01)
    assert not going.done()
    (tmp_path / "answer").touch()
    hits = await search.search(QUERY.model_copy(update={"text": "else"}), None)
    assert [hit.text for hit in hits] == ["else"]
    assert going.cancelled()


async def test_closing_ends_the_process(search):
    """Nothing is left behind."""
    pid = await search.count("t")
    await search.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_starting_up_is_not_being_unready(search):
    """The check answers at once while the process loads."""
    search.warm_up()
    async with asyncio.timeout(0.1):
        await search.check()

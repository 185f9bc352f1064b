"""An engine that takes questions and answers none: what is known is told, as stale, and each question is asked once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from api.engine import BatchEngine
from api.engine_overview import EngineOverviews
from api.service.batches import BatchService
from api.streams.reader import ProgressReader
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.adapters.memory.event_log import InMemoryEventLog
from ingather.models.batch import BatchState
from ingather.models.engine import ROLES
from ingather.models.errors import EngineUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME, places_workflow_id_for
from ingather.ports.catalog import BatchFilter
from tests.support.catalog_records import batch_record

SHORT = timedelta(milliseconds=20)


class SilentClient:
    """A Temporal client whose calls never end; it counts them."""

    namespace = "default"

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.workflow_service = SimpleNamespace(
            describe_task_queue=self._describe_task_queue, get_system_info=self._forever("system")
        )
        self.operator_service = SimpleNamespace(list_search_attributes=self._forever("attributes"))

    def get_workflow_handle(self, workflow_id: str) -> SimpleNamespace:
        async def describe(**_options: Any) -> None:
            await self._never(f"describe {workflow_id}")

        async def query(*_arguments: Any, **_options: Any) -> None:
            await self._never(f"query {workflow_id}")

        return SimpleNamespace(describe=describe, query=query)

    async def list_workflows(self, _query: str, **_options: Any) -> AsyncIterator[None]:
        await self._never("list")
        yield

    async def _describe_task_queue(self, request: Any, **_options: Any) -> None:
        await self._never(f"poll {request.task_queue.name}")

    def _forever(self, question: str) -> Any:
        async def asked(_request: Any, **_options: Any) -> None:
            await self._never(question)

        return asked

    async def _never(self, question: str) -> None:
        self.asked[question] += 1
        await asyncio.Event().wait()


@asynccontextmanager
async def three_open_batches() -> AsyncIterator[tuple[BatchService, SilentClient, list[str]]]:
    client, catalog = SilentClient(), InMemoryCatalog()
    await catalog.add_tenant(DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME)
    records = [batch_record() for _ in range(3)]
    for record in records:
        await catalog.add_batch(record)
    engine = BatchEngine(client, read_timeout=SHORT)
    reader = ProgressReader(client, InMemoryEventLog(), timeout=SHORT)
    batches = BatchService(catalog, engine, reader, timeout=SHORT)
    yield batches, client, [record.batch_id for record in records]


async def test_a_page_asks_a_silent_engine_once_whatever_its_length():
    """One look at what runs and one at the line, for three batches on two pages; all of it stale."""
    async with three_open_batches() as (batches, client, ids):
        for _ in range(2):
            page, _ = await batches.page(BatchFilter(DEFAULT_TENANT_ID), 50)

            assert {snapshot.record.batch_id for snapshot in page} == set(ids)
            assert all(snapshot.stale for snapshot in page)
        line = f"describe {places_workflow_id_for(DEFAULT_TENANT_ID)}"
        assert client.asked["list"] == 1
        assert client.asked[line] <= 1
        assert set(client.asked) <= {"list", line}


async def test_a_filtered_page_is_of_what_the_catalog_knows_where_the_engine_is_silent():
    """The last state that was written counts."""
    async with three_open_batches() as (batches, _, ids):
        state = (await batches.record(DEFAULT_TENANT_ID, ids[0])).state
        page, last = await batches.page(BatchFilter(DEFAULT_TENANT_ID, states=(state,)), 2)

        assert (len(page), page[0].stale, last is not None) == (2, True, True)
        assert await batches.page(BatchFilter(DEFAULT_TENANT_ID, states=(BatchState.PAUSING,)), 2) == ([], None)


async def test_a_batch_is_asked_for_once_while_the_engine_is_silent():
    """Its query and its description, beside each other; who reads a moment later is told the same without asking."""
    async with three_open_batches() as (batches, client, ids):
        snapshots = [await batches.snapshot(DEFAULT_TENANT_ID, ids[0]) for _ in range(5)]

        assert all(snapshot.stale for snapshot in snapshots)
        asked = {question: count for question, count in client.asked.items() if ids[0] in question}
        assert asked == {f"query batch/{ids[0]}": 1, f"describe batch/{ids[0]}": 1}
        assert max(client.asked.values()) == 1


async def test_silence_is_an_error_of_ours_and_remembered():
    """Both kinds of questions about a standstill: the first waits for its deadline, the second for nothing."""
    async with three_open_batches() as (batches, client, ids):
        engine = BatchEngine(client, read_timeout=SHORT)
        for _ in range(2):
            with pytest.raises(EngineUnavailableError):
                await engine.waits.pending((f"batch/{ids[0]}", f"batch/{ids[1]}"))
            with pytest.raises(EngineUnavailableError):
                await batches.running(DEFAULT_TENANT_ID)
        assert client.asked == {f"describe batch/{ids[0]}": 1, f"describe batch/{ids[1]}": 1, "list": 1}


async def test_an_overview_of_a_silent_engine_is_an_error_of_ours_and_remembered():
    """Every question of it is asked once, at the same time."""
    client = SilentClient()
    overviews = EngineOverviews(client, timeout=SHORT)
    for _ in range(3):
        with pytest.raises(EngineUnavailableError):
            await overviews.get()
    queues = {f"poll {queue}": 1 for queues in ROLES.values() for queue in queues}
    assert client.asked == {"list": 1, "system": 1, "attributes": 1, **queues}

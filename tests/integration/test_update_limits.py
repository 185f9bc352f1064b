"""A server takes so many updates of one run; steering goes on beyond them."""

import uuid
from collections.abc import Iterator

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from api.engine import BatchEngine
from ingather.models.batch import BatchState
from ingather.models.messages import ControlRequest, PriorityRequest
from tests.support import servers
from tests.support.batch_driver import driven
from tests.support.fake_activities import World
from tests.support.waiting import until_async
from workflows.batch import BatchWorkflow


@pytest.fixture(scope="module")
def strict_temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that takes two updates of a run, where others take two thousand."""
    server = servers.temporal_server(tmp_path_factory.mktemp("temporal"), **{"history.maxTotalUpdates": "2"})
    with servers.started(server):
        yield server.address


async def test_beyond_the_last_update_messages_go_as_signals(strict_temporal: str) -> None:
    """No answer comes with them, and they take effect all the same, each once."""
    client = await Client.connect(strict_temporal, data_converter=pydantic_data_converter)
    engine = BatchEngine(client)
    async with driven(client, World(document_count=3)) as driver:
        handle = await driver.start(hold=True)
        await driver.reaches(BatchState.PENDING)
        answers = [
            await engine.send(
                driver.batch_id, "set_priority", PriorityRequest(request_id=uuid.uuid4().hex, priority=priority)
            )
            for priority in (1, 2, 4, 5)
        ]

        assert [answer is None for answer in answers] == [False, False, True, True]

        async def has_last_priority() -> bool | None:
            return True if (await handle.query(BatchWorkflow.progress)).priority == 5 else None

        await until_async(has_last_priority)
        assert await engine.send(driver.batch_id, "start", ControlRequest(request_id=uuid.uuid4().hex)) is None
        assert (await handle.result()).counts.done == 3

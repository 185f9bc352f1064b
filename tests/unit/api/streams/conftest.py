"""A scripted batch, a log in memory and a hub, as one process has them."""

import uuid
from collections.abc import AsyncIterator

import pytest

from api.streams import hub as hub_module
from ingather.adapters.memory.event_log import InMemoryEventLog
from tests.support.house import House
from tests.support.scripted_batch import ScriptedBatch


@pytest.fixture
async def batch() -> ScriptedBatch:
    return await ScriptedBatch(str(uuid.uuid4()), document_count=4).create()


@pytest.fixture
async def house(batch: ScriptedBatch) -> AsyncIterator[House]:
    house = House(batch, InMemoryEventLog())
    yield house
    await house.close()


@pytest.fixture
def brief_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.05)

"""The real Temporal server, as a client sees it."""

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.support import servers
from workflows import book, children


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await Client.connect(temporal_address, data_converter=pydantic_data_converter)


@pytest.fixture(scope="session")
def short_history_address(tmp_path_factory: pytest.TempPathFactory):
    """A server that asks for continue-as-new after 60 events instead of 4,096."""
    directory = tmp_path_factory.mktemp("short-history")
    server = servers.temporal_server(directory, **{"limit.historyCount.suggestContinueAsNew": "60"})
    with servers.started(server):
        yield server.address


@pytest.fixture
async def short_history_client(short_history_address: str) -> Client:
    return await Client.connect(short_history_address, data_converter=pydantic_data_converter)


@pytest.fixture
def low_limits(monkeypatch):
    """Eleven documents are a large batch, with children of five."""
    monkeypatch.setattr(book, "MAX_DOCUMENTS_PER_WORKFLOW", 10)
    monkeypatch.setattr(children, "MIN_CHILD_DOCUMENTS", 5)
    monkeypatch.setattr(children, "MAX_DOCUMENTS_PER_WORKFLOW", 10)

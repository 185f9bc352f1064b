"""A stand-in server, and both clients: a test here says what either of them does."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import api_stand_in
from tests.support.clients import KINDS, Open, Waits, clients


@pytest.fixture
def server() -> Iterator[api_stand_in.StandIn]:
    with api_stand_in.running() as stand_in:
        yield stand_in


@pytest.fixture(params=KINDS)
def open_client(request: pytest.FixtureRequest) -> Iterator[Open]:
    with clients(request.param) as open_client:
        yield open_client


@pytest.fixture
def waits() -> Waits:
    return []


@pytest.fixture
def client(server: api_stand_in.StandIn, open_client: Open, waits: Waits) -> Any:
    return open_client(server.url, api_key="ing_live_x", tenant="t-1", waits=waits)

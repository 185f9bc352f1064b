"""Wiring: one real server of each kind for the whole test session, started when the first test asks for it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ingather.stack.s3 import S3Server
from tests.support import servers
from tests.support.running_stack import RunningStack, Visitor, running_stack

# How long an example takes is the machine's affair, which may be busy.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server: ``endpoint_url``, ``access_key_id``, ``secret_access_key``, ``bucket``, ``region``."""
    server = servers.s3_server(tmp_path_factory.mktemp("s3"))
    with servers.started(server):
        yield server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Redis server; keys of one test must not meet those of another."""
    server = servers.redis_server(tmp_path_factory.mktemp("redis"))
    with servers.started(server):
        yield server.url


@pytest.fixture(scope="session")
def temporal_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real Temporal server with our search attributes; use a fresh task queue per test."""
    server = servers.temporal_server(tmp_path_factory.mktemp("temporal"))
    with servers.started(server):
        yield server.address


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that connections may lead into."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, shelf: Path) -> Iterator[RunningStack]:
    """`ingather up`, ready, for all who leave it as it was. Whoever breaks something takes a stack of their own.

    Connections may lead into the shelf, and they and webhooks to servers of this machine.
    """
    private = dict.fromkeys(("INGATHER_SOURCES__ALLOW_PRIVATE", "INGATHER_WEBHOOKS__ALLOW_PRIVATE"), "true")
    data_dir = tmp_path_factory.mktemp("stack") / ".ingather"
    with running_stack(data_dir, INGATHER_SOURCES__ROOTS=str(shelf), **private) as stack:
        yield stack


@pytest.fixture
async def visitor(stack: RunningStack) -> AsyncIterator[Visitor]:
    """A client of the shared stack."""
    async with stack.visitor() as visitor:
        yield visitor

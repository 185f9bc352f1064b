"""Wiring: one real server of each kind for the whole test session, started when the first test asks for it."""

from collections.abc import Iterator

import pytest

from ingather.stack.s3 import S3Server
from tests.support import servers


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

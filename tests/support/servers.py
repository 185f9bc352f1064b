"""Real Temporal, S3 and Redis servers from the wheels, for tests: temporary data, free ports, killed at the end."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingather.stack import part, redis, s3, temporal
from ingather.stack.part import Part
from ingather.stack.ports import choose_ports


@contextmanager
def started(server: Part) -> Iterator[None]:
    """Run one server for as long as the block lasts; its end is a kill, since its data is thrown away."""
    process = asyncio.run(part.start(server, timeout_seconds=60))
    try:
        yield
    finally:
        process.kill()
        server.clean_up()


def temporal_server(directory: Path, **dynamic_config: str) -> temporal.TemporalServer:
    """A Temporal dev server that knows our search attributes."""
    return temporal.TemporalServer(
        directory / "temporal",
        directory / "temporal.log",
        choose_ports(temporal.PORTS),
        dynamic_config=dynamic_config,
    )


def s3_server(directory: Path) -> s3.S3Server:
    """An S3 server with one bucket and credentials of its own."""
    return s3.S3Server(
        directory / "s3",
        directory / "s3.log",
        choose_ports(s3.PORTS),
        access_key_id=secrets.token_hex(8),
        secret_access_key=secrets.token_hex(16),
        internal_key=secrets.token_hex(16),
    )


def redis_server(directory: Path) -> redis.RedisServer:
    """A Redis server with a password."""
    port = choose_ports(redis.PORTS)["redis"]
    return redis.RedisServer(directory / "redis", directory / "redis.log", port, secrets.token_hex(16))

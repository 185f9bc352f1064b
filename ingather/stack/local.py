"""The whole embedded stack: servers, catalog, API and workers in one data directory.

Temporal, Redis and S3 come up side by side; API and workers follow as soon as what they need to
start is there. Stopping goes the other way round. Ports and credentials stay from one run to
the next, so addresses in somebody's shell or browser go on working.
"""

import asyncio
import base64
import hashlib
import os
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from ingather.machine import usable_cores, usable_memory_bytes
from ingather.stack import redis, s3, temporal
from ingather.stack.directory import DataDirectory
from ingather.stack.errors import PartFailedError, PortTakenError
from ingather.stack.ports import LOOPBACK, choose_ports, is_free
from ingather.stack.private_files import write_private
from ingather.stack.probes import http_get, until
from ingather.stack.roots import WORKER_GRACE_SECONDS, ApiPart, WorkerPart
from ingather.stack.supervisor import Backoff, Supervisor

log = structlog.get_logger(__name__)

DEFAULT_API_PORT = 8000
_READY_SECONDS = 60.0
_PORT_TRIES = 3
_FIRST_KEY = "INGATHER_AUTH__FIRST_KEY"
_SOURCE_KEYS = "INGATHER_SOURCES__KEYS"


class LocalStack:
    """``async with LocalStack(Path(".ingather")) as stack:`` — ready inside the block, gone after it.

    Enter it on the main thread: the kernel ties the parts' lives to the thread that starts them.

    Args:
        data_dir: made when missing; one stack at a time may use it.
        api_port: the API's port; None takes the last run's, else 8000, else a free one.
        workers: worker processes, each with all roles.
        backoff: pauses before a part that died is started again.
    """

    def __init__(
        self, data_dir: Path, api_port: int | None = None, workers: int = 1, backoff: Backoff | None = None
    ) -> None:
        self.directory = DataDirectory(data_dir.absolute())
        self._wanted_api_port = api_port
        self._worker_count = workers
        self._resources = ExitStack()
        self._supervisor = Supervisor(on_change=self._write_stack_file, backoff=backoff)

    async def __aenter__(self) -> Self:
        self._resources.enter_context(self.directory.held())
        try:
            self._lay_out()
            await self._start()
        except BaseException:
            await self._shut_down()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._shut_down()

    def _lay_out(self) -> None:
        """Decide ports, credentials and the parts that follow from them; nothing runs yet."""
        directory, secrets = self.directory, self.directory.secrets()
        previous = directory.read_stack_file().get("ports", {})
        names = (*temporal.PORTS, *s3.PORTS, *redis.PORTS)
        self._ports = choose_ports(names, previous)
        self._ports["api"] = choose_api_port(self._wanted_api_port, previous.get("api"), set(self._ports.values()))
        self.temporal = temporal.TemporalServer(directory.state("temporal"), directory.log("temporal"), self._ports)
        self.redis = redis.RedisServer(
            directory.state("redis"), directory.log("redis"), self._ports["redis"], secrets.redis_password
        )
        self.s3 = s3.S3Server(
            directory.state("s3"),
            directory.log("s3"),
            self._ports,
            access_key_id=secrets.s3_access_key_id,
            secret_access_key=secrets.s3_secret_access_key,
            internal_key=secrets.s3_internal_key,
        )
        self._first_key = directory.first_key()
        self.environment = self._environment(secrets.cursor_secret)
        self.api = ApiPart(self._ports["api"], directory.log("api"), self.environment)
        self._workers = [
            WorkerPart(
                number, self._ports["temporal_http"], directory.log(f"worker-{number}"), self._worker_environment()
            )
            for number in range(1, self._worker_count + 1)
        ]

    def _environment(self, cursor_secret: str) -> dict[str, str]:
        """Variables with which any of our processes finds this stack."""
        directory = self.directory
        temporal_profile = directory.root / "temporal.toml"
        return {
            "INGATHER_DATA_DIR": str(directory.root),
            "INGATHER_API__HOST": LOOPBACK,
            "INGATHER_API__CURSOR_SECRET": cursor_secret,
            "INGATHER_AUTH__TOKEN_SECRET": hashlib.sha256(f"tokens {cursor_secret}".encode()).hexdigest(),
            _SOURCE_KEYS: os.environ.get(_SOURCE_KEYS) or _source_key(cursor_secret),
            _FIRST_KEY: os.environ.get(_FIRST_KEY) or self._first_key.registered,
            "INGATHER_S3__ENDPOINT_URL": self.s3.endpoint_url,
            "INGATHER_S3__REGION": self.s3.region,
            "INGATHER_S3__BUCKET": self.s3.bucket,
            "INGATHER_S3__ACCESS_KEY_ID": self.s3.access_key_id,
            "INGATHER_S3__SECRET_ACCESS_KEY": self.s3.secret_access_key,
            "INGATHER_REDIS__URL": self.redis.url,
            "INGATHER_CATALOG__URL": f"sqlite:///{directory.catalog}",
            "INGATHER_INDEX__URI": str(directory.index),
            "INGATHER_TEMPORAL_UI__URL": self.temporal.ui_url,
            "INGATHER_WORKER__SHUTDOWN_GRACE": f"PT{WORKER_GRACE_SECONDS}S",
            "TEMPORAL_ADDRESS": self.temporal.address,
            "TEMPORAL_NAMESPACE": temporal.NAMESPACE,
            "TEMPORAL_CONFIG_FILE": str(temporal_profile),
            # The C library keeps an arena a thread; two are enough, and halve the memory of search and workers.
            "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2"),
            "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), LOOPBACK, "localhost"))),
        }

    def _worker_environment(self) -> dict[str, str]:
        """Several workers share cores and memory, unless the settings say what each takes."""
        shares = {
            "INGATHER_WORKER__PARSER_PROCESSES": max(1, usable_cores() // self._worker_count),
            "INGATHER_WORKER__MEMORY_BYTES": usable_memory_bytes() // 8 // self._worker_count,
        }
        return {**self.environment, **{name: os.environ.get(name, str(share)) for name, share in shares.items()}}

    async def _start(self) -> None:
        write_private(
            Path(self.environment["TEMPORAL_CONFIG_FILE"]),
            f'[profile.default]\naddress = "{self.temporal.address}"\nnamespace = "{temporal.NAMESPACE}"\n',
        )
        self._write_stack_file()
        async with _first_failure() as together:
            together.create_task(self._supervisor.add(self.s3))
            await asyncio.gather(self._supervisor.add(self.temporal), self._supervisor.add(self.redis))
            # These two are needed to start at all. S3, slowest to come, and the catalog's schema, which the API
            # brings up to date, are there by the time our own processes have loaded; if not, activities try again.
            together.create_task(self._add_api())
            for worker in self._workers:
                together.create_task(self._supervisor.add(worker))
        await self._wait_ready()
        log.debug("stack.ready", data_dir=str(self.directory.root))

    async def _add_api(self) -> None:
        """Where nobody asked for its port, another stack that found the same one free and was quicker may keep it."""
        for _ in range(_PORT_TRIES):
            try:
                await self._supervisor.add(self.api)
            except (PortTakenError, PartFailedError):
                if self._wanted_api_port is not None or is_free(self.api.port):
                    raise
                log.warning("api.port_taken", port=self.api.port)
                self._ports["api"] = choose_api_port(None, None, set(self._ports.values()))
                self.api = replace(self.api, port=self._ports["api"])
            else:
                return
        raise PartFailedError(
            f"Ports were taken {_PORT_TRIES} times while the API was starting. Choose one with --port."
        )

    async def _wait_ready(self) -> None:
        body = b""

        async def answers() -> bool:
            nonlocal body
            status, body = await http_get(self.api.port, "/readyz")
            return status == 200

        try:
            async with asyncio.timeout(_READY_SECONDS):
                await until(answers)
        except TimeoutError:
            raise PartFailedError(f"The API does not get ready: {body.decode('utf-8', 'replace')[:1000]}") from None

    @property
    def first_key(self) -> str | None:
        """An administrator's API key, until ``first_key_was_shown``; None where the environment brings another's hash."""
        return None if os.environ.get(_FIRST_KEY) else self._first_key.key

    @property
    def first_key_shown_at(self) -> datetime | None:
        """When an earlier run showed the key that is in force; None where there is none to look for."""
        return None if os.environ.get(_FIRST_KEY) else self.directory.first_key_shown_at()

    def first_key_was_shown(self) -> None:
        """Forget it; only its hash is kept."""
        self.directory.first_key_was_shown(self._first_key)
        self._first_key = self.directory.first_key()

    def describe(self) -> dict[str, Any]:
        """Addresses, credentials, ports and process ids, as ``stack.json`` holds them."""
        return {
            "api": {"url": self.api.url},
            "temporal": {
                "address": self.temporal.address,
                "namespace": temporal.NAMESPACE,
                "ui_url": self.temporal.ui_url,
            },
            "s3": {
                "endpoint_url": self.s3.endpoint_url,
                "region": self.s3.region,
                "bucket": self.s3.bucket,
                "access_key_id": self.s3.access_key_id,
                "secret_access_key": self.s3.secret_access_key,
            },
            "redis": {"url": self.redis.url},
            "catalog": {"url": self.environment["INGATHER_CATALOG__URL"]},
            "index": {"uri": self.environment["INGATHER_INDEX__URI"]},
            "data_dir": str(self.directory.root),
            "ports": dict(self._ports),
            "workers": self._worker_count,
            "pids": self.pids,
        }

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by part, with our own as ``up``."""
        return {"up": os.getpid(), **self._supervisor.pids} if self._supervisor.pids else {}

    def _write_stack_file(self) -> None:
        self.directory.write_stack_file(self.describe())

    async def _shut_down(self) -> None:
        """API and workers first, then the servers, which lose nothing by being stopped last. Never interrupted."""
        try:
            stopping = asyncio.ensure_future(self._stop_parts())
            while not stopping.done():
                try:
                    await asyncio.shield(stopping)
                except asyncio.CancelledError:
                    if stopping.done():
                        raise
            stopping.result()
        finally:
            self._resources.close()

    async def _stop_parts(self) -> None:
        if not hasattr(self, "api"):
            return  # it never got as far as having parts
        await self._supervisor.stop([self.api.name, *(worker.name for worker in self._workers)])
        await self._supervisor.stop_all()


class _first_failure(asyncio.TaskGroup):  # noqa: N801 - reads as a verb at its one use
    """A task group that raises its first failure itself instead of a group of one."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None


def choose_api_port(wanted: int | None, previous: int | None, taken: set[int]) -> int:
    """The API's port; raises ``PortTakenError`` when the one asked for is in use."""
    if wanted is not None:
        if not is_free(wanted) or wanted in taken:
            raise PortTakenError(
                f"Port {wanted} is in use. Choose another with --port, or leave --port out to take a free one."
            )
        return wanted
    for candidate in (previous, DEFAULT_API_PORT):
        if candidate is not None and candidate not in taken and is_free(candidate):
            return candidate
    return choose_ports(["api"])["api"]


def _source_key(secret: str) -> str:
    """A key for credentials of connections, as secret as what it is made from and kept with that."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"sources {secret}".encode()).digest()).decode()

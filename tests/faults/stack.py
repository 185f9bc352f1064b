"""The embedded stack with something between it and its storage, and more processes than one of a kind."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from ingather.stack.local import LocalStack
from ingather.stack.ports import choose_ports
from ingather.stack.roots import ApiPart, WorkerPart
from tests.faults.s3_proxy import S3Proxy, Weather
from tests.support.running_stack import Visitor

PARTS = ("worker-1", "api", "temporal", "redis", "s3")


class BreakableStack(LocalStack):
    """A stack in this process, so that its parts can be added to, killed, frozen and cut off from storage."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, api_port=choose_ports(["api"])["api"])
        self._proxy_port = choose_ports(["proxy"])["proxy"]
        self.storage: S3Proxy
        self.struck_at: datetime | None = None
        """When the first accident happened since somebody set it to None."""
        self._visiting: httpx.AsyncClient

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        limits = httpx.Limits(max_connections=None)
        self._visiting = httpx.AsyncClient(
            base_url=self.api.url, timeout=httpx.Timeout(60, pool=120), limits=limits, trust_env=False
        )
        self.visitor = Visitor(self._visiting)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.visitor.leave()
        await self._visiting.aclose()
        await super().__aexit__(kind, error, trace)
        await self.storage.__aexit__(None, None, None)

    def _environment(self, cursor_secret: str) -> dict[str, str]:
        self.storage = S3Proxy(self._ports["s3_s3"], self._proxy_port)
        return super()._environment(cursor_secret) | {"INGATHER_S3__ENDPOINT_URL": self.storage.url}

    async def _start(self) -> None:
        await self.storage.__aenter__()
        await super()._start()

    async def is_whole(self, seconds: float = 90) -> None:
        """Wait until every part runs and says it is ready."""
        deadline = time.monotonic() + seconds
        while missing := set(PARTS) - set(self.pids):
            assert time.monotonic() < deadline, f"{', '.join(sorted(missing))} did not come back"
            await asyncio.sleep(0.05)
        await self._wait_ready()

    # --- Accidents --------------------------------------------------------------------------------

    def strikes(self) -> None:
        """The accident happens now."""
        self.struck_at = self.struck_at or datetime.now(UTC)

    def kill(self, part: str) -> None:
        """SIGKILL; the supervisor, and nobody else, brings it back."""
        os.kill(self.pids[part], signal.SIGKILL)
        self.strikes()

    async def is_back(self, part: str, restarts_before: int, seconds: float = 90) -> None:
        """Wait until the supervisor has started a part again."""
        deadline = time.monotonic() + seconds
        while self.restarts(part) <= restarts_before:
            assert time.monotonic() < deadline, f"{part} did not come back"
            await asyncio.sleep(0.05)

    def restarts(self, part: str) -> int:
        return self._supervisor.restarts[part]

    @asynccontextmanager
    async def second_worker(self) -> AsyncIterator[str]:
        """Another worker process with all roles, for as long as the block lasts; answers its name."""
        log_path = self.directory.log("worker-2")
        part = WorkerPart(2, self._ports["temporal_http"], log_path, self._worker_environment())
        await self._supervisor.add(part)
        try:
            yield part.name
        finally:
            await self._supervisor.stop([part.name])

    @asynccontextmanager
    async def second_api(self) -> AsyncIterator[ApiPart]:
        """Another API process, for as long as the block lasts."""
        port = choose_ports(["api-2"])["api-2"]
        part = replace(self.api, name="api-2", port=port, log_path=self.directory.log("api-2"))
        await self._supervisor.add(part)
        try:
            yield part
        finally:
            await self._supervisor.stop([part.name])

    @asynccontextmanager
    async def frozen(self, part: str) -> AsyncIterator[None]:
        """SIGSTOP for the block, SIGCONT after it: what a paused machine or a swapping one does."""
        pid = self.pids[part]
        os.kill(pid, signal.SIGSTOP)
        self.strikes()
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def stop_and_start(self, part: str) -> float:
        """SIGTERM, as a deploy does; answers how many seconds the process took to end."""
        pid, before, began = self.pids[part], self.restarts(part), time.monotonic()
        os.kill(pid, signal.SIGTERM)
        self.strikes()
        while self.pids.get(part) == pid:  # noqa: ASYNC110  # nobody could set an event
            await asyncio.sleep(0.02)
        took = time.monotonic() - began
        await self.is_back(part, before)
        return took

    @contextmanager
    def foul(self, weather: Weather) -> Iterator[None]:
        """Storage behaves like this for the block."""
        with self.storage.foul(weather):
            self.strikes()
            yield

    def log_of(self, part: str) -> str:
        return self.directory.log(part).read_text(encoding="utf-8")

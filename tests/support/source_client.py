"""A research tool that picks files from connected sources: contract D over HTTP and WebSocket, and nothing else."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.support.running_stack import Json, Visitor

ENDED = ("completed", "failed", "cancelled")


@dataclass
class SourceClient:
    """One user, with a folder of their own as a source."""

    visitor: Visitor
    user_id: str
    folder: Path
    connection_id: str

    @property
    def http(self) -> httpx.AsyncClient:
        return self.visitor.http

    def selection(self, *file_ids: str, **changes: Any) -> Json:
        return {
            "connection_id": self.connection_id,
            "source_type": "local_directory",
            "file_ids": list(file_ids),
        } | changes

    def write(self, count: int, tag: str, words: int = 200) -> list[str]:
        """Text files in the folder; answers their ids."""
        names = [f"{tag}-{number:03}.txt" for number in range(count)]
        for name in names:
            content = f"{name} of {self.user_id}. " + "The mirror is washed in spring. " * (words // 6)
            (self.folder / name).write_text(content)
        return names

    async def create(self, *selections: Json, status: int = 200, **body: Any) -> Json:
        wanted = {"user_id": self.user_id, "name": "Spectra", "file_selections": list(selections)} | body
        response = await self.http.post("/batch/jobs", json=wanted)
        assert response.status_code == status, response.text
        answer: Json = response.json()
        return answer

    async def read(self, job_id: str) -> Json:
        response = await self.visitor.get(f"/batch/jobs/{job_id}", params={"user_id": self.user_id})
        assert response.status_code == 200, response.text
        job: Json = response.json()
        return job

    async def control(self, job_id: str, action: str, status: int = 200, **more: Any) -> Json:
        body = {"user_id": self.user_id, "action": action, **more}
        response = await self.http.post(f"/batch/jobs/{job_id}/control", json=body)
        assert response.status_code == status, response.text
        answer: Json = response.json()
        return answer

    async def started(self, *selections: Json, **body: Any) -> str:
        """Id of a job that was created and told to start."""
        job = await self.create(*selections, **body)
        await self.control(job["job_id"], "start")
        return str(job["job_id"])

    async def until(self, job_id: str, condition: Callable[[Json], bool], seconds: float = 60) -> Json:
        deadline = time.monotonic() + seconds
        while not condition(job := await self.read(job_id)):
            assert time.monotonic() < deadline, job
            await asyncio.sleep(0.05)
        return job

    async def ended(self, job_id: str) -> Json:
        return await self.until(job_id, lambda job: job["status"] in ENDED)

    async def statistics(self) -> Json:
        response = await self.http.get("/batch/statistics", params={"user_id": self.user_id})
        assert response.status_code == 200, response.text
        found: Json = response.json()
        return found

    @asynccontextmanager
    async def socket(self, **query: str) -> AsyncIterator["JobSocketClient"]:
        """An open WebSocket for as long as the block lasts."""
        base = str(self.http.base_url).rstrip("/").replace("http", "ws", 1)
        address = f"{base}/batch/ws/{self.user_id}?{urlencode(query)}"
        async with connect(address, proxy=None, max_size=2**20) as connection:
            yield JobSocketClient(connection)


@dataclass
class JobSocketClient:
    """What one socket brings."""

    connection: ClientConnection
    messages: list[Json] = field(default_factory=list)

    async def next(self, seconds: float = 30) -> Json:
        found: Json = json.loads(await asyncio.wait_for(self.connection.recv(), seconds))
        self.messages.append(found)
        return found

    async def until(self, kind: str, **facts: object) -> Json:
        """The next message of a type whose job or file says so."""
        while True:
            found = await self.next()
            about = found.get("job") or found.get("file") or found
            if found["type"] == kind and all(about.get(name) == value for name, value in facts.items()):
                return found

    def files(self) -> list[tuple[str, str]]:
        """File and status, as they came."""
        return [(m["file"]["file_id"], m["file"]["status"]) for m in self.messages if m["type"] == "file_progress"]

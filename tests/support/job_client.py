"""A client of contract A, as its platform would write one: jobs, their streams, and the channel on Redis."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from tests.support.running_stack import File, Json, Visitor
from tests.support.watching import Seen, parse

JOBS = "/api/v1/batch/jobs"
OVER = {"completed", "failed", "cancelled"}


def documents(files: Sequence[File]) -> list[Json]:
    """Files as the contract takes them."""
    return [{"filename": name, "content": base64.b64encode(content).decode()} for name, content in files]


@dataclass
class JobClient:
    """Somebody who uses the contract for one tenant."""

    visitor: Visitor
    tenant_id: str

    async def create(self, sent: Sequence[Json], **fields: Any) -> Json:
        """The job, as the answer to its POST has it."""
        body = {"tenant_id": self.tenant_id, "documents": list(sent), **fields}
        response = await self.visitor.http.post(JOBS, json=body)
        assert response.status_code == 200, response.text
        job: Json = response.json()
        return job

    async def read(self, job_id: str) -> Json:
        response = await self.visitor.get(f"{JOBS}/{job_id}")
        assert response.status_code == 200, response.text
        job: Json = response.json()
        return job

    async def until(self, job_id: str, *statuses: str, seconds: float = 120) -> Json:
        """The job as soon as it has one of these statuses."""
        deadline = time.monotonic() + seconds
        while (job := await self.read(job_id))["status"] not in statuses:
            assert time.monotonic() < deadline, job
            await asyncio.sleep(0.05)
        return job

    async def ended(self, job_id: str) -> Json:
        return await self.until(job_id, *OVER)

    async def cancel(self, job_id: str) -> Json:
        response = await self.visitor.http.delete(f"{JOBS}/{job_id}")
        assert response.status_code == 200, response.text
        answer: Json = response.json()
        return answer

    async def frames(self, job_id: str, last_event_id: str | None = None) -> AsyncIterator[Seen]:
        """A stream's frames as they come, until the server closes it."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
        async with self.visitor.http.stream("GET", f"{JOBS}/{job_id}/stream", headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"].startswith("text/event-stream")
            kept = b""
            async for chunk in response.aiter_raw():
                whole, separator, kept = (kept + chunk).rpartition(b"\n\n")
                for frame in parse(whole + separator):
                    if frame.event:
                        yield frame

    async def stream(self, job_id: str, last_event_id: str | None = None, seconds: float = 120) -> list[Seen]:
        """A whole stream, which must end by itself."""
        async with asyncio.timeout(seconds):
            return [frame async for frame in self.frames(job_id, last_event_id)]


@dataclass
class Listener:
    """Somebody who subscribes to the channels of all jobs."""

    heard: dict[str, list[Json]] = field(default_factory=dict)
    """By job."""

    async def hears(self, job_id: str, *kinds: str, seconds: float = 60) -> list[Json]:
        """What was published for a job, as soon as one of these kinds was."""
        deadline = time.monotonic() + seconds
        while not {event["event_type"] for event in self.heard.get(job_id, [])} & set(kinds):
            assert time.monotonic() < deadline, self.heard.get(job_id)
            await asyncio.sleep(0.02)
        return self.heard[job_id]


@asynccontextmanager
async def listening(redis_url: str) -> AsyncIterator[Listener]:
    """Subscribed before the block begins."""
    listener = Listener()
    async with Redis.from_url(redis_url) as redis, redis.pubsub() as channels:
        await channels.psubscribe("job:events:*")

        async def listen() -> None:
            async for message in channels.listen():
                if message["type"] == "pmessage":
                    event = json.loads(message["data"])
                    assert message["channel"].decode() == f"job:events:{event['job_id']}"
                    listener.heard.setdefault(event["job_id"], []).append(event)

        task = asyncio.create_task(listen())
        try:
            yield listener
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

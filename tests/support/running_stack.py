"""A stack in another process, and a client that knows nothing but its addresses."""

import asyncio
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ingather.models.events import BATCH_END_EVENTS
from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.up import Up, running_up, wait_until_ready
from tests.support.watching import Watcher

Json = dict[str, Any]
File = tuple[str, bytes]
"""Name and content."""


@dataclass(frozen=True)
class RunningStack:
    """``ingather up``, seen from outside."""

    up: Up
    base_url: str
    """The API's; it stays the same when parts are restarted."""

    def pid(self, part: str) -> int:
        return int(self.up.facts()["pids"].get(part, 0))

    def kill(self, part: str) -> int:
        """SIGKILL; answers the process id that is no more."""
        pid = self.pid(part)
        assert pid, f"{part} is not running: it has not been started again yet"
        os.kill(pid, signal.SIGKILL)
        return pid

    async def is_back(self, part: str, killed_pid: int, seconds: float = 60) -> None:
        """Wait until the supervisor has started a part again; nobody else does anything."""
        deadline = time.monotonic() + seconds
        while self.pid(part) in (0, killed_pid):
            assert time.monotonic() < deadline, self.up.said()
            await asyncio.sleep(0.1)

    def rows_of(self, batch_id: str) -> list[Json]:
        """Every row the search index holds of a batch, read beside the running stack."""
        # LanceDB takes a second to import and most tests do not need it.
        import lancedb  # noqa: PLC0415

        connection = lancedb.connect(self.up.facts()["index"]["uri"])
        [name] = [name for name in connection.list_tables().tables if name.startswith(DEFAULT_TENANT_ID)]
        query = connection.open_table(name).search().where(f"batch_id = '{batch_id}'")
        rows: list[Json] = query.select(["id", "file_id", "ordinal"]).limit(1_000_000).to_list()
        return rows

    def temporal_calls(self, operation: str) -> int:
        """How often Temporal's frontend was asked for something, by its own metrics."""
        port = self.up.facts()["ports"]["temporal_metrics"]
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        line = rf'^service_requests{{[^}}]*operation="{operation}"[^}}]*service_name="frontend"[^}}]*}} (\S+)'
        return sum(int(float(count)) for count in re.findall(line, metrics, re.MULTILINE))

    @asynccontextmanager
    async def visitor(self) -> AsyncIterator["Visitor"]:
        """A client for as long as the block lasts."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self.base_url, timeout=httpx.Timeout(90, pool=120), limits=limits, trust_env=False
        ) as http:
            visitor = Visitor(http)
            try:
                yield visitor
            finally:
                await visitor.leave()


@contextmanager
def running_stack(data_dir: Path, *options: str, **variables: str) -> Iterator[RunningStack]:
    """A stack of one's own, ready, for as long as the block lasts."""
    with running_up(data_dir, *options, **variables) as up:
        facts = up.wait_ready()
        wait_until_ready(facts["api"]["url"])
        yield RunningStack(up, facts["api"]["url"])


def notes(count: int, tag: str, words: int = 300) -> list[File]:
    """Texts that nobody submitted before, the same ones for the same tag."""
    pick = random.Random(tag)
    vocabulary = ["dome", "mirror", "night", "star", "orbit", "lens", "sky", "cloud", tag]
    return [
        (f"{tag}-{number:04}.txt", f"Note {number} of {tag}. {' '.join(pick.choices(vocabulary, k=words))}".encode())
        for number in range(count)
    ]


@dataclass
class Visitor:
    """Somebody who uses the API, patient while a part of the service is away."""

    http: httpx.AsyncClient
    _watchers: list[Watcher] = field(default_factory=list)

    async def get(self, path: str, seconds: float = 90, **options: Any) -> httpx.Response:
        """GET, again and again while the service says or shows that it is not there."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                response = await self.http.get(path, **options)
                if response.status_code not in (500, 502, 503, 504) or time.monotonic() > deadline:
                    return response
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)

    async def post(self, path: str, content: Json | None = None, status: int = 202) -> Json:
        """POST of JSON, which must be answered with ``status``."""
        response = await self.http.post(path, json=content)
        assert response.status_code == status, response.text
        answer: Json = response.json()
        return answer

    async def submit(self, files: Sequence[File], **spec: Any) -> str:
        """Id of a new batch of these files, sent as a form."""
        parts: list[tuple[str, Any]] = [("files", file) for file in files]
        response = await self.http.post("/v1/batches", files=[*parts, ("spec", (None, json.dumps(spec)))])
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    async def batch(self, batch_id: str) -> Json:
        response = await self.get(f"/v1/batches/{batch_id}")
        assert response.status_code == 200, response.text
        batch: Json = response.json()
        counts = batch["counts"]
        assert counts["total"] == sum(count for name, count in counts.items() if name != "total"), counts
        return batch

    async def until(self, batch_id: str, condition: Callable[[Json], bool], seconds: float = 60) -> Json:
        """The batch as soon as a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition(batch := await self.batch(batch_id)):
            assert time.monotonic() < deadline, batch
            await asyncio.sleep(0.03)
        return batch

    async def ended(self, batch_id: str, seconds: float = 150) -> Json:
        """The batch at its end."""
        deadline = time.monotonic() + seconds
        while True:
            response = await self.get(f"/v1/batches/{batch_id}", headers={"Prefer": "wait=20"})
            batch: Json = response.json()
            if batch.get("ended_at"):
                return batch
            assert time.monotonic() < deadline, batch

    async def documents(self, batch_id: str, **filters: Any) -> list[Json]:
        """Every document of a batch, page by page."""
        found: list[Json] = []
        cursor: Json = {}
        while True:
            response = await self.get(f"/v1/batches/{batch_id}/documents", params={"limit": 200, **filters, **cursor})
            assert response.status_code == 200, response.text
            page = response.json()
            found += page["data"]
            if not page["has_more"]:
                return found
            cursor = {"cursor": page["next_cursor"]}

    async def report(self, batch_id: str) -> list[Json]:
        response = await self.get(f"/v1/batches/{batch_id}/report")
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.text.splitlines()]

    async def events(self, batch_id: str) -> list[Json]:
        """Every event of an ended batch, as JSON pages; the last of them comes a moment after its end."""
        deadline = time.monotonic() + 60
        while not (found := await self._events(batch_id)) or found[-1]["type"] not in BATCH_END_EVENTS:
            assert time.monotonic() < deadline, found[-1:]
            await asyncio.sleep(0.1)
        return found

    async def _events(self, batch_id: str) -> list[Json]:
        found: list[Json] = []
        after = "0"
        while True:
            response = await self.get(
                f"/v1/batches/{batch_id}/events",
                params={"after": after, "limit": 200},
                headers={"Accept": "application/json"},
            )
            assert response.status_code == 200, response.text
            page = response.json()
            found += page["data"]
            if not page["has_more"]:
                return found
            after = page["next_cursor"]

    async def search(self, question: str, **filters: Any) -> list[Json]:
        response = await self.get("/v1/search", params={"q": question, **filters})
        assert response.status_code == 200, response.text
        hits: list[Json] = response.json()["data"]
        return hits

    def watch(self, batch_id: str, last_seen: str | None = None) -> Watcher:
        """Follow a batch's stream in the background."""
        watcher = Watcher(self._frames(batch_id, last_seen))
        self._watchers.append(watcher)
        return watcher

    async def _frames(self, batch_id: str, last_seen: str | None) -> AsyncIterator[bytes]:
        """Whole frames as they come."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_seen} if last_seen is not None else {})
        async with self.http.stream("GET", f"/v1/batches/{batch_id}/events", headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            kept = b""
            async for chunk in response.aiter_raw():
                whole, separator, kept = (kept + chunk).rpartition(b"\n\n")
                if whole:
                    yield whole + separator

    async def leave(self) -> None:
        for watcher in self._watchers:
            await watcher.leave()


async def assert_counted_once(stack: RunningStack, visitor: Visitor, batch_id: str, count: int) -> None:
    """All of a batch is done, and every book says so: batch, catalog, report and search index."""
    batch = await visitor.ended(batch_id)
    nothing = {"pending": 0, "in_flight": 0, "failed": 0, "skipped": 0, "cancelled": 0}
    assert batch["counts"] == {"total": count, "done": count, **nothing}, batch
    assert (batch["status"], batch["indexed"]) == ("completed", count)

    documents = await visitor.documents(batch_id)
    assert [document["ordinal"] for document in documents] == list(range(count))
    assert {document["status"] for document in documents} == {"done"}
    report = await visitor.report(batch_id)
    assert [(line["ordinal"], line["status"]) for line in report] == [(n, "done") for n in range(count)]

    rows = await asyncio.to_thread(stack.rows_of, batch_id)
    assert len({row["id"] for row in rows}) == len(rows)
    assert Counter(row["file_id"] for row in rows) == {document["id"]: document["chunks"] for document in documents}


async def assert_told_once(visitor: Visitor, batch_id: str, count: int) -> None:
    """The history of an ended batch has every number and every document's end once, though nobody watched."""
    events = await visitor.events(batch_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    ends = [event["data"]["ordinal"] for event in events if event["type"] == "document.succeeded"]
    assert sorted(ends) == list(range(count))

"""Contract C's pipeline, sentence by sentence, against the running stack: stages, stream, Redis, results, retry."""

import asyncio
import csv
import io
import json
import random
import time
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from bench.sheet_desk import SheetDesk, open_desk
from bench.sheet_pages import cover, encoded, sheet
from ingather.models.sheets import UploadType
from tests.support.chunks import ChunkClient
from tests.support.running_stack import Json, RunningStack, Visitor
from tests.support.watching import parse
from tests.support.zips import zip_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BATCHES = "/api/batches"
PAGE = (310, 438)
EVENT_FIELDS = {
    "stage",
    "message",
    "progress_percentage",
    "sheets_total",
    "sheets_processed",
    "elapsed_seconds",
    "timestamp",
    "batch_id",
}
STAGES = [
    "extracting",
    "organizing_qr",
    "processing_sheets",
    "collecting_results",
    "generating_csv",
    "loading_database",
    "cleanup",
    "completed",
]


def page(seed: int, *codes: str) -> bytes:
    return encoded(sheet(random.Random(seed), PAGE, codes), "png")


def cover_page(code: str) -> bytes:
    return encoded(cover(code, PAGE), "png")


ARCHIVE = zip_of(
    {
        "scans/01.png": cover_page("14900113"),
        "scans/02.png": page(1),
        "scans/03.png": page(2),
        "scans/04.png": cover_page("14900114"),
        "scans/05.png": page(3),
        "scans/06.png": b"this was an image once",
        "__MACOSX/scans/._02.png": b"x",
        "list.txt": b"Scanned on Monday.",
    }
)


@pytest.fixture
async def desk(stack: RunningStack) -> AsyncIterator[SheetDesk]:
    async with open_desk(stack.up.facts()) as desk:
        yield desk


@pytest.fixture
async def redis(stack: RunningStack) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.up.facts()["redis"]["url"]) as client:
        yield client


async def watched(visitor: Visitor, batch_id: str, headers: dict[str, str] | None = None) -> list[tuple[str, Json]]:
    """A stream until the server closes it: names and data."""
    async with visitor.http.stream("GET", f"{BATCHES}/{batch_id}/stream", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        return await heard_on(response)


async def heard_on(response: httpx.Response) -> list[tuple[str, Json]]:
    """All that comes until the server closes the stream."""
    text = b"".join([chunk async for chunk in response.aiter_bytes()])
    return [(frame.event, frame.data) for frame in parse(text) if frame.event]


async def read(visitor: Visitor, batch_id: str, what: str) -> Json:
    response = await visitor.get(f"{BATCHES}/{batch_id}/{what}")
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


def by_stage(events: list[tuple[str, Json]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for _, data in events:
        found.setdefault(data["stage"], []).append(data["message"])
    return found


async def test_an_upload_goes_through_its_stages_to_a_table(
    visitor: Visitor, desk: SheetDesk, redis: Redis, stack: RunningStack
):
    """Names, order and fields of the events; the fall-backs; Redis; the results; the batch at `/v1`."""
    async with redis.pubsub() as channel:
        await channel.psubscribe("batch:*:progress")
        batch_id = await desk.hand_in([("monday.zip", ARCHIVE)], notes="Monday")
        events = await watched(visitor, batch_id)
        heard = []
        async with asyncio.timeout(20):
            while len(heard) < len(events):
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=1)
                if message and message["channel"] == f"batch:{batch_id}:progress".encode():
                    heard.append(json.loads(message["data"]))

    assert {name for name, _ in events[:-1]} == {"progress"}
    assert events[-1][0] == "complete"
    assert all(data.keys() >= EVENT_FIELDS for _, data in events)
    assert list(by_stage(events)) == STAGES
    told = by_stage(events)
    assert told["extracting"][-1] == "Extracted 6 files from ZIP"
    assert told["organizing_qr"] == [
        "Processing chunk 1/2: QR code 14900113",
        "Processing chunk 2/2: QR code 14900114",
        "Organized 4 sheets into 2 groups",
    ]
    assert told["processing_sheets"][-1] == "Progress: 4/4 tasks completed"
    assert told["collecting_results"][-1].startswith("Collected all 4 results in ")
    assert told["generating_csv"][-1] == "CSV generation complete: 4 sheets"
    assert told["loading_database"][-1] == "Database load completed: 4 sheets"
    assert told["cleanup"][-1] == "Batch cleanup completed"
    assert [type(data["elapsed_seconds"]) for _, data in events] == [int] * len(events)

    assert heard == [data for _, data in events]
    kept = await redis.lrange(f"batch:{batch_id}:progress:log", 0, -1)
    assert [json.loads(body) for body in kept] == heard
    assert json.loads(await redis.get(f"batch:{batch_id}:progress:current")) == heard[-1]
    assert 3500 < await redis.ttl(f"batch:{batch_id}:started_at") <= 3600

    status = await read(visitor, batch_id, "status")
    assert (status["status"], status["sheets_total"], status["sheets_processed"], status["sheets_failed"]) == (
        "completed",
        4,
        4,
        1,
    )
    progress = await read(visitor, batch_id, "progress")
    assert (progress["stage"], progress["status"], progress["progress_percentage"]) == ("completed", "completed", 100.0)

    table = await visitor.get(f"{BATCHES}/{batch_id}/results.csv")
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert [(row["filename"], row["group_code"], row["status"], row["error_code"]) for row in rows] == [
        ("02.png", "14900113", "done", ""),
        ("03.png", "14900113", "done", ""),
        ("05.png", "14900114", "done", ""),
        ("06.png", "14900114", "failed", "corrupt"),
    ]
    assert [row["file_id"] for row in rows] == [
        row["file_id"] for row in (await read(visitor, batch_id, "sheets"))["data"]
    ]
    batch = (await visitor.get(f"/v1/batches/{batch_id}")).json()
    assert (batch["pipeline"], batch["status"], batch["counts"]["failed"]) == ("sheets", "completed_with_failures", 1)

    again = await watched(visitor, batch_id)
    assert again == events


async def test_a_front_end_goes_all_the_way(visitor: Visitor):
    """Log in, send chunks, watch from the first of them to the end, download the table: by HTTP alone, with the form's token."""
    name = f"ada-{uuid.uuid4()}"
    await visitor.post("/v1/users", {"username": name, "password": "correct horse"}, status=201)
    login = await visitor.http.post("/api/auth/login", data={"username": name, "password": "correct horse"})
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    third = len(ARCHIVE) // 3
    chunks = [ARCHIVE[:third], ARCHIVE[third : 2 * third], ARCHIVE[2 * third :]]
    client = ChunkClient(visitor.http, chunks, filename=f"{uuid.uuid4()}.zip", headers=headers)
    batch_id = (await client.send(0)).headers["X-Batch-ID"]
    async with visitor.http.stream("GET", f"{BATCHES}/{batch_id}/stream", headers=headers) as response:
        assert response.status_code == 200
        await client.taken(2)
        assert (await client.taken(1))["batch_id"] == batch_id
        events = await heard_on(response)

    assert [event for event, _ in events if event != "progress"] == ["complete"]
    assert list(by_stage(events)) == ["uploading", *STAGES]
    assert [message.split("/")[0] for message in by_stage(events)["uploading"]] == ["Chunk 1", "Chunk 2", "Chunk 3"]
    table = await visitor.http.get(f"{BATCHES}/{batch_id}/results.csv", headers=headers)
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert [row["group_code"] for row in rows] == ["14900113", "14900113", "14900114", "14900114"]


async def test_a_retry_after_the_end_has_an_end_of_its_own(visitor: Visitor, desk: SheetDesk):
    """Through the batch's own controls; the results are those of the new end, and a stream has one end."""
    batch_id = await desk.hand_in([("2.png", b"broken"), ("1.png", page(1))], UploadType.IMAGES, task_id="12345678")
    first = await watched(visitor, batch_id)
    assert by_stage(first)["organizing_qr"][0] == "Processing chunk 1/1: task 12345678"
    await visitor.post(f"/v1/batches/{batch_id}/retry", {}, status=202)
    deadline = time.monotonic() + 120
    while (await read(visitor, batch_id, "progress")).get("retry_round") != 1:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    events = await watched(visitor, batch_id)

    assert [name for name, _ in events if name != "progress"] == ["complete"]
    assert events[-1][1]["retry_round"] == 1
    assert len((await visitor.get(f"{BATCHES}/{batch_id}/results.csv")).text.splitlines()) == 3


async def test_an_upload_that_cannot_be_unpacked_ends_in_one_error(visitor: Visitor, desk: SheetDesk):
    """It says why, in the stream and in the status."""
    batch_id = await desk.hand_in([("broken.zip", b"no archive at all")])
    events = await watched(visitor, batch_id)

    assert [name for name, _ in events if name != "progress"] == ["error"]
    assert "broken.zip" in events[-1][1]["error_details"]
    assert (await read(visitor, batch_id, "status"))["status"] == "failed"


async def test_an_unknown_batch_is_not_found(visitor: Visitor):
    """Wherever it is asked for."""
    for what in ("status", "progress", "stream", "results.csv"):
        response = await visitor.get(f"{BATCHES}/01900000-0000-7000-8000-000000000000/{what}")
        assert response.status_code == 404
        assert response.json() == {"detail": "Batch not found", "message": "Batch not found"}

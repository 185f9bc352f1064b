"""Contract A, "Handing documents on", sentence by sentence: over HTTP, Redis and the bucket."""

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from datetime import datetime

import boto3
import pytest
from redis.asyncio import Redis

from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.job_client import JobClient, documents
from tests.support.running_stack import File, Json, RunningStack, Visitor, notes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
async def client(visitor: Visitor) -> JobClient:
    """A platform whose own workers parse."""
    body = {"name": f"platform {time.monotonic_ns()}", "pipeline": "handoff"}
    return JobClient(visitor, (await visitor.post("/v1/tenants", body, status=201))["id"])


@pytest.fixture
async def redis(stack: RunningStack) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.up.facts()["redis"]["url"]) as client:
        yield client


@pytest.fixture
def bucket(stack: RunningStack):
    """Object by key, as any S3 client sees it."""
    facts = stack.up.facts()["s3"]
    s3 = boto3.client(
        "s3",
        endpoint_url=facts["endpoint_url"],
        aws_access_key_id=facts["access_key_id"],
        aws_secret_access_key=facts["secret_access_key"],
        region_name="us-east-1",
    )

    async def read(key: str) -> bytes:
        answer = await asyncio.to_thread(s3.get_object, Bucket=facts["bucket"], Key=key)
        return bytes(answer["Body"].read())

    return read


async def popped(redis: Redis, tenant_id: str, count: int) -> list[Json]:
    """What the platform's workers get with BRPOP."""
    found = []
    for _ in range(count):
        entry = await redis.brpop([f"tenant:{tenant_id}:queue:parse"], timeout=30)
        assert entry is not None, f"{len(found)} of {count} came"
        found.append(json.loads(entry[1]))
    return found


async def handed_on(client: JobClient, redis: Redis, files: list[File]) -> tuple[str, list[Json]]:
    """A job that has ended, and what its tenant's workers got."""
    job_id = (await client.create(documents(files)))["job_id"]
    entries = await popped(redis, client.tenant_id, len(files))
    assert (await client.ended(job_id))["status"] == "completed"
    return job_id, entries


async def test_each_document_is_written_to_the_bucket_at_its_key(client, redis, bucket):
    """raw/{tenant_id}/{file_id}/{sha256}: the document's own bytes, and nothing else's."""
    files = notes(3, "written", words=20)
    job_id, entries = await handed_on(client, redis, files)
    ids = {document["filename"]: document["id"] for document in await client.visitor.documents(job_id)}
    for name, content in files:
        key = f"raw/{client.tenant_id}/{ids[name]}/{hashlib.sha256(content).hexdigest()}"
        assert await bucket(key) == content
        assert key in {entry["storage_path"] for entry in entries}


async def test_an_entry_is_a_json_object_with_exactly_these_fields(client, redis):
    """file_id, batch_id, sha256, storage_path, tenant_id."""
    [(_, content)] = files = notes(1, "fields")
    job_id, [entry] = await handed_on(client, redis, files)
    sha256 = hashlib.sha256(content).hexdigest()
    [document] = await client.visitor.documents(job_id)
    assert entry == {
        "file_id": document["id"], "batch_id": job_id, "sha256": sha256, "tenant_id": client.tenant_id,
        "storage_path": f"raw/{client.tenant_id}/{document['id']}/{sha256}",
    }  # fmt: skip


async def test_it_is_pushed_once_per_document(client, redis):
    """With LPUSH: who takes from the other end gets every document once, and then nothing."""
    job_id, entries = await handed_on(client, redis, notes(25, "once", words=10))
    assert len({entry["file_id"] for entry in entries}) == 25
    assert await redis.llen(f"tenant:{client.tenant_id}:queue:parse") == 0
    # A retry finds nothing to do, and pushes nothing.
    await client.visitor.http.post(f"/v1/batches/{job_id}/retry")
    await asyncio.sleep(0.5)
    assert await redis.llen(f"tenant:{client.tenant_id}:queue:parse") == 0


async def test_an_audit_event_is_recorded(client, redis):
    """With exactly the published fields, once for each document."""
    job_id, [entry] = await handed_on(client, redis, notes(1, "audited"))
    filters = {"tenant_id": client.tenant_id, "event_type": "DOCUMENT_INGESTED", "resource_id": entry["file_id"]}
    [event] = (await client.visitor.get("/v1/audit", params=filters)).json()["data"]
    [document] = await client.visitor.documents(job_id)
    assert uuid.UUID(event.pop("event_id"))
    assert datetime.fromisoformat(event.pop("timestamp")).utcoffset() is not None
    assert event.pop("actor")
    assert event == {
        "tenant_id": client.tenant_id, "event_type": "DOCUMENT_INGESTED", "resource_type": "document",
        "resource_id": entry["file_id"], "details": {"filename": document["filename"]},
    }  # fmt: skip


async def test_pushing_again_after_a_lost_list_is_an_administrators_command(client, redis):
    """It pushes what the catalog has."""
    job_id, entries = await handed_on(client, redis, notes(4, "again", words=10))
    answer = await client.visitor.http.post(f"/v1/batches/{job_id}/push-again")
    assert answer.json()["pushed"] == 4
    again = await popped(redis, client.tenant_id, 4)
    assert sorted(again, key=str) == sorted(entries, key=str)


async def test_a_document_that_cannot_be_decoded_is_not_handed_on(client, redis):
    """It fails alone; its neighbours are pushed."""
    garbled = {"filename": "garbled.txt", "content": "this is *not* base64"}
    job = await client.create([garbled, *documents(notes(2, "beside", words=10))])
    assert len(await popped(redis, client.tenant_id, 2)) == 2
    ended = await client.ended(job["job_id"])
    assert (ended["status"], ended["processed_count"], ended["failed_count"]) == ("failed", 2, 1)
    assert await redis.llen(f"tenant:{client.tenant_id}:queue:parse") == 0


async def test_in_both_modes_raw_bytes_live_at_that_same_key(visitor, bucket):
    """A tenant whose documents are parsed here finds them there too, however many there are."""
    client = JobClient(visitor, DEFAULT_TENANT_ID)
    [(_, content)] = files = notes(1, "both modes")
    job_id = (await client.create(documents(files)))["job_id"]
    await client.ended(job_id)
    [document] = await visitor.documents(job_id)
    assert await bucket(f"raw/{DEFAULT_TENANT_ID}/{document['id']}/{hashlib.sha256(content).hexdigest()}") == content

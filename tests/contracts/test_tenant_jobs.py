"""Contract A, sentence by sentence, over HTTP against the running stack."""

import asyncio
import json
import shutil
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.examples import examples_of, fits, run_examples
from tests.support.job_client import JOBS, JobClient, Listener, documents, listening
from tests.support.running_stack import Json, RunningStack, Visitor, notes
from tests.support.watching import Seen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "tenant-jobs.md"
NOBODYS = "01900000-0000-7000-8000-000000000000"
FIELDS = {
    "job_id",
    "tenant_id",
    "status",
    "total_documents",
    "processed_count",
    "failed_count",
    "created_at",
    "updated_at",
    "collection",
    "priority",
}
EVENT_FIELDS = {"job_id", "event_type", "document_index", "filename", "message", "timestamp"}
DAMAGED = ("damaged.pdf", b"%PDF-1.7\nthe rest was lost on the way\n")
NOT_BASE64 = {"filename": "garbled.txt", "content": "this is *not* base64"}


@pytest.fixture
async def client(visitor: Visitor) -> JobClient:
    """A tenant of the test's own."""
    made = await visitor.post("/v1/tenants", {"name": f"platform {time.monotonic_ns()}"}, status=201)
    return JobClient(visitor, made["id"])


@pytest.fixture
async def listener(stack: RunningStack) -> AsyncIterator[Listener]:
    async with listening(stack.up.facts()["redis"]["url"]) as listener:
        yield listener


def told(frames: list[Seen]) -> list[Json]:
    """The job's events of a stream, without the last frame."""
    return [frame.data for frame in frames if frame.event == "progress"]


def kinds(events: list[Json]) -> list[str]:
    return [event["event_type"] for event in events]


# The job


async def test_post_is_200_with_the_batch_job(client: JobClient):
    """Every field of it, and the job is there under its id."""
    sent = documents(notes(2, "posted"))
    job = await client.create(sent, collection="papers", priority=7)
    assert set(job) >= FIELDS
    assert (job["tenant_id"], job["total_documents"]) == (client.tenant_id, 2)
    assert (job["collection"], job["priority"]) == ("papers", 7)
    assert job["status"] in {"pending", "processing"}
    assert uuid.UUID(job["job_id"]).version == 7
    assert (await client.read(job["job_id"]))["job_id"] == job["job_id"]


async def test_timestamps_are_utc_with_offset(client: JobClient):
    """Created before updated, both now."""
    began = datetime.now(UTC)
    job = await client.ended((await client.create(documents(notes(1, "moments"))))["job_id"])
    created, updated = (datetime.fromisoformat(job[name]) for name in ("created_at", "updated_at"))
    assert created.utcoffset() == updated.utcoffset() == timedelta(0)
    assert began < created < updated < datetime.now(UTC)


async def test_every_job_is_visible_under_its_id_at_our_own_door(client: JobClient):
    """With its documents, their metadata and their place in search."""
    [plain] = documents(notes(1, "visible-job"))
    job = await client.create([{**plain, "metadata": {"author": "Doe"}}])
    batch = await client.visitor.ended(job["job_id"])
    assert (batch["tenant_id"], batch["counts"]["done"]) == (client.tenant_id, 1)
    [document] = await client.visitor.documents(job["job_id"])
    assert (document["filename"], document["metadata"]) == (plain["filename"], {"author": "Doe"})
    headers = {"X-Tenant-ID": client.tenant_id}
    found = await client.visitor.get("/v1/search", params={"q": "note of visible-job"}, headers=headers)
    assert found.json()["data"][0]["batch_id"] == job["job_id"]


async def test_the_tenant_must_be_registered(visitor: Visitor):
    """Else 404 `{"detail": "Tenant not found"}`; what is no UUID is 422."""
    response = await visitor.http.post(JOBS, json={"tenant_id": NOBODYS, "documents": documents(notes(1, "lost"))})
    assert (response.status_code, response.json()) == (404, {"detail": "Tenant not found"})
    response = await visitor.http.post(JOBS, json={"tenant_id": "acme", "documents": documents(notes(1, "lost"))})
    assert response.status_code == 422


async def test_without_a_tenant_in_the_body_it_is_the_header_s_else_the_default_one(client: JobClient):
    """As in every contract, where the deployment is open."""
    body = {"documents": documents(notes(1, "no-tenant"))}
    named = await client.visitor.http.post(JOBS, json=body, headers={"X-Tenant-ID": client.tenant_id})
    assert named.json()["tenant_id"] == client.tenant_id
    assert (await client.visitor.http.post(JOBS, json=body)).json()["tenant_id"] == DEFAULT_TENANT_ID


async def test_priority_defaults_to_5_and_10_is_the_most_urgent(client: JobClient):
    """10, 9 are our 1; 8, 7 our 2; 6, 5 our 3; 4, 3 our 4; 2, 1 our 5; and each reads as it was sent."""
    assert (await client.create(documents(notes(1, "default-priority"))))["priority"] == 5
    ours = {}
    for priority in range(1, 11):
        job = await client.create(documents(notes(1, f"priority-{priority}")), priority=priority)
        assert (await client.read(job["job_id"]))["priority"] == priority
        ours[priority] = (await client.visitor.batch(job["job_id"]))["priority"]
    assert ours == {10: 1, 9: 1, 8: 2, 7: 2, 6: 3, 5: 3, 4: 4, 3: 4, 2: 5, 1: 5}


@pytest.mark.parametrize("priority", [0, 11, "high", 5.5])
async def test_a_priority_outside_is_422(client: JobClient, priority: object):
    """A list that says where, in the way of the framework the contract was written with."""
    body = {"tenant_id": client.tenant_id, "documents": documents(notes(1, "outside")), "priority": priority}
    response = await client.visitor.http.post(JOBS, json=body)
    assert response.status_code == 422
    [problem] = response.json()["detail"]
    assert problem["loc"] == ["body", "priority"]
    assert problem["msg"]
    assert problem["type"]


async def test_the_more_urgent_of_two_waiting_jobs_runs_first(client: JobClient):
    """Where a tenant has its places taken, the line goes by priority."""
    headers = {"X-Tenant-ID": client.tenant_id}
    limits = {"limits": {"max_concurrent_jobs": 1}}
    assert (await client.visitor.http.patch(f"/v1/tenants/{client.tenant_id}", json=limits)).status_code == 200
    blocker = await client.create(documents(notes(40, "blocker", words=2_000)))
    await client.until(blocker["job_id"], "processing")
    later = await client.create(documents(notes(1, "later")), priority=1)
    sooner = await client.create(documents(notes(1, "sooner")), priority=10)
    for job in (blocker, later, sooner):
        await client.ended(job["job_id"])
    began = {}
    for job in (later, sooner):
        batch = (await client.visitor.get(f"/v1/batches/{job['job_id']}", headers=headers)).json()
        began[job["job_id"]] = batch["started_at"]
    assert began[sooner["job_id"]] < began[later["job_id"]]


async def test_processed_and_failed_end_at_the_total(client: JobClient):
    """`processed_count` counts successes only, and never goes back."""
    job_id = (await client.create([*documents([*notes(20, "counted"), DAMAGED]), NOT_BASE64]))["job_id"]
    seen = [await client.read(job_id)]
    while seen[-1]["status"] not in {"completed", "failed"}:
        seen.append(await client.read(job_id))
    done = [job["processed_count"] for job in seen]
    assert done == sorted(done)
    assert {job["total_documents"] for job in seen} == {22}
    assert (seen[-1]["processed_count"], seen[-1]["failed_count"]) == (20, 2)


async def test_completed_when_no_document_failed_failed_when_at_least_one_did(client: JobClient):
    """One of three is enough."""
    good = await client.ended((await client.create(documents(notes(3, "all-good"))))["job_id"])
    bad = await client.ended((await client.create(documents([*notes(2, "one-bad"), DAMAGED])))["job_id"])
    assert (good["status"], good["failed_count"]) == ("completed", 0)
    assert (bad["status"], bad["failed_count"], bad["processed_count"]) == ("failed", 1, 2)


async def test_a_paused_batch_reads_processing(client: JobClient):
    """Also while it is pausing; and it goes on."""
    job_id = (await client.create(documents(notes(200, "paused-job", words=2_000))))["job_id"]
    await client.until(job_id, "processing")
    await client.visitor.post(f"/v1/batches/{job_id}/pause")
    await client.visitor.until(job_id, lambda batch: batch["status"] == "paused")
    assert (await client.read(job_id))["status"] == "processing"
    await client.visitor.post(f"/v1/batches/{job_id}/resume")
    assert (await client.ended(job_id))["status"] == "completed"


async def test_skipped_counts_as_processed(client: JobClient):
    """What the collection has already is a success, in the job and in its events."""
    sent = documents(notes(2, "skipped-job"))
    await client.ended((await client.create(sent))["job_id"])
    again = await client.ended((await client.create(sent))["job_id"])
    assert (again["status"], again["processed_count"]) == ("completed", 2)
    assert (await client.visitor.ended(again["job_id"]))["counts"]["skipped"] == 2
    assert kinds(told(await client.stream(again["job_id"]))) == ["start", "progress", "progress", "complete"]


async def test_an_unknown_job_is_404_with_its_text(client: JobClient):
    """GET, stream and DELETE; what cannot be an id as well."""
    for job_id in (NOBODYS, "no-uuid"):
        for path in (f"{JOBS}/{job_id}", f"{JOBS}/{job_id}/stream"):
            response = await client.visitor.http.get(path)
            assert (response.status_code, response.json()) == (404, {"detail": "Job not found"})
        response = await client.visitor.http.delete(f"{JOBS}/{job_id}")
        assert (response.status_code, response.json()) == (404, {"detail": "Job not found or not cancellable"})


async def test_another_tenants_job_is_unknown(client: JobClient):
    """Under the other tenant's header all three answer as for a made-up id."""
    job_id = (await client.create(documents(notes(1, "hidden"))))["job_id"]
    headers = {"X-Tenant-ID": DEFAULT_TENANT_ID}
    for path in (f"{JOBS}/{job_id}", f"{JOBS}/{job_id}/stream"):
        response = await client.visitor.http.get(path, headers=headers)
        assert (response.status_code, response.json()) == (404, {"detail": "Job not found"})
    response = await client.visitor.http.delete(f"{JOBS}/{job_id}", headers=headers)
    assert (response.status_code, response.json()) == (404, {"detail": "Job not found or not cancellable"})
    assert (await client.ended(job_id))["status"] == "completed"


# DELETE


async def test_delete_is_200_with_the_status_cancelled(client: JobClient):
    """The job has stopped when it is answered; a second DELETE is 404, for it has ended."""
    job_id = (await client.create(documents(notes(80, "deleted", words=2_000))))["job_id"]
    await client.until(job_id, "processing")
    assert await client.cancel(job_id) == {"status": "cancelled"}
    job = await client.read(job_id)
    assert job["status"] == "cancelled"
    assert job["processed_count"] + job["failed_count"] < job["total_documents"] == 80
    await client.visitor.ended(job_id)
    again = await client.visitor.http.delete(f"{JOBS}/{job_id}")
    assert (again.status_code, again.json()) == (404, {"detail": "Job not found or not cancellable"})


async def test_delete_of_a_job_that_has_ended_is_404(client: JobClient):
    """However it ended."""
    for sent in (documents(notes(1, "over")), [NOT_BASE64]):
        job_id = (await client.create(sent))["job_id"]
        await client.ended(job_id)
        response = await client.visitor.http.delete(f"{JOBS}/{job_id}")
        assert (response.status_code, response.json()) == (404, {"detail": "Job not found or not cancellable"})


# The stream


async def test_start_once_progress_for_each_success_fail_for_each_other_complete_once(client: JobClient):
    """In this order; each event has the contract's fields, and the frames' names are the contract's."""
    files = [*notes(6, "streamed"), DAMAGED]
    sent = [*documents(files), NOT_BASE64]
    job_id = (await client.create(sent))["job_id"]
    frames = await client.stream(job_id)

    assert [frame.event for frame in frames] == ["progress"] * (len(frames) - 1) + ["complete"]
    assert frames[-1].data == {"status": "failed"}
    events = told(frames)
    assert all(set(event) >= EVENT_FIELDS and event["job_id"] == job_id for event in events)
    assert (kinds(events)[0], kinds(events)[-1]) == ("start", "complete")
    assert Counter(kinds(events)) == {"start": 1, "progress": 6, "fail": 2, "complete": 1}
    assert events[-1]["message"] == "failed"
    about = {(e["event_type"], e["document_index"], e["filename"]) for e in events if e["document_index"] is not None}
    assert about == {("progress", n, files[n][0]) for n in range(6)} | {
        ("fail", 6, "damaged.pdf"),
        ("fail", 7, "garbled.txt"),
    }
    moments = [datetime.fromisoformat(event["timestamp"]) for event in events]
    assert all(moment.utcoffset() == timedelta(0) for moment in moments)


async def test_a_document_that_cannot_be_decoded_is_a_fail_event_and_stops_nobody(client: JobClient):
    """The job is taken, and the message says what is wrong."""
    job_id = (await client.create([NOT_BASE64, *documents(notes(1, "neighbour"))]))["job_id"]
    events = told(await client.stream(job_id))
    [failed] = [event for event in events if event["event_type"] == "fail"]
    assert (failed["document_index"], failed["filename"]) == (0, "garbled.txt")
    assert "base64" in failed["message"]
    job = await client.ended(job_id)
    assert (job["status"], job["processed_count"], job["failed_count"]) == ("failed", 1, 1)


async def test_filenames_are_the_clients_own(client: JobClient):
    """However they are written down here; the index tells two of one name apart."""
    names = ["../reports/Q1.txt", "Q1.txt", "Q1.txt"]
    sent = [{**document, "filename": name} for document, name in zip(documents(notes(3, "names")), names, strict=True)]
    events = told(await client.stream((await client.create(sent))["job_id"]))
    assert {e["document_index"]: e["filename"] for e in events if e["event_type"] == "progress"} == dict(
        enumerate(names)
    )


async def test_events_come_as_they_happen(client: JobClient):
    """The first success is seen while the job still runs."""
    job_id = (await client.create(documents(notes(60, "live", words=2_000))))["job_id"]
    status = None
    async for frame in client.frames(job_id):
        if status is None and frame.data.get("event_type") == "progress":
            status = (await client.read(job_id))["status"]
    assert status == "processing"


async def test_a_cancelled_job_says_cancel_once_and_no_complete(client: JobClient):
    """Then the frame `complete` with the status `cancelled`, and the connection closes."""
    job_id = (await client.create(documents(notes(80, "cancelled-job", words=2_000))))["job_id"]
    watching = asyncio.create_task(client.stream(job_id))
    await client.until(job_id, "processing")
    await client.cancel(job_id)
    for frames in (await watching, await client.stream(job_id)):
        count = Counter(kinds(told(frames)))
        assert (count["start"], count["cancel"], count["complete"], count["fail"]) == (1, 1, 0, 0)
        assert told(frames)[-1]["event_type"] == "cancel"
        assert (frames[-1].event, frames[-1].data) == ("complete", {"status": "cancelled"})


async def test_a_job_cancelled_while_it_waits_has_its_start_and_its_cancel(client: JobClient):
    """Nothing ran, and its stream is whole all the same."""
    limits = {"limits": {"max_concurrent_jobs": 1}}
    assert (await client.visitor.http.patch(f"/v1/tenants/{client.tenant_id}", json=limits)).status_code == 200
    blocker = (await client.create(documents(notes(40, "in-the-way", words=2_000))))["job_id"]
    await client.until(blocker, "processing")
    waiting = await client.create(documents(notes(3, "waiting")))
    assert (await client.read(waiting["job_id"]))["status"] == "pending"
    await client.cancel(waiting["job_id"])
    frames = await client.stream(waiting["job_id"])
    assert kinds(told(frames)) == ["start", "cancel"]
    assert frames[-1].data == {"status": "cancelled"}


async def test_a_stream_opened_after_the_end_replays_and_closes_the_same_way(client: JobClient):
    """Frame by frame what a watcher saw who was there all the time."""
    job_id = (await client.create(documents([*notes(5, "replayed"), DAMAGED])))["job_id"]
    live = await client.stream(job_id)
    assert await client.stream(job_id) == live
    assert await client.stream(job_id) == live


async def test_a_reconnect_goes_on_behind_the_last_event_id(client: JobClient):
    """Each cut anywhere gives the rest; after the last id there is nothing left, which stops a browser."""
    job_id = (await client.create(documents(notes(4, "resumed"))))["job_id"]
    frames = await client.stream(job_id)
    for position, frame in enumerate(frames[:-1]):
        assert await client.stream(job_id, frame.id) == frames[position + 1 :]
    over = await client.visitor.http.get(f"{JOBS}/{job_id}/stream", headers={"Last-Event-ID": frames[-1].id or ""})
    assert over.status_code == 204
    for unreadable in ("0", "yesterday", "999999"):
        assert await client.stream(job_id, unreadable) == frames


async def test_a_retried_job_ends_once_for_those_who_look_afterwards(client: JobClient):
    """A retry through our own door goes on behind the first end; the replay has one `complete`, the last."""
    job_id = (await client.create(documents([*notes(2, "retried"), DAMAGED])))["job_id"]
    await client.ended(job_id)
    await client.stream(job_id)
    await client.visitor.post(f"/v1/batches/{job_id}/retry")
    await client.visitor.until(job_id, lambda batch: batch["retry_round"] == 1 and batch["ended_at"] is not None)
    await client.visitor.ended(job_id)
    count = Counter(kinds(told(await client.stream(job_id))))
    assert (count["start"], count["progress"], count["complete"]) == (1, 2, 1)


# The channel


async def test_every_event_is_published_though_nobody_holds_a_stream_open(client: JobClient, listener: Listener):
    """On `job:events:{job_id}`: what a stream replays afterwards, each event once, in the same order."""
    job_id = (await client.create([*documents([*notes(10, "published"), DAMAGED]), NOT_BASE64]))["job_id"]
    heard = await listener.hears(job_id, "complete")
    await client.ended(job_id)
    await asyncio.sleep(1.5)
    assert heard == told(await client.stream(job_id))
    assert Counter(kinds(heard)) == {"start": 1, "progress": 10, "fail": 2, "complete": 1}


async def test_watchers_change_nothing_about_what_is_published(client: JobClient, listener: Listener):
    """Five streams of the contract's and five of our own: each event once, and all see the same."""
    job_id = (await client.create(documents(notes(30, "watched-job"))))["job_id"]
    streams = [asyncio.create_task(client.stream(job_id)) for _ in range(5)]
    ours = [client.visitor.watch(job_id) for _ in range(5)]
    heard = await listener.hears(job_id, "complete")
    for stream in streams:
        assert told(await stream) == heard
    for watcher in ours:
        await watcher.closes()
    await asyncio.sleep(1.5)
    assert Counter(kinds(heard)) == {"start": 1, "progress": 30, "complete": 1}


async def test_a_cancel_is_published(client: JobClient, listener: Listener):
    """Once, as the last of the job's events."""
    job_id = (await client.create(documents(notes(60, "cancel-published", words=2_000))))["job_id"]
    await listener.hears(job_id, "progress")
    await client.cancel(job_id)
    heard = await listener.hears(job_id, "cancel")
    await asyncio.sleep(1)
    assert (kinds(heard)[-1], Counter(kinds(heard))["cancel"]) == ("cancel", 1)
    assert "complete" not in kinds(heard)


async def test_batches_of_other_doors_are_not_published(client: JobClient, listener: Listener):
    """The channel is this contract's."""
    batch_id = await client.visitor.submit(notes(2, "other-door"))
    await client.visitor.ended(batch_id)
    await asyncio.sleep(1.5)
    assert batch_id not in listener.heard


# Large and odd requests


async def test_a_job_of_a_thousand_documents(client: JobClient, listener: Listener):
    """Every document once, in the counts, on the channel and in the replay."""
    job_id = (await client.create(documents(notes(1_100, "thousand", words=10))))["job_id"]
    heard = await listener.hears(job_id, "complete", seconds=200)
    job = await client.ended(job_id)
    assert (job["status"], job["processed_count"]) == ("completed", 1_100)
    assert sorted(e["document_index"] for e in heard if e["event_type"] == "progress") == list(range(1_100))
    assert told(await client.stream(job_id)) == heard


async def test_the_same_idempotency_key_is_the_same_job(client: JobClient):
    """A lost answer costs no second job."""
    body = {"tenant_id": client.tenant_id, "documents": documents(notes(1, "idempotent")), "priority": 9}
    headers = {"Idempotency-Key": f"key-{time.monotonic_ns()}"}
    first, again = [await client.visitor.http.post(JOBS, json=body, headers=headers) for _ in range(2)]
    assert first.json()["job_id"] == again.json()["job_id"]
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_errors_are_a_detail(client: JobClient):
    """No document, a body that is no JSON, a limit: each says what is wrong, in the contract's one field."""
    post = client.visitor.http.post
    answers = [
        await post(JOBS, json={"tenant_id": client.tenant_id, "documents": []}),
        await post(JOBS, content=b"{", headers={"Content-Type": "application/json"}),
        await post(JOBS, content=b"hello", headers={"Content-Type": "text/plain"}),
        await post(JOBS, json={"tenant_id": client.tenant_id, "documents": [{"filename": "a.txt"}]}),
    ]
    assert [answer.status_code for answer in answers] == [422, 400, 415, 422]
    assert all(set(answer.json()) == {"detail"} and answer.json()["detail"] for answer in answers)
    assert answers[3].json()["detail"][0]["loc"] == ["body", "documents", 0, "content"]


# Handing documents on, documentation


async def test_a_tenant_set_to_handoff_runs_its_jobs_with_that_pipeline(client: JobClient):
    """The others' run with `ingest`."""
    plain = (await client.create(documents(notes(1, "plain"))))["job_id"]
    assert (await client.visitor.batch(plain))["pipeline"] == "ingest"
    changed = await client.visitor.http.patch(f"/v1/tenants/{client.tenant_id}", json={"pipeline": "handoff"})
    assert changed.status_code == 200
    await asyncio.sleep(0.1)
    handed = (await client.create(documents(notes(2, "handed"))))["job_id"]
    assert (await client.visitor.batch(handed))["pipeline"] == "handoff"
    frames = await client.stream(handed)
    assert kinds(told(frames)) == ["start", "progress", "progress", "complete"]
    assert frames[-1].data == {"status": "completed"}


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the examples need curl and jq")
def test_each_example_of_the_documentation_runs(stack: RunningStack, tmp_path: Path):
    """In order, in one shell, in an empty folder; and each prints what the page shows."""
    examples = examples_of(PAGE)
    assert len(examples) >= 3
    for example, printed in run_examples(examples, tmp_path, INGATHER_URL=stack.base_url):
        if example.expected is not None:
            answer = json.loads(printed)
            assert fits(example.expected, answer), f"line {example.line}: the page shows another answer than {answer}"

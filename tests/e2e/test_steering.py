"""Batches steered and watched while they run, and run again afterwards."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from temporalio.client import Client

from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.running_stack import RunningStack, Visitor, assert_counted_once, notes
from tests.support.waiting import until_async

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BROKEN_PDF = b"%PDF-1.7\n" + b"\xff" * 500


async def temporal(stack: RunningStack) -> Client:
    return await Client.connect(stack.up.facts()["temporal"]["address"])


def bucket(stack: RunningStack) -> Any:
    """The stack's object storage, through somebody else's client."""
    facts = stack.up.facts()["s3"]
    resource = boto3.resource(
        "s3",
        endpoint_url=facts["endpoint_url"],
        region_name=facts["region"],
        aws_access_key_id=facts["access_key_id"],
        aws_secret_access_key=facts["secret_access_key"],
        config=Config(proxies={}),
    )
    return resource.Bucket(facts["bucket"])


async def test_what_reached_the_batch_is_on_record_without_the_api(stack: RunningStack, visitor: Visitor):
    """As when the API dies right after Temporal's answer: the batch has it recorded, under the name it came with."""
    batch_id = await visitor.submit(notes(60, "audited"), collection="audited")
    handle = (await temporal(stack)).get_workflow_handle(f"batch/{batch_id}")
    sent = {"request_id": "sent-and-died", "by": {"name": "ada", "credential": "key:abcd1234"}}
    await handle.execute_update("pause", sent)
    await handle.signal("resume_signal", {"request_id": "by-hand"})
    await visitor.ended(batch_id)

    events = (await visitor.get("/v1/audit", params={"resource_id": batch_id})).json()["data"]
    told = {event["event_type"]: (event["actor"], event["details"]) for event in events}
    assert told["BATCH_PAUSED"] == ("ada", {"credential": "key:abcd1234"})
    assert told["BATCH_RESUMED"] == ("temporal", {})


async def test_cancel_keeps_what_is_finished(stack: RunningStack, visitor: Visitor):
    """Work in flight stops within seconds; finished documents stay, counted, reported and searchable."""
    batch_id = await visitor.submit(notes(300, "cancelled"), collection="cancelled")
    await visitor.until(batch_id, lambda batch: batch["counts"]["done"] >= 60)
    began = time.monotonic()
    answer = await visitor.post(f"/v1/batches/{batch_id}/cancel")
    assert answer["status"] in ("cancelling", "cancelled")
    handle = (await temporal(stack)).get_workflow_handle(f"batch/{batch_id}")

    async def nothing_runs() -> bool | None:
        return not (await handle.describe()).raw_description.pending_activities or None

    await until_async(nothing_runs)
    assert time.monotonic() - began < 10

    batch = await visitor.ended(batch_id)
    done, cancelled = batch["counts"]["done"], batch["counts"]["cancelled"]
    assert (batch["status"], done + cancelled) == ("cancelled", 300)
    assert done >= 60
    assert cancelled > 0
    report = await visitor.report(batch_id)
    assert [line["ordinal"] for line in report] == list(range(300))
    statuses = [line["status"] for line in report]
    assert (statuses.count("done"), statuses.count("cancelled")) == (done, cancelled)
    finished = await visitor.documents(batch_id, status="done")
    assert [document["ordinal"] for document in finished] == [
        n for n, status in enumerate(statuses) if status == "done"
    ]
    rows = await asyncio.to_thread(stack.rows_of, batch_id)
    assert {row["file_id"] for row in rows} == {document["id"] for document in finished}
    last = finished[-1]
    hits = await visitor.search(f"Note {last['ordinal']} of cancelled", collection="cancelled", limit=50)
    assert last["id"] in {hit["document_id"] for hit in hits}


async def test_retry_by_code_goes_on_from_what_earlier_attempts_left(stack: RunningStack, visitor: Visitor):
    """A closed batch: only documents with that code run again, and none is parsed whose chunks are kept already."""
    # Too large for the worker to keep in its memory, and yet a small text.
    large = (
        "large.html",
        b"<html><body><!--" + b"ballast " * 2_200_000 + b"--><p>A large page about a comet.</p></body>",
    )
    options = {"skip_existing": False}
    earlier = await visitor.submit([large], options=options, collection="earlier")
    assert (await visitor.ended(earlier))["status"] == "completed"
    [parsed] = await visitor.documents(earlier)

    files = [large, ("broken.pdf", BROKEN_PDF), *notes(3, "retried")]
    batch_id = await visitor.submit(files, options=options, collection="retried", hold=True)
    await visitor.until(batch_id, lambda batch: batch["counts"]["total"] == len(files))
    store = bucket(stack)
    [upload] = [
        item.key
        for item in store.objects.filter(Prefix=f"uploads/{DEFAULT_TENANT_ID}/")
        if item.size == len(large[1]) and batch_holds(store, batch_id, item.key)
    ]
    store.Object(upload).delete()
    await visitor.post(f"/v1/batches/{batch_id}/start")
    batch = await visitor.ended(batch_id)
    assert batch["failures_by_code"] == {"blob_not_found": 1, "corrupt": 1}
    first = {document["filename"]: document for document in await visitor.documents(batch_id)}
    assert first["large.html"]["error"]["action"]

    store.put_object(Key=upload, Body=large[1])
    await visitor.post(f"/v1/batches/{batch_id}/retry", {"codes": ["blob_not_found"]})
    batch = await visitor.until(batch_id, lambda batch: batch["retry_round"] == 1 and batch["ended_at"])
    assert (batch["status"], batch["failures_by_code"]) == ("completed_with_failures", {"corrupt": 1})
    second = {document["filename"]: document for document in await visitor.documents(batch_id)}
    assert second["large.html"]["status"] == "done"
    assert second["large.html"]["chunks"] == parsed["chunks"] == 1
    assert "parsing" in parsed["timings"]
    assert not {"parsing", "chunking", "embedding"} & second["large.html"]["timings"].keys()
    untouched = [name for name in first if name != "large.html"]
    assert {name: second[name] for name in untouched} == {name: first[name] for name in untouched}
    assert [line["status"] for line in await visitor.report(batch_id)].count("failed") == 1


def batch_holds(store: Any, batch_id: str, key: str) -> bool:
    """Whether the batch's submission names an object."""
    [part] = store.objects.filter(Prefix=f"batches/{DEFAULT_TENANT_ID}/{batch_id}/submission/")
    submission = part.get()["Body"].read()
    return any((json.loads(line)["blob"] or {}).get("key") == key for line in submission.splitlines())


async def test_known_content_is_skipped_here_and_borrowed_elsewhere(stack: RunningStack, visitor: Visitor):
    """The same files again are skipped; in another collection they are done without being parsed, and found there."""
    files = notes(20, "known")
    first = await visitor.submit(files, collection="known-here")
    assert (await visitor.ended(first))["counts"]["done"] == 20

    second = await visitor.submit(files, collection="known-here")
    batch = await visitor.ended(second)
    assert (batch["status"], batch["counts"]["skipped"], batch["counts"]["done"]) == ("completed", 20, 0)
    originals = {document["id"] for document in await visitor.documents(first)}
    assert {document["duplicate_of"] for document in await visitor.documents(second)} == originals

    third = await visitor.submit(files, collection="known-there")
    await assert_counted_once(stack, visitor, third, 20)
    for document in await visitor.documents(third):
        assert not {"parsing", "chunking", "embedding"} & document["timings"].keys()
    hits = await visitor.search("Note 7 of known", collection="known-there", limit=30)
    assert {(hit["batch_id"], hit["collection"]) for hit in hits} == {(third, "known-there")}
    assert "known-0007.txt" in {hit["filename"] for hit in hits}
    assert len(await asyncio.to_thread(stack.rows_of, first)) == len(await asyncio.to_thread(stack.rows_of, third))


async def test_two_hundred_watchers_ask_temporal_what_one_does(stack: RunningStack, visitor: Visitor):
    """One query stream, whoever watches; and every watcher sees every event once, in order, without a gap."""

    async def watched_by(count: int) -> tuple[float, int]:
        """Queries a second, and in all, while ``count`` watch a batch from its first event to its last."""
        batch_id = await visitor.submit(notes(60, f"watched-by-{count}"), hold=True)
        await visitor.until(batch_id, lambda batch: batch["counts"]["total"] == 60)
        watchers = [visitor.watch(batch_id, "0") for _ in range(count)]
        for watcher in watchers:
            await watcher.sees("stream.open", seconds=60)
        calls, began = stack.temporal_calls("QueryWorkflow"), time.monotonic()
        await visitor.post(f"/v1/batches/{batch_id}/start")
        for watcher in watchers:
            await watcher.closes(120)
        seconds = time.monotonic() - began
        queries = stack.temporal_calls("QueryWorkflow") - calls
        for watcher in watchers:
            assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
            assert sorted(ordinal for kind, ordinal in watcher.documents if kind == "succeeded") == list(range(60))
            assert watcher.names[-1] == "stream.end"
        assert len({len(watcher.seqs) for watcher in watchers}) == 1
        return queries / seconds, queries

    rate_of_one, queries_of_one = await watched_by(1)
    rate_of_many, queries_of_many = await watched_by(200)
    assert queries_of_one > 0
    assert rate_of_many < 2 * rate_of_one + 1, (rate_of_one, rate_of_many)
    assert queries_of_many < 200


async def test_temporal_shows_what_runs_and_answers_questions_about_it(stack: RunningStack, visitor: Visitor):
    """A held batch waits; its activities carry file names; search attributes find it by state, tenant and failures."""
    client = await temporal(stack)
    files = [*notes(3, "visible"), ("broken.pdf", BROKEN_PDF)]
    batch_id = await visitor.submit(files, hold=True, name="A visible batch")
    held = await visitor.until(batch_id, lambda batch: batch["counts"]["total"] == 4)
    assert (held["status"], held["waiting_for"], held["counts"]["pending"]) == ("pending", "start", 4)
    assert held["links"]["temporal_ui"].startswith(stack.up.facts()["temporal"]["ui_url"])
    waiting = f"BatchState = 'pending' AND TenantId = '{DEFAULT_TENANT_ID}' AND DocumentsTotal = 4"
    assert await until_async(finds(client, waiting, batch_id))

    await visitor.post(f"/v1/batches/{batch_id}/start")
    assert (await visitor.ended(batch_id))["counts"]["failed"] == 1
    ended = f"BatchState = 'completed_with_failures' AND TenantId = '{DEFAULT_TENANT_ID}' AND DocumentsFailed = 1"
    assert await until_async(finds(client, ended, batch_id))
    summaries = {}
    async for event in client.get_workflow_handle(f"batch/{batch_id}").fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            shown = event.user_metadata.summary.data
            summaries[event.activity_task_scheduled_event_attributes.activity_id] = json.loads(shown) if shown else ""
    documents = {name: shown for name, shown in summaries.items() if name.startswith("doc-")}
    assert documents == {f"doc-{ordinal:07d}": name for ordinal, (name, _) in enumerate(files)}


def finds(client: Client, query: str, batch_id: str) -> Callable[[], Awaitable[bool | None]]:
    """Whether a visibility query answers with the batch; it may take a moment."""

    async def ask() -> bool | None:
        found = [workflow.id async for workflow in client.list_workflows(query)]
        return f"batch/{batch_id}" in found or None

    return ask

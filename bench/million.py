"""One batch of a million documents through the real server, its children played.  python -m bench.million [DOCUMENTS]

What is measured is the parent: its history, run by run, its worker's memory, and whether its counters are exact. The
children answer after one to three seconds for their documents (every tenth failed, every hundredth skipped), none at the
same moment as another, as real ones do: so each costs the parent what a real one costs. What a child costs by itself is
measured by ``bench.orchestration``, which runs real ones.
"""

import asyncio
import json
import resource
import sys
import time
import uuid
from collections import Counter
from contextlib import AsyncExitStack

import psutil
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowExecution
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.places import PlaceActivities
from ingather.domain.bitmap import decode_bitmap
from ingather.domain.ledger import Ledger
from ingather.models.batch import BatchSpec, SourceSlice
from ingather.models.document import DocumentStatus
from ingather.models.engine import CHUNK_WORKFLOW, IO_QUEUE, MANIFEST_QUEUE, SEARCH_ATTRIBUTES, WORKFLOW_QUEUE
from ingather.models.identity import DEFAULT_TENANT_ID, workflow_id_for
from ingather.models.messages import (
    BatchInput,
    BuildManifestInput,
    BuildManifestOutput,
    ChunkInput,
    ChunkOutput,
    FinishBatchInput,
    FinishBatchOutput,
    PlaceLimits,
)
from ingather.stack.binaries import TEMPORAL, find_binary
from workflows.batch import BatchWorkflow
from workflows.places import PlacesWorkflow
from workflows.runner import sandboxed_runner

MILLION = 1_000_000


def ends_as(ordinal: int) -> DocumentStatus:
    """How a played document ends."""
    if ordinal % 100 == 1:
        return DocumentStatus.SKIPPED
    return DocumentStatus.FAILED if ordinal % 10 == 0 else DocumentStatus.DONE


@workflow.defn(name=CHUNK_WORKFLOW)
class PlayedChunk:
    """A child that says how its documents ended, without running them."""

    @workflow.run
    async def run(self, chunk: ChunkInput) -> ChunkOutput:
        await workflow.sleep(1 + chunk.index * 37 % 100 / 60)
        ordinals = list(decode_bitmap(chunk.ordinals))
        ledger = Ledger(len(ordinals))
        for position, ordinal in enumerate(ordinals):
            status = ends_as(ordinal)
            ledger.move(position, status, "corrupt" if status is DocumentStatus.FAILED else None)
        return ChunkOutput(ledger=ledger.letters(), failures=ledger.failures())


@activity.defn(name="build_manifest")
async def build_manifest(request: BuildManifestInput) -> BuildManifestOutput:
    """As many as the batch may have."""
    count = request.max_documents
    upload = SourceSlice(name="upload", source_type="upload", first_ordinal=0, document_count=count)
    return BuildManifestOutput(document_count=count, page_count=-(-count // 1_000), sources=(upload,))


@activity.defn(name="finish_batch")
async def finish_batch(request: FinishBatchInput) -> FinishBatchOutput:
    """Look whether every document ended as it was played."""
    ledger = Ledger.load(request.closed.ledger, request.closed.failures)
    wrong = [ordinal for ordinal in range(len(ledger)) if ledger[ordinal] is not ends_as(ordinal)]
    assert not wrong, f"{len(wrong)} documents are counted wrongly, the first is {wrong[0]}"
    return FinishBatchOutput(report_key="report.jsonl")


async def run(document_count: int) -> None:
    """Run the batch and print what it took."""
    kinds = {"Keyword": SearchAttributeKey.for_keyword, "Int": SearchAttributeKey.for_int}
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(find_binary(TEMPORAL)),
        search_attributes=[kinds[kind](name) for name, kind in SEARCH_ATTRIBUTES.items()],
        data_converter=pydantic_data_converter,
        dev_server_log_level="error",
    )
    async with environment:
        limits = PlaceLimits(max_jobs=4, max_bytes=2**40)
        places = PlaceActivities(environment.client, limits)
        io = [finish_batch, places.request_place, places.check_holders]
        async with AsyncExitStack() as stack:
            workflows = [BatchWorkflow, PlayedChunk, PlacesWorkflow]
            for worker in (
                Worker(
                    environment.client,
                    task_queue=WORKFLOW_QUEUE,
                    workflows=workflows,
                    workflow_runner=sandboxed_runner(),
                ),
                Worker(environment.client, task_queue=IO_QUEUE, activities=io),
                Worker(environment.client, task_queue=MANIFEST_QUEUE, activities=[build_manifest]),
            ):
                await stack.enter_async_context(worker)
            await _measure(environment.client, document_count)


async def _measure(client: Client, document_count: int) -> None:
    batch_id = str(uuid.uuid4())
    spec = BatchSpec(
        batch_id=batch_id,
        tenant_id=DEFAULT_TENANT_ID,
        name="a million",
        submitted_count=document_count,
        max_documents=document_count,
    )
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    handle = await client.start_workflow(
        BatchWorkflow.run, BatchInput(spec=spec), id=workflow_id_for(batch_id), task_queue=WORKFLOW_QUEUE
    )
    summary = await handle.result()
    seconds = time.perf_counter() - began
    expected = Counter(ends_as(ordinal).value for ordinal in range(document_count))
    assert {name: getattr(summary.counts, name) for name in expected} == dict(expected)
    runs = await _runs(client, batch_id)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {
        "documents": document_count,
        "counted_exactly": dict(expected),
        "seconds": round(seconds, 1),
        "parent_events_by_run": [run.history_length for run in runs],
        "parent_bytes_by_run": [run.raw_info.history_size_bytes for run in runs],
        "worker_mib_before": before // 2**20,
        "worker_peak_mib": peak // 2**20,
    }
    print(json.dumps(figures, indent=2))


async def _runs(client: Client, batch_id: str) -> list[WorkflowExecution]:
    """The parent's runs, each but the last continued as new."""
    found = [run async for run in client.list_workflows(f"WorkflowId = '{workflow_id_for(batch_id)}'")]
    return sorted(found, key=lambda run: run.start_time)


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else MILLION))

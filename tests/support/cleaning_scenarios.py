"""Every way a cleaning of uploads ends as a short story, for recorded histories and their fingerprints."""

import uuid
from dataclasses import dataclass

from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHistory
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from ingather.models.engine import IO_QUEUE
from ingather.models.messages import CleanUploadsOutput
from workflows.runner import sandboxed_runner
from workflows.upload_cleaning import UploadCleaningWorkflow


@dataclass(frozen=True)
class CleaningScenario:
    """What the activity did; None where it could not."""

    output: CleanUploadsOutput | None

    @activity.defn(name="clean_uploads")
    async def clean_uploads(self) -> CleanUploadsOutput:
        if self.output is None:
            raise ApplicationError("object storage is away", type="storage_unavailable", non_retryable=True)
        return self.output


CLEANING_SCENARIOS: dict[str, CleaningScenario] = {
    "uploads_cleaned": CleaningScenario(CleanUploadsOutput(begun=1, removed=2, swept=3)),
    "uploads_not_cleaned": CleaningScenario(None),
}


async def play_cleaning(client: Client, scenario: CleaningScenario) -> list[WorkflowHistory]:
    """Clean once; answers the workflow's history."""
    queue = f"cleaning-{uuid.uuid4()}"
    async with (
        Worker(client, task_queue=queue, workflows=[UploadCleaningWorkflow], workflow_runner=sandboxed_runner()),
        Worker(client, task_queue=IO_QUEUE, activities=[scenario.clean_uploads]),
    ):
        handle = await client.start_workflow(UploadCleaningWorkflow.run, id=queue, task_queue=queue)
        try:
            await handle.result()
        except WorkflowFailureError:
            assert scenario.output is None
        return [await handle.fetch_history()]

"""The cleaning of uploads as Temporal runs it: by one schedule, kept by whoever comes."""

from temporalio import activity
from temporalio.client import ScheduleActionExecutionStartWorkflow
from temporalio.worker import Worker

from ingather.models.engine import IO_QUEUE, WORKFLOW_QUEUE
from ingather.models.messages import CleanUploadsOutput
from tests.support.waiting import until_async
from workflows.runner import sandboxed_runner
from workflows.upload_cleaning import SCHEDULE_ID, UploadCleaningWorkflow, keep_schedule


@activity.defn(name="clean_uploads")
async def clean_uploads() -> CleanUploadsOutput:
    return CleanUploadsOutput(begun=1, removed=2, swept=3)


async def test_a_schedule_that_workers_keep_runs_the_cleaning(client):
    """Made once however many workers start; a run does one activity and answers what it did."""
    await keep_schedule(client)
    handle = client.get_schedule_handle(SCHEDULE_ID)
    await handle.pause()
    await keep_schedule(client)
    assert (await handle.describe()).schedule.state.paused  # whoever paused it meant it
    async with (
        Worker(
            client,
            task_queue=WORKFLOW_QUEUE,
            workflows=[UploadCleaningWorkflow],
            workflow_runner=sandboxed_runner(),
        ),
        Worker(client, task_queue=IO_QUEUE, activities=[clean_uploads]),
    ):
        await handle.trigger()

        async def begun() -> str | None:
            actions = (await handle.describe()).info.recent_actions
            action = actions[0].action if actions else None
            return action.workflow_id if isinstance(action, ScheduleActionExecutionStartWorkflow) else None

        run = client.get_workflow_handle_for(UploadCleaningWorkflow.run, await until_async(begun))
        assert await run.result() == CleanUploadsOutput(begun=1, removed=2, swept=3)
    await handle.delete()

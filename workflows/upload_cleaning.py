"""The cleaning of uploads: every few minutes, by a schedule that workers keep.

What is promised. An upload that has all its chunks gets its batch though the process that took the last one died; one
that is never finished is removed with all its bytes once its time is over; and a finished one over tus once no batch
needs it. Runs do not overlap: one that takes long is waited for, and what it did not come to is the next one's.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.service import RPCError

with workflow.unsafe.imports_passed_through():
    from activities.uploads import UploadActivities
    from ingather.models.engine import UPLOAD_CLEANING_WORKFLOW, WORKFLOW_QUEUE
    from ingather.models.errors import EngineUnavailableError
    from ingather.models.messages import CleanUploadsOutput
    from workflows.options import CLEAN_UPLOADS

SCHEDULE_ID = "uploads/cleaning"
WORKFLOW_ID = "uploads/cleaning"
EVERY = timedelta(minutes=5)


@workflow.defn(name=UPLOAD_CLEANING_WORKFLOW)
class UploadCleaningWorkflow:
    @workflow.run
    async def run(self) -> CleanUploadsOutput:
        return await workflow.execute_activity_method(UploadActivities.clean_uploads, **CLEAN_UPLOADS)


async def keep_schedule(client: Client, every: timedelta = EVERY) -> None:
    """Have uploads cleaned from now on. A schedule that is there already is left as it is: somebody may have paused it.

    Raises ``EngineUnavailableError``.
    """
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(UploadCleaningWorkflow.run, id=WORKFLOW_ID, task_queue=WORKFLOW_QUEUE),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        # What was missed while nobody was there is made up for by the next run.
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=every),
    )
    try:
        await client.create_schedule(SCHEDULE_ID, schedule)
    except ScheduleAlreadyRunningError:
        return
    except RPCError as error:
        raise EngineUnavailableError("The workflow engine did not take the schedule.") from error

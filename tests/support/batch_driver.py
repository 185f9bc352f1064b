"""Batches of scripted documents on a real server: started, steered, opened again, cleaned up."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from temporalio.client import Client, WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.places import PlaceActivities
from ingather.models.batch import BatchProgress, BatchSpec, BatchState, BatchSummary
from ingather.models.engine import CPU_QUEUE, IO_QUEUE, MANIFEST_QUEUE, SOURCE_QUEUE, TEXT_QUEUE, WORKFLOW_QUEUE
from ingather.models.identity import DEFAULT_TENANT_ID, places_workflow_id_for, workflow_id_for
from ingather.models.messages import BatchInput, ControlAnswer, ControlRequest, PlaceLimits, RetryRequest
from tests.support.fake_activities import World
from tests.support.slow_accounts import SlowAccounts
from tests.support.waiting import until_async
from workflows.batch import BatchWorkflow
from workflows.chunk import ChunkWorkflow
from workflows.places import PlacesWorkflow
from workflows.runner import sandboxed_runner
from workflows.webhook_delivery import WebhookDeliveryWorkflow

HEARD_WITHIN = timedelta(seconds=0.25)
"""Cancellation travels with heartbeats."""

PLACES = PlaceLimits(max_jobs=4, max_bytes=1_000_000, check_seconds=0.5)

BatchHandle = WorkflowHandle[BatchWorkflow, BatchSummary]


def request() -> ControlRequest:
    return ControlRequest(request_id=uuid.uuid4().hex)


def retry(**filters: object) -> RetryRequest:
    return RetryRequest(request_id=uuid.uuid4().hex, **filters)


class BatchDriver:
    """One batch of one world."""

    def __init__(
        self,
        client: Client,
        world: World,
        tenant_id: str = DEFAULT_TENANT_ID,
        accounts: SlowAccounts | None = None,
    ) -> None:
        self.client = client
        self.accounts = accounts
        self.world = world
        self.batch_id = str(uuid.uuid4())
        self.tenant_id = tenant_id

    @property
    def handle(self) -> BatchHandle:
        return self.client.get_workflow_handle_for(BatchWorkflow.run, workflow_id_for(self.batch_id))

    def spec(self, **fields: object) -> BatchSpec:
        given = {"submitted_count": self.world.document_count} | fields
        return BatchSpec(batch_id=self.batch_id, tenant_id=self.tenant_id, name="test batch", **given)

    def input(self, **fields: object) -> BatchInput:
        return BatchInput(spec=self.spec(**fields))

    async def start(self, **fields: object) -> BatchHandle:
        """Start the batch; answers a handle that follows later runs."""
        await self.client.start_workflow(
            BatchWorkflow.run,
            self.input(**fields),
            id=workflow_id_for(self.batch_id),
            task_queue=WORKFLOW_QUEUE,
        )
        return self.handle

    async def reopen(self, message: RetryRequest, **fields: object) -> ControlAnswer:
        """Retry a batch that is closed."""
        return await self.client.execute_update_with_start_workflow(
            BatchWorkflow.retry,
            message,
            start_workflow_operation=WithStartWorkflowOperation(
                BatchWorkflow.run,
                BatchInput(spec=self.spec(**fields), reopen=True),
                id=workflow_id_for(self.batch_id),
                task_queue=WORKFLOW_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            ),
        )

    async def reaches(self, state: BatchState) -> BatchProgress:
        """Wait for a state; answers the progress that shows it."""

        async def there() -> BatchProgress | None:
            progress = await self.handle.query(BatchWorkflow.progress)
            return progress if progress.state is state else None

        return await until_async(there)

    async def clean_up(self) -> None:
        """Leave nothing running for the next test's workers to pick up."""
        for workflow_id in (workflow_id_for(self.batch_id), places_workflow_id_for(self.tenant_id)):
            try:
                await self.client.get_workflow_handle(workflow_id).terminate("the test is over")
            except RPCError:
                continue  # it ended by itself, or never began


@asynccontextmanager
async def workers(
    client: Client,
    world: World,
    *,
    sandbox: bool = False,
    limits: PlaceLimits = PLACES,
    slots: int = 100,
    accounts: SlowAccounts | None = None,
) -> AsyncIterator[None]:
    """The workers of a deployment around a world; ``slots`` documents are worked on at one time."""
    runner = sandboxed_runner() if sandbox else UnsandboxedWorkflowRunner()
    places = PlaceActivities(client, limits, accounts)
    async with AsyncExitStack() as stack:
        for worker in (
            Worker(
                client,
                task_queue=WORKFLOW_QUEUE,
                workflows=[BatchWorkflow, ChunkWorkflow, PlacesWorkflow, WebhookDeliveryWorkflow],
                workflow_runner=runner,
            ),
            Worker(
                client,
                task_queue=IO_QUEUE,
                activities=[*world.io_activities(), places.request_place, places.check_holders],
                max_heartbeat_throttle_interval=HEARD_WITHIN,
            ),
            Worker(
                client,
                task_queue=MANIFEST_QUEUE,
                activities=world.manifest_activities(),
                max_heartbeat_throttle_interval=HEARD_WITHIN,
            ),
            Worker(
                client,
                task_queue=CPU_QUEUE,
                activities=world.cpu_activities(),
                max_concurrent_activities=slots,
                max_heartbeat_throttle_interval=HEARD_WITHIN,
                disable_eager_activity_execution=True,
            ),
            Worker(
                client,
                task_queue=TEXT_QUEUE,
                activities=[world.process_text],
                max_heartbeat_throttle_interval=HEARD_WITHIN,
                disable_eager_activity_execution=True,
            ),
            Worker(
                client,
                task_queue=SOURCE_QUEUE,
                activities=world.cpu_activities(),
                max_heartbeat_throttle_interval=HEARD_WITHIN,
                disable_eager_activity_execution=True,
            ),
        ):
            await stack.enter_async_context(worker)
        yield


@asynccontextmanager
async def driven(
    client: Client,
    world: World,
    *,
    sandbox: bool = False,
    limits: PlaceLimits = PLACES,
    accounts: SlowAccounts | None = None,
) -> AsyncIterator[BatchDriver]:
    """Workers around a world and a driver for one batch in it."""
    driver = BatchDriver(client, world, accounts=accounts)
    async with workers(client, world, sandbox=sandbox, limits=limits, accounts=accounts):
        try:
            yield driver
        finally:
            await driver.clean_up()

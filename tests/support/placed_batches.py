"""The waiting line on a real server, with stand-ins for batches that only take their place and keep it until told."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from pydantic import BaseModel
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner

from activities.places import PlaceActivities
from ingather.models.batch import BatchSpec
from ingather.models.engine import IO_QUEUE, WORKFLOW_QUEUE
from ingather.models.identity import places_workflow_id_for, workflow_id_for
from ingather.models.messages import PlaceGranted, PlaceLimits, PlacesLine
from ingather.ports.accounts import Accounts
from tests.support.waiting import until_async
from workflows.place import Place
from workflows.places import PlacesWorkflow
from workflows.runner import sandboxed_runner

SOON = 0.5
"""Seconds between checks of the holders."""


class PlacedInput(BaseModel):
    spec: BatchSpec
    granted: bool = False
    deaf: bool = False
    """The first word of its place is lost."""
    patience_seconds: float = 60.0


@workflow.defn(sandboxed=False)
class PlacedWorkflow:
    """A batch without documents: it takes its place, keeps it until told, gives it back."""

    @workflow.init
    def __init__(self, placed: PlacedInput) -> None:
        patience = timedelta(seconds=placed.patience_seconds)
        self._place = Place(placed.spec, lambda: None, granted=placed.granted, patience=patience)
        self._is_deaf = placed.deaf
        self._ends = False
        self._renews = False

    @workflow.run
    async def run(self, placed: PlacedInput) -> None:
        try:
            await self._place.acquire()
            await workflow.wait_condition(lambda: self._ends or self._renews)
        except (ActivityError, asyncio.CancelledError):
            await self._place.release()
            raise
        if self._renews:
            workflow.continue_as_new(placed.model_copy(update={"granted": True}))
        await self._place.release()

    @workflow.signal
    def place_granted(self, granted: PlaceGranted) -> None:
        if self._is_deaf:
            self._is_deaf = False
        else:
            self._place.grant(granted)

    @workflow.signal
    def reprioritise(self, priority: int) -> None:
        self._place.reprioritise(priority)

    @workflow.signal
    def end(self) -> None:
        self._ends = True

    @workflow.signal
    def renew(self) -> None:
        self._renews = True

    @workflow.query
    def has_place(self) -> bool:
        return self._place.granted


class Tenant:
    """One tenant's batches and its line."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.tenant_id = str(uuid.uuid4())
        self.batches: list[str] = []

    @property
    def line(self) -> WorkflowHandle[PlacesWorkflow, None]:
        return self.client.get_workflow_handle_for(PlacesWorkflow.run, places_workflow_id_for(self.tenant_id))

    async def submit(self, *, batch_id: str | None = None, deaf: bool = False, patience: float = 60.0, **fields) -> str:
        """A new batch that asks for a place; or an ended one that is opened again."""
        batch_id = batch_id or str(uuid.uuid4())
        given = {"submitted_count": 1} | fields
        spec = BatchSpec(batch_id=batch_id, tenant_id=self.tenant_id, name="placed", **given)
        await self.client.start_workflow(
            PlacedWorkflow.run,
            PlacedInput(spec=spec, deaf=deaf, patience_seconds=patience),
            id=workflow_id_for(batch_id),
            task_queue=WORKFLOW_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )
        self.batches.append(batch_id)
        return batch_id

    def batch(self, batch_id: str) -> WorkflowHandle[PlacedWorkflow, None]:
        return self.client.get_workflow_handle_for(PlacedWorkflow.run, workflow_id_for(batch_id))

    async def runs(self, batch_id: str, *, seconds: float = 60.0) -> None:
        """Wait until a batch has its place."""
        await self._until(batch_id, True, seconds=seconds)

    async def waits(self, batch_id: str, behind: int) -> None:
        """Wait until a batch is known to the line with ``behind`` others in it."""

        async def there() -> bool | None:
            seen = await self.seen()
            return True if seen is not None and seen.waiting == behind + 1 else None

        await until_async(there)
        assert not await self.batch(batch_id).query(PlacedWorkflow.has_place)

    async def ends(self, batch_id: str) -> None:
        await self.batch(batch_id).signal(PlacedWorkflow.end)
        await self.batch(batch_id).result()

    async def runs_and_ends(self, batch_id: str) -> None:
        """Wait for a batch's turn, and end it."""
        await self.runs(batch_id)
        await self.ends(batch_id)

    async def seen(self) -> PlacesLine | None:
        """What the line answers; None before it is there."""
        try:
            return await self.line.query(PlacesWorkflow.line)
        except RPCError:
            return None

    async def _until(self, batch_id: str, wanted: bool, *, seconds: float = 60.0) -> None:
        async def there() -> bool | None:
            return True if await self.batch(batch_id).query(PlacedWorkflow.has_place) is wanted else None

        await until_async(there, seconds)

    async def clean_up(self) -> None:
        """Leave nothing running for the next test's workers to pick up."""
        for workflow_id in [*map(workflow_id_for, self.batches), places_workflow_id_for(self.tenant_id)]:
            try:
                await self.client.get_workflow_handle(workflow_id).terminate("the test is over")
            except RPCError:
                continue  # it ended by itself, or never began


@asynccontextmanager
async def placed(
    client: Client,
    *,
    max_jobs: int = 1,
    max_bytes: int = 1_000,
    sandbox: bool = False,
    check_seconds: float = SOON,
    accounts: Accounts | None = None,
) -> AsyncIterator[Tenant]:
    """Workers, and a tenant whose line has these limits."""
    runner = sandboxed_runner() if sandbox else None
    tenant = Tenant(client)
    limits = PlaceLimits(max_jobs=max_jobs, max_bytes=max_bytes, check_seconds=check_seconds)
    async with workers_of(client, limits, runner, accounts):
        try:
            yield tenant
        finally:
            await tenant.clean_up()


@asynccontextmanager
async def workers_of(
    client: Client, limits: PlaceLimits, runner: WorkflowRunner | None = None, accounts: Accounts | None = None
) -> AsyncIterator[None]:
    """The two workers that places need."""
    places = PlaceActivities(client, limits, accounts)
    async with AsyncExitStack() as stack:
        for worker in (
            Worker(
                client,
                task_queue=WORKFLOW_QUEUE,
                workflows=[PlacesWorkflow, PlacedWorkflow],
                workflow_runner=runner or UnsandboxedWorkflowRunner(),
            ),
            Worker(
                client,
                task_queue=IO_QUEUE,
                activities=[places.request_place, places.check_holders],
            ),
        ):
            await stack.enter_async_context(worker)
        yield

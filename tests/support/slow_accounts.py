"""Accounts that take their time, so that a batch is still asking for its place when something happens to it."""

import asyncio

from temporalio.client import WorkflowHandle

from ingather.adapters.memory.accounts import InMemoryAccounts
from ingather.models.accounts import Tenant
from tests.support.waiting import until_async

_TOLD_TO_STOP = "activity_task_cancel_requested_event_attributes"


class SlowAccounts(InMemoryAccounts):
    """The catalog takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = False
        self.answers = asyncio.Event()

    async def get_tenant(self, tenant_id: str) -> Tenant | None:
        self.is_asked = True
        await self.answers.wait()
        return await super().get_tenant(tenant_id)


async def hears_cancel(handle: WorkflowHandle[object, object]) -> None:
    """Wait until a workflow has taken note of its cancel while an activity of its is under way."""

    async def noted() -> bool | None:
        events = (await handle.fetch_history()).events
        return True if any(event.HasField(_TOLD_TO_STOP) for event in events) else None

    await until_async(noted)

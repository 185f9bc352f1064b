"""Log lines of activities: which batch they are about."""

import dataclasses
from typing import Any, cast

import pytest
import structlog
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.log_context import LogContext

BATCH = "01900000-0000-7000-8000-000000000001"


class Innermost(ActivityInboundInterceptor):
    def __init__(self) -> None:
        """The end of the chain."""

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        return structlog.contextvars.get_contextvars()


@pytest.mark.parametrize(
    ("workflow_id", "bound"),
    [
        (f"batch/{BATCH}", {"batch_id": BATCH}),
        (f"batch/{BATCH}/3/r1", {"batch_id": BATCH}),
        (f"places/{BATCH}", {}),
    ],
)
async def test_an_activity_is_bound_to_its_batch(workflow_id, bound):
    """The batch's own activities, those of its children, and none of other workflows."""
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, workflow_id=workflow_id)
    chain = LogContext().intercept_activity(Innermost())

    async def run() -> Any:
        return await chain.execute_activity(cast(ExecuteActivityInput, None))

    structlog.contextvars.clear_contextvars()
    assert await environment.run(run) == bound

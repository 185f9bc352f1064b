"""Which batch a log line is about: bound once for each activity, so that no line has to be told."""

from typing import Any

import structlog
from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from ingather.models.identity import batch_id_of_workflow


class LogContext(Interceptor):
    """Lines that are written in an activity, by whatever library, carry its batch."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002  # the library's word
        return _Bound(super().intercept_activity(next))


class _Bound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002  # the library's word
        batch_id = batch_id_of_workflow(activity.info().workflow_id or "")
        if batch_id is not None:
            # Each activity is a task of its own, so nothing has to be unbound, and the library's own lines
            # about how the activity ended have it too.
            structlog.contextvars.bind_contextvars(batch_id=batch_id)
        return await super().execute_activity(input)

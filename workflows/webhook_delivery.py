"""One event on its way to one endpoint.

The story. Try at once; after each attempt that fails wait as long as the schedule says, or as the receiver asked,
and try again: ten attempts in three days, each an activity that writes down how it went.

What is promised. It ends with the first attempt that is answered with 2xx, with the last of the schedule, with a 410,
or when the endpoint is switched off or deleted. Every attempt carries the same event id.

What survives. Everything: which attempt is next is this workflow's history. What is sent, to whom and signed with what
the catalog knows; here are ids alone. It is named after the delivery, so that an event that is told twice is sent once.
It never continues as new and takes no messages.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import Priority

with workflow.unsafe.imports_passed_through():
    from activities.webhooks import WebhookActivities
    from ingather.domain.webhooks import PAUSES, pause_before
    from ingather.models.engine import WEBHOOK_DELIVERY_WORKFLOW
    from ingather.models.messages import AttemptDeliveryInput, AttemptDeliveryOutput, DeliveryInput
    from ingather.models.webhook import DeliveryStatus
    from workflows.options import DELIVERY

WAITS = "until the next attempt"
"""The timer's name in the Temporal UI."""


@workflow.defn(name=WEBHOOK_DELIVERY_WORKFLOW)
class WebhookDeliveryWorkflow:
    @workflow.run
    async def run(self, delivery: DeliveryInput) -> DeliveryStatus:
        for number in range(1, len(PAUSES) + 1):
            attempt = await self._attempt(delivery, number)
            if attempt.status is not DeliveryStatus.PENDING or attempt.pause_seconds is None:
                return attempt.status
            await workflow.sleep(timedelta(seconds=attempt.pause_seconds), summary=WAITS)
        return DeliveryStatus.FAILED

    async def _attempt(self, delivery: DeliveryInput, number: int) -> AttemptDeliveryOutput:
        pause = pause_before(number + 1, workflow.random())
        return await workflow.execute_activity_method(
            WebhookActivities.attempt_delivery,
            AttemptDeliveryInput(
                delivery=delivery, number=number, pause_seconds=None if pause is None else pause.total_seconds()
            ),
            activity_id=f"attempt-{number}",
            summary=f"attempt {number} of {len(PAUSES)}",
            priority=Priority(priority_key=3, fairness_key=delivery.tenant_id),
            **DELIVERY,
        )

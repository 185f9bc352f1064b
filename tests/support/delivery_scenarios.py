"""Every path of an event to an endpoint as a short story, for recorded histories and their fingerprints."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from temporalio import activity
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from ingather.models.engine import WEBHOOK_QUEUE
from ingather.models.identity import DEFAULT_TENANT_ID, delivery_workflow_id_for
from ingather.models.messages import AttemptDeliveryInput, AttemptDeliveryOutput, DeliveryInput
from ingather.models.webhook import DeliveryStatus
from workflows.webhook_delivery import WebhookDeliveryWorkflow


@dataclass
class DeliveryScenario:
    """How each attempt ends; the pauses are too short to be waited for."""

    outcome: Callable[[AttemptDeliveryInput], DeliveryStatus]
    attempts: list[AttemptDeliveryInput] = field(default_factory=list)

    @activity.defn(name="attempt_delivery")
    async def attempt_delivery(self, request: AttemptDeliveryInput) -> AttemptDeliveryOutput:
        self.attempts.append(request)
        status = self.outcome(request)
        is_over = status is not DeliveryStatus.PENDING or request.pause_seconds is None
        return AttemptDeliveryOutput(status=status, pause_seconds=None if is_over else 0.01)


def succeeds_at(number: int) -> DeliveryScenario:
    """Every attempt before fails."""
    return DeliveryScenario(
        lambda request: DeliveryStatus.SUCCEEDED if request.number == number else DeliveryStatus.PENDING
    )


def never_succeeds() -> DeliveryScenario:
    """To the end of the schedule."""
    return DeliveryScenario(
        lambda request: DeliveryStatus.FAILED if request.pause_seconds is None else DeliveryStatus.PENDING
    )


DELIVERY_SCENARIOS: dict[str, Callable[[], DeliveryScenario]] = {
    "delivery_at_once": lambda: succeeds_at(1),
    "delivery_third_time": lambda: succeeds_at(3),
    "delivery_given_up": never_succeeds,
}


async def play_delivery(client: Client, scenario: DeliveryScenario) -> list[WorkflowHistory]:
    """Deliver one event; answers the workflow's history."""
    queue, delivery_id = f"deliveries-{uuid.uuid4()}", str(uuid.uuid4())
    delivery = DeliveryInput(tenant_id=DEFAULT_TENANT_ID, webhook_id=str(uuid.uuid4()), delivery_id=delivery_id)
    async with (
        Worker(
            client,
            task_queue=queue,
            workflows=[WebhookDeliveryWorkflow],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
        Worker(client, task_queue=WEBHOOK_QUEUE, activities=[scenario.attempt_delivery]),
    ):
        handle = await client.start_workflow(
            WebhookDeliveryWorkflow.run, delivery, id=delivery_workflow_id_for(delivery_id), task_queue=queue
        )
        await handle.result()
        return [await handle.fetch_history()]

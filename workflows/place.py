"""A batch's side of its place: ask, wait to be told, give it back."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.places import PlaceActivities
    from ingather.models.batch import BatchSpec
    from ingather.models.engine import PLACES_RELEASE
    from ingather.models.identity import places_workflow_id_for
    from ingather.models.messages import PlaceEntry, PlaceGranted, PlaceHolder, RequestPlaceInput
    from workflows.options import REQUEST_PLACE

FIRST_PATIENCE = timedelta(minutes=1)
LONGEST_PATIENCE = timedelta(hours=1)
"""How long a batch waits before it asks again: a lost word, or a line that was terminated, is made good by it."""

ASKS_AGAIN = "until it asks for its place again"
"""The timer's name in the Temporal UI."""
_CANCEL_HOLDS = "a cancel holds while a place is asked for"
"""The change since which it does: a batch that was cancelled just then ran all the same."""


class Place:
    """One batch's place in the tenant's line.

    Args:
        spec: whose place it is, and how many bytes it counts for.
        on_change: called when the place is granted.
        needed: False where the batch's pipeline takes no place: it has all it needs from the start.
        granted: an earlier run of this batch had it already.
        patience: how long to wait before asking again; it doubles up to an hour.
    """

    def __init__(
        self,
        spec: BatchSpec,
        on_change: Callable[[], None],
        *,
        needed: bool = True,
        granted: bool = False,
        patience: timedelta = FIRST_PATIENCE,
    ) -> None:
        self.granted = granted or not needed
        self._patience = patience
        self.submitted_bytes = spec.submitted_bytes
        """Of an open batch they are known when it is sealed; set before asking."""
        self._spec = spec
        self._on_change = on_change
        self._priority = spec.priority
        self._asked_at: datetime | None = None
        self._asked_priority = spec.priority
        self._asking: workflow.ActivityHandle[None] | None = None
        self._is_needed = needed
        self._may_be_known = granted and needed
        """The line may have this batch in it."""

    def ask(self) -> None:
        """Stand in line without waiting for anything; the same again changes nothing."""
        if not self.granted and self._asking is None:
            self._ask()

    async def acquire(self) -> None:
        """Return when the batch has its place."""
        self.ask()
        while not self.granted:
            await self._heard()
            try:
                await workflow.wait_condition(
                    lambda: self.granted or self._priority != self._asked_priority,
                    timeout=self._patience,
                    timeout_summary=ASKS_AGAIN,
                )
            except TimeoutError:
                self._patience = min(self._patience * 2, LONGEST_PATIENCE)
            if not self.granted:
                self._ask()
        await self._heard()

    def grant(self, granted: PlaceGranted) -> None:
        """The place is this batch's, unless the word was meant for an earlier life or an earlier request of it."""
        if granted.chain_id == _chain_id() and self._asking is not None and not self.granted:
            self.granted = True
            self._on_change()

    def reprioritise(self, priority: int) -> None:
        """Move in the line; ``acquire`` tells it."""
        self._priority = priority

    async def release(self) -> None:
        """Give it back, or leave the line; safe to repeat. ``acquire`` takes one again."""
        if not self._is_needed:
            return
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
        await self._settled()
        self._asking = self._asked_at = None
        self.granted = False
        if not self._may_be_known:
            return
        line = workflow.get_external_workflow_handle(places_workflow_id_for(self._spec.tenant_id))
        holder = PlaceHolder(batch_id=self._spec.batch_id, chain_id=_chain_id())
        try:
            await line.signal(PLACES_RELEASE, holder)
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            # There is no line any more, so there is no place to give back.
        # Only now: a cancel in the middle leaves it to be said again.
        self._may_be_known = False

    def _ask(self) -> None:
        self._asked_at = self._asked_at or workflow.now()
        self._asked_priority = self._priority
        self._may_be_known = True
        spec = self._spec
        self._asking = workflow.start_activity_method(
            PlaceActivities.request_place,
            RequestPlaceInput(
                tenant_id=spec.tenant_id,
                entry=PlaceEntry(
                    batch_id=spec.batch_id,
                    chain_id=_chain_id(),
                    priority=self._priority,
                    submitted_bytes=self.submitted_bytes,
                    asked_at=self._asked_at,
                ),
            ),
            summary=f"priority {self._priority}",
            priority=Priority(
                priority_key=self._priority, fairness_key=spec.tenant_id, fairness_weight=spec.fairness_weight
            ),
            **REQUEST_PLACE,
        )

    async def _heard(self) -> None:
        """The line knows. A request is too short to be stopped, so it swallows a cancel; this brings it back."""
        await self._asked()
        if workflow.cancellation_reason() is not None and workflow.patched(_CANCEL_HOLDS):
            raise asyncio.CancelledError

    async def _asked(self) -> None:
        if self._asking is not None:
            await self._asking

    async def _settled(self) -> None:
        """However the request ended: the line must not hear of it after the release."""
        try:
            await self._asked()
        except (ActivityError, asyncio.CancelledError) as error:
            if not is_cancelled_exception(error):
                raise


def _chain_id() -> str:
    return workflow.info().first_execution_run_id

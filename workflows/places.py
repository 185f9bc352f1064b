"""The places of one tenant: how many of its batches run at a time, and whose turn is next.

The story. A batch asks (signal ``ask``, sent with start, so that the first one brings this
workflow to life), stands in line by priority and age, is told by the signal ``place_granted``
on its own workflow, and gives the place back with ``release``. When nobody holds or waits
any more the workflow completes; the next batch that asks starts it again.

What is promised. At most ``max_jobs`` batches, and at most ``max_bytes`` of submitted bytes,
hold a place; the rule for bytes is told in ``ingather.domain.waiting_line``. A batch is in the
line once, however often it asks; asking again moves it by its new priority, and grants its
place once more when the first word was lost. Limits come with every request and every check, so
a changed setting takes effect without a restart of anything here.

What survives. Everything: the line is this workflow's history. A batch that dies without giving
its place back (terminated, deleted) is found by a check of the holders, every 20 seconds and only
while somebody waits. One that dies in line is found when its turn comes: the signal has nobody
to reach. Were this workflow itself terminated, those in line ask again by themselves.

When it ends. Both completing and continuing as new wait until no activity runs; a signal that
arrives meanwhile makes the server refuse that step, and it is decided anew with the signal seen.
"""

import asyncio

from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.places import PlaceActivities
    from ingather.domain.waiting_line import WaitingLine
    from ingather.models.engine import MEMO_LINE, PLACE_GRANTED, PLACES_WORKFLOW
    from ingather.models.identity import workflow_id_for
    from ingather.models.messages import (
        CarriedPlaces,
        CheckHoldersInput,
        PlaceEntry,
        PlaceGranted,
        PlaceHolder,
        PlaceLimits,
        PlaceRequest,
        PlacesInput,
        PlacesLine,
    )
    from workflows.options import CHECK_PLACES

LINE_IN_MEMO = 64
"""Batches in line whose position can be read without a worker: 1.4 KB; the server warns at 2 KB."""


@workflow.defn(name=PLACES_WORKFLOW)
class PlacesWorkflow:
    @workflow.init
    def __init__(self, places: PlacesInput) -> None:
        carried = places.carried
        self._tenant_id = places.tenant_id
        self._line = WaitingLine(carried.holders, carried.waiting) if carried else WaitingLine()
        self._limits: PlaceLimits | None = carried.limits if carried else None
        self._to_tell: list[PlaceEntry] = []
        """Batches whose place is theirs and that do not know it yet."""
        self._ticks = 0
        self._checks: asyncio.Task[None] | None = None
        self._is_checking = False
        # A run that goes on from another one was given its memo.
        self._shown: PlacesLine | None = self._line.snapshot(LINE_IN_MEMO) if carried else None

    @workflow.run
    async def run(self, places: PlacesInput) -> None:  # noqa: ARG002  # read by __init__
        # A start without a request has nothing to do until one comes.
        await workflow.wait_condition(lambda: self._limits is not None)
        while True:
            seen = self._ticks
            await self._admit()
            self._check_while_somebody_waits()
            self._show()
            if self._ticks != seen:
                continue
            if not self._is_checking:
                if self._line.is_empty:
                    return
                if workflow.info().is_continue_as_new_suggested():
                    self._continue_as_new()
            await workflow.wait_condition(lambda seen=seen: self._ticks != seen)  # type: ignore[misc]  # bound default

    # --- Messages -------------------------------------------------------------------------

    @workflow.signal
    def ask(self, request: PlaceRequest) -> None:
        """Stand in line; or hear once more of the place one has."""
        self._limits = request.limits
        if self._line.ask(request.entry):
            self._to_tell.append(request.entry)
        self._ticks += 1

    @workflow.signal
    def release(self, holder: PlaceHolder) -> None:
        """Give a place back, or leave the line."""
        self._line.release(holder)
        self._ticks += 1

    @workflow.query
    def line(self) -> PlacesLine:
        """Everybody in line."""
        return self._line.snapshot()

    # --- Steps ----------------------------------------------------------------------------

    async def _admit(self) -> None:
        """Give out what is free and tell each batch; the place of one that cannot be told is free again."""
        assert self._limits is not None
        self._to_tell += self._line.admit(self._limits)
        while self._to_tell:
            entry = self._to_tell.pop(0)
            batch = workflow.get_external_workflow_handle(workflow_id_for(entry.batch_id))
            try:
                await batch.signal(PLACE_GRANTED, PlaceGranted(chain_id=entry.chain_id))
            except FailureError as error:
                if is_cancelled_exception(error):
                    raise
                # Its workflow is over or gone. Where it lives another life by now, that one has asked for itself.
                self._line.release(entry)
                self._ticks += 1

    def _check_while_somebody_waits(self) -> None:
        if self._line.waiting_count and self._checks is None:
            self._checks = asyncio.create_task(self._check_holders())
        elif not self._line.waiting_count and self._checks is not None and not self._is_checking:
            self._checks.cancel()
            self._checks = None

    async def _check_holders(self) -> None:
        """Find holders that are gone, once an interval, for as long as there are any to wait for."""
        while True:
            assert self._limits is not None
            await workflow.sleep(self._limits.check_seconds, summary="until the next look at the holders")
            self._is_checking = True
            try:
                checked = await workflow.execute_activity_method(
                    PlaceActivities.check_holders,
                    CheckHoldersInput(tenant_id=self._tenant_id, holders=tuple(map(_holder, self._line.holders))),
                    summary=f"{self._line.waiting_count} in line",
                    priority=Priority(priority_key=1, fairness_key=self._tenant_id),
                    **CHECK_PLACES,
                )
            except ActivityError:
                pass  # Nobody could look; the next check may.
            else:
                self._limits = checked.limits
                for holder in checked.gone:
                    self._line.release(holder)
            self._is_checking = False
            self._ticks += 1

    def _show(self) -> None:
        """The line in the memo, and in words in the Temporal UI."""
        line = self._line.snapshot(LINE_IN_MEMO)
        if line == self._shown or (self._shown is None and not line.waiting):
            return
        self._shown = line
        workflow.upsert_memo({MEMO_LINE: line.model_dump(mode="json")})
        workflow.set_current_details(f"**{line.held}** batches have a place, **{line.waiting}** wait for one.")

    def _continue_as_new(self) -> None:
        assert self._limits is not None
        line = self._line
        workflow.continue_as_new(
            PlacesInput(
                tenant_id=self._tenant_id,
                carried=CarriedPlaces(holders=line.holders, waiting=line.waiting, limits=self._limits),
            ),
            # An upserted memo does not travel by itself; search attributes do.
            memo={MEMO_LINE: line.snapshot(LINE_IN_MEMO).model_dump(mode="json")},
        )


def _holder(entry: PlaceEntry) -> PlaceHolder:
    return PlaceHolder(batch_id=entry.batch_id, chain_id=entry.chain_id)

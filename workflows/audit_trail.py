"""What was done to a batch, on its way to the audit log.

Whoever sends a message through the API is recorded by the API too, before the answer. This is for when that process dies
in between, and for messages that came through Temporal itself: an activity writes the same event, which has the same id, so
it is there once, whoever was first. The batch neither waits for it while it runs, nor ends without it.
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from ingather.models.batch import BatchSpec
    from ingather.models.messages import MAX_NOTES, ControlNote, RecordControlsInput
    from workflows.options import AUDIT

_AT_ONCE = 8
"""Activities under way, as many as messages that come faster than they are written need: a flood of signals while the
catalog is away must not become a flood of activities."""


class AuditTrail:
    """Notes of one batch. Each is written at once; those that come while many are being written share an activity."""

    def __init__(self, spec: BatchSpec) -> None:
        self._spec = spec
        self._waiting: list[ControlNote] = []
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._next = 0

    @property
    def is_written(self) -> bool:
        """Nothing is left to write."""
        return not self._waiting and not self._under_way

    def add(self, note: ControlNote) -> None:
        """Have it written; nobody waits for it here."""
        self._waiting.append(note)
        self._send()

    def _send(self) -> None:
        while self._waiting and len(self._under_way) < _AT_ONCE:
            notes, self._waiting = self._waiting[:MAX_NOTES], self._waiting[MAX_NOTES:]
            number, self._next = self._next, self._next + 1
            self._under_way[number] = asyncio.create_task(self._write(number, tuple(notes)))

    async def _write(self, number: int, notes: tuple[ControlNote, ...]) -> None:
        spec = self._spec
        try:
            await workflow.execute_activity_method(
                RecordActivities.record_controls,
                RecordControlsInput(tenant_id=spec.tenant_id, batch_id=spec.batch_id, notes=notes),
                summary=", ".join(note.kind for note in notes[:3]),
                **AUDIT,
            )
        except ActivityError as error:
            # It is tried for ever, so somebody ended it by hand, and the batch goes on.
            workflow.logger.warning("audit.not_recorded", extra={"reason": str(error.cause)})
        finally:
            del self._under_way[number]
            self._send()

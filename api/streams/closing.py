"""How a batch ended, when its workflow can no longer be asked."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from api.engine import BatchEngine, Presence
from api.resources import BatchSnapshot
from ingather.models.batch import BatchProblem, BatchProgress, BatchState, Counts
from ingather.ports.catalog import Catalog
from ingather.ports.event_log import StreamKey

Settle = Callable[[StreamKey], Awaitable[object]]
"""Lets the service write the last word on a batch whose workflow was ended from outside."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The last word on a batch."""

    progress: BatchProgress
    created_at: datetime


async def final_progress(key: StreamKey, catalog: Catalog, engine: BatchEngine, settle: Settle) -> Ending | None:
    """The catalog's last word, or what is left of a workflow that was ended from outside.

    None when the batch may still begin, or runs again.
    """
    record = await catalog.get_batch(key.batch_id, key.tenant_id)
    if record is not None and record.state.is_final:
        return Ending(BatchSnapshot.from_record(record).progress, record.created_at)
    status = await engine.status(key.batch_id)
    if status.presence is Presence.OPEN:
        return None
    if record is None:
        return None
    await settle(key)
    # It may also have closed properly between the two looks.
    record = await catalog.get_batch(key.batch_id, key.tenant_id) or record
    if status.presence is Presence.MISSING and not record.state.is_final:
        # The record comes before the workflow. Who settles knows how long to wait for that, and by whom it may yet be begun.
        return None
    known = BatchSnapshot.from_record(record).progress
    if not record.state.is_final:
        known = _cut_short(status.progress or known, status.closed_at)
    return Ending(known, record.created_at)


def _cut_short(progress: BatchProgress, closed_at: datetime | None) -> BatchProgress:
    counts = progress.counts
    unfinished = counts.pending + counts.in_flight
    settled = counts.model_dump() | {"pending": 0, "in_flight": 0, "cancelled": counts.cancelled + unfinished}
    problem = BatchProblem(
        code="terminated",
        message="The workflow was ended from outside before the batch was finished.",
        action="Submit the documents again.",
    )
    return progress.model_copy(
        update={
            "state": BatchState.FAILED,
            "counts": Counts(**settled),
            "problem": problem,
            "in_flight": (),
            "version": progress.version + 1,
            "ended_at": closed_at or progress.ended_at,
        }
    )

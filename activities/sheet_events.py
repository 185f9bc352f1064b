"""What an activity tells of its stage. Nobody's batch waits for it: what cannot be told is left out, and logged."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from ingather.domain.sheet_events import share_of
from ingather.models.batch import Counts
from ingather.models.errors import EventLogUnavailableError, IngatherError
from ingather.models.sheets import SheetStage, StageEvent
from ingather.ports.catalog import Catalog
from ingather.ports.sheet_progress import SheetProgress

log = structlog.get_logger(__name__)

COUNTS_EVERY_SECONDS = 1.0
AWAY_SECONDS = 30.0
"""So long counts are not told where nobody took the last: to find that out may take seconds, and a sheet waits for it."""
_MOST_BATCHES = 1_000


async def tell(progress: SheetProgress, event: StageEvent) -> bool:
    """Tell an event, where somebody takes it; False where nobody does."""
    try:
        await progress.tell(event)
    except EventLogUnavailableError as error:
        log.warning("stage.not_told", batch_id=event.batch_id, stage=event.stage.value, code=error.code)
        return False
    return True


@dataclass(frozen=True, slots=True)
class StageTeller:
    """Tells of one stage of one batch.

    Args:
        began_at: when the batch began.
        retry_round: 0 for the first.
    """

    progress: SheetProgress
    batch_id: str
    stage: SheetStage
    began_at: datetime
    retry_round: int = 0
    total: int = 0
    """Sheets, once they are known."""
    processed: int = 0

    async def start(self, message: str) -> None:
        await self.say("start", message, 0)

    async def end(self, message: str, **facts: Any) -> None:
        await self.say("end", message, 100, **facts)

    async def say(self, which: str, message: str, percentage: float, **facts: Any) -> bool:
        """``which`` is unique within the stage, and the same in every attempt. False where nobody takes it."""
        return await tell(
            self.progress,
            StageEvent(
                batch_id=self.batch_id,
                stage=self.stage,
                mark=f"{self.retry_round}/{self.stage.value}/{which}",
                message=message,
                progress_percentage=percentage,
                sheets_total=self.total,
                sheets_processed=self.processed,
                facts=facts,
                retry_round=self.retry_round,
                began_at=self.began_at,
            ),
        )


async def beginning_of(catalog: Catalog, batch_id: str) -> datetime:
    """When a batch was made."""
    record = await catalog.get_batch(batch_id)
    return record.created_at if record else datetime.now(UTC)


async def stage_teller(
    progress: SheetProgress, catalog: Catalog, batch_id: str, stage: SheetStage, **fields: int
) -> StageTeller:
    """Tells of a stage of a batch that is on record."""
    return StageTeller(progress, batch_id, stage, await beginning_of(catalog, batch_id), **fields)


def processing_event(
    batch_id: str, counts: Counts, began_at: datetime, retry_round: int, *, is_last: bool = False
) -> StageEvent:
    """How many sheets were processed; those that were cancelled were not."""
    processed, total = counts.processed, counts.total
    return StageEvent(
        batch_id=batch_id,
        stage=SheetStage.PROCESSING_SHEETS,
        mark=f"{retry_round}/processing_sheets/{processed}{'/end' if is_last else ''}",
        message=f"Progress: {processed}/{total} tasks completed",
        progress_percentage=share_of(processed, total),
        sheets_total=total,
        sheets_processed=processed,
        retry_round=retry_round,
        began_at=began_at,
        at_most_every=0.0 if is_last else COUNTS_EVERY_SECONDS,
    )


@dataclass(slots=True)
class SheetCounts:
    """Tells how many sheets of a batch ended, at most once a second, by the catalog's count. One for a process.

    Each worker tells when one of its own sheets has ended, so nobody counts while nothing changes.
    """

    catalog: Catalog
    progress: SheetProgress
    _told_at: dict[str, float] = field(default_factory=dict)
    _began_at: dict[str, datetime] = field(default_factory=dict)

    async def sheet_ended(self, batch_id: str, retry_round: int) -> None:
        """Count and tell, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._told_at.get(batch_id, -COUNTS_EVERY_SECONDS) < COUNTS_EVERY_SECONDS:
            return
        if len(self._told_at) >= _MOST_BATCHES:
            self._told_at.clear()
            self._began_at.clear()
        self._told_at[batch_id] = now
        try:
            counts = await self.catalog.count_documents(batch_id)
            event = processing_event(batch_id, counts, await self._beginning(batch_id), retry_round)
        except IngatherError as error:
            # The sheet is kept: it is not done again for a number that the next one tells.
            log.warning("sheets.not_counted", batch_id=batch_id, code=error.code)
            return
        if not await tell(self.progress, event):
            self._told_at[batch_id] = time.monotonic() + AWAY_SECONDS

    async def _beginning(self, batch_id: str) -> datetime:
        if batch_id not in self._began_at:
            self._began_at[batch_id] = await beginning_of(self.catalog, batch_id)
        return self._began_at[batch_id]

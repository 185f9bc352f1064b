"""Stage events for tests: what does not matter is made up."""

import uuid
from datetime import UTC, datetime

from ingather.models.sheets import SheetStage, StageEvent


def new_batch_id() -> str:
    return str(uuid.uuid4())


def stage_event(batch_id: str, stage: str = "extracting", mark: str | None = None, **fields) -> StageEvent:
    fields = {"message": "It goes on.", "progress_percentage": 0, "began_at": datetime.now(UTC)} | fields
    return StageEvent(batch_id=batch_id, stage=SheetStage(stage), mark=mark or f"{stage}/start", **fields)

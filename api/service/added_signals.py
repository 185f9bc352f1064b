"""Telling workflows how far their open batches have grown: seldom, and never in a client's way.

A signal is four events of a workflow's history. So each batch hears at most one a second in its first
minute and ever fewer after that: about five hundred in a day. The last total always gets there, if
not by itself then with the seal.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from api.engine import BatchClosedError, BatchEngine
from ingather.models.errors import DependencyError
from ingather.models.messages import AddedRequest

log = structlog.get_logger(__name__)

SHORTEST_SECONDS = 1.0
_SHARE_OF_AGE = 1 / 60
"""Seconds between two signals, for each second the batch has been open."""


@dataclass(slots=True)
class _Growing:
    document_count: int
    task: asyncio.Task[None]


class AddedSignals:
    """One background task for each batch that has grown since its last signal."""

    def __init__(self, engine: BatchEngine) -> None:
        self._engine = engine
        self._growing: dict[str, _Growing] = {}

    def note(self, batch_id: str, document_count: int, opened_at: datetime) -> None:
        """The batch has so many documents now."""
        known = self._growing.get(batch_id)
        if known is not None:
            known.document_count = max(known.document_count, document_count)
            return
        task = asyncio.create_task(self._tell(batch_id, opened_at), name=f"added {batch_id}")
        self._growing[batch_id] = _Growing(document_count, task)

    def forget(self, batch_id: str) -> None:
        """The batch is sealed: the seal says it all."""
        known = self._growing.pop(batch_id, None)
        if known is not None:
            known.task.cancel()

    async def close(self) -> None:
        """Stop; totals that were not told come with the seal."""
        tasks = [growing.task for growing in self._growing.values()]
        self._growing.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, batch_id: str, opened_at: datetime) -> None:
        told = -1
        while (growing := self._growing.get(batch_id)) is not None and growing.document_count > told:
            told = growing.document_count
            try:
                await self._engine.tell(batch_id, "added", AddedRequest(document_count=told))
            except (BatchClosedError, DependencyError) as error:
                log.info("batch.growth_not_told", batch_id=batch_id, reason=type(error).__name__)
            await asyncio.sleep(pause_seconds((datetime.now(UTC) - opened_at).total_seconds()))
        self._growing.pop(batch_id, None)


def pause_seconds(age_seconds: float) -> float:
    """How long a batch that has been open for so long is left alone after a signal."""
    return max(SHORTEST_SECONDS, age_seconds * _SHARE_OF_AGE)

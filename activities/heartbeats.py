"""Heartbeats in the background, carrying the live stage of a document.

A beat is how Temporal learns that the worker lives, and how the activity learns that it
was cancelled. The first one goes out after half a second: most documents are done by then.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Self

from temporalio import activity

from ingather.models.content import Stage
from ingather.models.messages import DocumentHeartbeat

FIRST_BEAT_SECONDS = 0.5
BEAT_SECONDS = 1.0


class StageHeartbeat:
    """The stage a document is in, beaten until the activity ends."""

    first_seconds = FIRST_BEAT_SECONDS
    """Until the first beat."""
    every_seconds = BEAT_SECONDS
    """From a beat to the next."""

    def __init__(self) -> None:
        self.filename = ""
        """Empty until the manifest told it."""
        self.started_at = datetime.now(UTC)
        self.stage = Stage.FETCHING

    def enter(self, stage: Stage) -> None:
        """Note that a stage begins; the next beat tells it."""
        self.stage = stage

    def details(self) -> DocumentHeartbeat:
        """What a beat tells."""
        return DocumentHeartbeat(stage=self.stage, filename=self.filename, started_at=self.started_at)

    async def _beat(self) -> None:
        await asyncio.sleep(self.first_seconds)
        while True:
            activity.heartbeat(self.details())
            await asyncio.sleep(self.every_seconds)

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[Self]:
        """Beat while the block runs."""
        task = asyncio.create_task(self._beat())
        try:
            yield self
        finally:
            task.cancel()


@asynccontextmanager
async def beating_plainly() -> AsyncIterator[None]:
    """Beat without details while a batch-wide activity runs."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(BEAT_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()

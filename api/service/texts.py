"""Batches of texts: waiting for their end, and reading what came of each."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from api.resources import BatchSnapshot
from api.service.batches import BatchService
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import BlobNotFoundError, EngineUnavailableError
from ingather.models.text import MOST_TEXTS, TextOperation, TextResult
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog, DocumentFilter

log = structlog.get_logger(__name__)

OPERATION = "operation"
USER_METADATA = "user_metadata"
"""Keys in the metadata of a text's document."""

LOOK_SECONDS = 3.0
"""Between two looks at whether a client that waits is still there."""
_PATIENCE_SECONDS = 20.0
"""How long an engine may be away while a client waits for it."""
_LEAST_SECONDS = 0.05
_READ_AT_ONCE = 10
_CANCELLED = "Cancelled before it was processed."
_NOT_KEPT = "The answer is no longer stored."


@dataclass(frozen=True, slots=True)
class TextLimits:
    """What batches of texts are held to."""

    max_requests: int
    """Texts of one batch."""
    concurrency: int
    """Of one batch, with the model at one time."""
    max_retries: int
    """Of a text whose model did not answer."""
    answer_seconds: float
    """How long a client may wait for its batch."""


@dataclass(frozen=True, slots=True)
class TextOutcome:
    """How one text ended."""

    ordinal: int
    operation: TextOperation | None
    result: TextResult | None = field(default=None, repr=False)
    error: str | None = None
    is_from_cache: bool = False
    processing_seconds: float = 0.0
    ended_at: datetime | None = None
    user_metadata: dict[str, Any] | None = None


class ClosingEngine(Protocol):
    """Knows when a batch is over (``api.engine``)."""

    async def until_closed(self, batch_id: str, within: timedelta) -> bool: ...


@dataclass(frozen=True, slots=True)
class TextService:
    """Ends and answers."""

    catalog: Catalog
    blobs: BlobStore
    engine: ClosingEngine
    batches: BatchService
    limits: TextLimits

    async def wait(
        self, tenant_id: str, batch_id: str, seconds: float, is_wanted: Callable[[], Awaitable[bool]]
    ) -> BatchSnapshot:
        """The batch once it has ended, or as it is when time is up or nobody wants it any more.

        Waiting holds a coroutine here and a long poll at the engine, no thread and no worker. Raises
        ``EngineUnavailableError`` where the engine stays away.
        """
        deadline, heard_at = time.monotonic() + seconds, time.monotonic()
        while True:
            left, is_closed = deadline - time.monotonic(), False
            try:
                within = timedelta(seconds=max(_LEAST_SECONDS, min(left, LOOK_SECONDS)))
                is_closed = await self.engine.until_closed(batch_id, within)
                heard_at = time.monotonic()
            except EngineUnavailableError:
                if time.monotonic() - heard_at > _PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(1)
            if is_closed or time.monotonic() >= deadline or not await is_wanted():
                snapshot = await self.batches.snapshot(tenant_id, batch_id)
                if snapshot.is_final or not is_closed:
                    return snapshot
                # Its workflow is over and the catalog has no last word: that is settled elsewhere, and soon.
                if time.monotonic() >= deadline:
                    return snapshot
                await asyncio.sleep(1)

    async def outcomes(self, snapshot: BatchSnapshot) -> list[TextOutcome]:
        """What came of each text so far, in the order of the request. Of a batch that has ended, all of them."""
        records = await self.catalog.list_documents(DocumentFilter(snapshot.record.batch_id), MOST_TEXTS)
        turns = asyncio.Semaphore(_READ_AT_ONCE)
        found = await asyncio.gather(*(self._outcome(record, turns) for record in records))
        outcomes = {each.ordinal: each for each in found if each is not None}
        if snapshot.is_final:
            problem = snapshot.progress.problem
            why = problem.message if problem else _CANCELLED
            for ordinal in range(snapshot.progress.counts.total):
                # Those that never came so far as to have a row, or whose row nobody closed.
                outcomes.setdefault(ordinal, TextOutcome(ordinal, None, error=why, ended_at=snapshot.progress.ended_at))
        return [outcomes[ordinal] for ordinal in sorted(outcomes)]

    async def _outcome(self, record: DocumentRecord, turns: asyncio.Semaphore) -> TextOutcome | None:
        told: dict[str, Any] = {
            "ordinal": record.ordinal,
            "operation": TextOperation(record.metadata[OPERATION]) if OPERATION in record.metadata else None,
            "is_from_cache": record.duplicate_of is not None,
            "processing_seconds": round(sum(record.timings_ms.values()) / 1_000, 4),
            "ended_at": record.ended_at,
            "user_metadata": record.metadata.get(USER_METADATA),
        }
        match record.status:
            case DocumentStatus.FAILED:
                return TextOutcome(**told, error=record.error.message if record.error else _CANCELLED)
            case DocumentStatus.CANCELLED:
                return TextOutcome(**told, error=_CANCELLED)
            case DocumentStatus.DONE if record.artifact_key is not None:
                try:
                    async with turns:
                        content = await self.blobs.get(record.artifact_key)
                except BlobNotFoundError:
                    return TextOutcome(**told, error=_NOT_KEPT)
                return TextOutcome(**told, result=TextResult.model_validate_json(content))
            case _:
                return None

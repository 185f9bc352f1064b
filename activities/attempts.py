"""What every attempt at a document has in common: what its errors mean, and that its end is seen through."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

import structlog
from temporalio import activity

from activities.failures import described, to_document_failure
from activities.ingestion import Ingestion
from ingather.models.document import DocumentFailure
from ingather.models.errors import BlobNotFoundError, DocumentError, IngatherError, SourceUnavailableError

log = structlog.get_logger(__name__)

MAX_UNEXPECTED_ATTEMPTS = 4
"""A bug of our own is tried this often, then it is that document's outcome and nobody else's."""

MAX_SOURCE_ATTEMPTS = 5
"""A source that does not answer is asked so often, besides its adapter's own patience; then its document fails."""


async def failure_of(ingestion: Ingestion, work: Awaitable[None]) -> DocumentFailure | None:
    """Do the work; answers why the document failed, if it did. Only what another attempt may cure is raised."""
    try:
        await work
    except (DocumentError, BlobNotFoundError) as error:
        if isinstance(error, SourceUnavailableError) and activity.info().attempt < MAX_SOURCE_ATTEMPTS:
            raise
        return to_document_failure(error, ingestion.stage)
    except IngatherError:
        raise
    except Exception as error:
        if activity.info().attempt < MAX_UNEXPECTED_ATTEMPTS:
            raise
        facts = {"batch_id": ingestion.request.batch_id, "file_id": ingestion.file_id, **described(error)}
        log.error("document.unexpected_error", **facts)  # noqa: TRY400  # a traceback ends in the message
        unexpected = IngatherError(f"An unexpected {type(error).__name__} stopped this document.")
        return to_document_failure(unexpected, ingestion.stage)
    return None


async def to_its_end(step: Coroutine[Any, Any, None]) -> None:
    """See a step done, and swallow a cancel that comes meanwhile."""
    running = asyncio.ensure_future(step)
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            if running.cancelled():
                raise
    running.result()

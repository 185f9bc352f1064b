"""What every attempt at a document has in common: what its errors mean, and that its end is seen through."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

import structlog
from temporalio import activity

from activities.failures import described, to_document_failure
from activities.ingestion import Ingestion
from ingather.models.document import DocumentFailure
from ingather.models.errors import BlobNotFoundError, DocumentError, IngatherError

log = structlog.get_logger(__name__)


async def failure_of(ingestion: Ingestion, work: Awaitable[None]) -> DocumentFailure | None:
    """Do the work; answers why the document failed, if it did. Only what another attempt may cure is raised.

    What may pass, and a bug of our own, is tried as often as the batch's options say; then it is this document's
    outcome and nobody else's. Infrastructure that is away is nobody's outcome.
    """
    has_attempts_left = activity.info().attempt <= ingestion.request.options.retries
    try:
        await work
    except (DocumentError, BlobNotFoundError) as error:
        if error.retryable and has_attempts_left:
            raise
        return to_document_failure(error, ingestion.stage)
    except IngatherError:
        raise
    except Exception as error:
        if has_attempts_left:
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


def is_batch_cancelled() -> bool:
    """Whether the workflow asked for the end. A worker that shuts down hands its pack to another one instead."""
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested

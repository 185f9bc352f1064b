"""How documents ended, read from what their activities answered or raised."""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

with workflow.unsafe.imports_passed_through():
    from ingather.models.document import DocumentStatus
    from ingather.models.errors import DocumentTimeoutError, IngatherError, error_classes
    from ingather.models.messages import IngestDocumentOutput


def has_answer(task: "asyncio.Future[Any]") -> bool:
    """Whether the activity itself said how it ended."""
    return not task.cancelled() and task.exception() is None


def outcome_of(task: "asyncio.Future[IngestDocumentOutput]") -> tuple[DocumentStatus, str | None]:
    """Status and error code of a document whose activity ended, however it did."""
    if task.cancelled():
        return DocumentStatus.CANCELLED, None
    error = task.exception()
    if error is None:
        return task.result().status, task.result().code
    if is_cancelled_exception(error):
        return DocumentStatus.CANCELLED, None
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ActivityTimeoutError):
        return DocumentStatus.FAILED, DocumentTimeoutError.code
    if isinstance(cause, ApplicationError) and cause.type in error_classes():
        return DocumentStatus.FAILED, cause.type
    return DocumentStatus.FAILED, IngatherError.code


def was_cancelled(task: "asyncio.Future[Any]") -> bool:
    """Whether it ended because it was asked to stop."""
    if task.cancelled():
        return True
    error = task.exception()
    return error is not None and is_cancelled_exception(error)

"""How a document's activity ended, in the words of the ledger."""

import asyncio

import pytest
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, RetryState, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from activities.failures import to_application_error
from ingather.models.document import DocumentStatus
from ingather.models.errors import StorageUnavailableError
from ingather.models.messages import IngestDocumentOutput
from workflows.outcomes import outcome_of


async def ended(result=None, cause=None, cancelled=False):
    future = asyncio.get_running_loop().create_future()
    if cancelled:
        future.cancel()
    elif cause is None:
        future.set_result(result)
    else:
        error = ActivityError(
            "Activity task failed", scheduled_event_id=1, started_event_id=2, identity="", activity_type="x",
            activity_id="doc-0000001", retry_state=RetryState.MAXIMUM_ATTEMPTS_REACHED,
        )  # fmt: skip
        error.__cause__ = cause
        future.set_exception(error)
    return outcome_of(future)


@pytest.mark.parametrize("status", [DocumentStatus.DONE, DocumentStatus.SKIPPED])
async def test_an_answer_is_taken_as_it_is(status):
    """The activity knows best."""
    assert await ended(IngestDocumentOutput(status=status)) == (status, None)


async def test_a_failed_document_brings_its_code():
    """It is a result, not an exception."""
    output = IngestDocumentOutput(status=DocumentStatus.FAILED, code="encrypted")
    assert await ended(output) == (DocumentStatus.FAILED, "encrypted")


async def test_a_cancelled_activity_is_a_cancelled_document():
    """Whether it surfaces as asyncio's cancellation or as Temporal's."""
    assert await ended(cancelled=True) == (DocumentStatus.CANCELLED, None)
    assert await ended(cause=CancelledError("Cancelled")) == (DocumentStatus.CANCELLED, None)


@pytest.mark.parametrize("kind", list(TimeoutType))
async def test_a_document_nobody_finished_can_be_retried_by_that_code(kind):
    """No worker, a dead one, or one that took too long."""
    error = ActivityTimeoutError("timed out", type=kind, last_heartbeat_details=[])
    assert await ended(cause=error) == (DocumentStatus.FAILED, "document_timeout")


async def test_infrastructure_that_stayed_away_is_named():
    """After half an hour of attempts a retry can choose these documents by their code."""
    error = to_application_error(StorageUnavailableError("away"))
    assert await ended(cause=error) == (DocumentStatus.FAILED, "storage_unavailable")


@pytest.mark.parametrize("kind", ["ValueError", None, "of_another_version"])
async def test_what_nobody_foresaw_is_an_internal_error(kind):
    """Only codes that exist reach the ledger."""
    assert await ended(cause=ApplicationError("x", type=kind)) == (DocumentStatus.FAILED, "internal_error")

"""Errors at the edge: Temporal hears code, facts and whether a retry may help, and nothing anybody else wrote."""

import asyncio
import concurrent.futures
from datetime import timedelta

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, DefaultPayloadConverter
from temporalio.exceptions import ApplicationError

from activities.failures import (
    HANDED_BACK,
    MAX_UNEXPECTED_ATTEMPTS,
    described,
    to_application_error,
    to_document_failure,
    translate_errors,
    translate_errors_and_give_up,
)
from ingather.models.content import Stage
from ingather.models.errors import (
    BlobNotFoundError,
    DocumentCorruptError,
    EmbedderUnavailableError,
    InvalidStateError,
    ParserCrashedError,
    StorageUnavailableError,
    error_classes,
)
from tests.support.ingesting import activity_environment, run_activity

SECRET = "the-text-of-a-document"


@pytest.mark.parametrize("kind", error_classes().values(), ids=error_classes().keys())
def test_every_error_crosses_with_code_advice_and_retryability(kind):
    """``type`` is the code; the first detail holds the facts and what to do."""
    error = to_application_error(kind("What happened.", where="there"))

    assert (error.type, error.non_retryable) == (kind.code, not kind.retryable)
    assert error.message == "What happened."
    assert error.details[0] == {"action": kind.advice, "where": "there"}


def test_a_document_failure_keeps_the_stage_the_error_names():
    """The parser knows better than whoever called it; without its word the caller's counts."""
    assert to_document_failure(DocumentCorruptError("x", stage="chunking"), Stage.WAITING).stage is Stage.CHUNKING
    assert to_document_failure(DocumentCorruptError("x"), Stage.WAITING).stage is Stage.WAITING
    assert to_document_failure(ParserCrashedError("x", stage="starting"), Stage.WAITING).stage is Stage.WAITING


def test_endless_messages_are_cut():
    """A failure fits its column whatever a parser has to say."""
    failure = to_document_failure(DocumentCorruptError("m" * 9_000, action="a" * 9_000), None)

    assert (len(failure.message), len(failure.action)) == (2_000, 1_000)


async def raised_by(error, attempt=1, translate=translate_errors, cause=None):
    @translate
    async def activity(_request):
        raise error from cause

    with pytest.raises(ApplicationError) as caught:
        await run_activity(activity, None, attempt=attempt)
    return caught.value


@pytest.mark.parametrize(
    ("error", "retried"),
    [(StorageUnavailableError("x"), True), (BlobNotFoundError("x"), False), (InvalidStateError("x"), False)],
)
async def test_our_errors_are_retried_where_that_may_cure_them(error, retried):
    """Waiting helps against an outage, not against a missing object."""
    assert (await raised_by(error)).non_retryable is not retried


async def test_an_application_error_passes_as_it_is():
    """What speaks Temporal's language already needs no translation."""
    error = ApplicationError("x", type="mine")
    assert await raised_by(error) is error


async def test_a_broken_executor_does_not_leave_an_activity():
    """The SDK would shut the whole worker down."""
    error = await raised_by(concurrent.futures.BrokenExecutor())
    assert (error.type, error.non_retryable) == ("internal_error", False)


async def test_an_unexpected_error_is_tried_for_ever_only_where_nothing_else_can_end_the_batch():
    """A report waits for the deploy that cures it; a manifest gives up, and its batch says why."""
    last = MAX_UNEXPECTED_ATTEMPTS
    assert (await raised_by(ValueError(), last, translate_errors)).non_retryable is False
    assert (await raised_by(ValueError(), last - 1, translate_errors_and_give_up)).non_retryable is False
    assert (await raised_by(ValueError(), last, translate_errors_and_give_up)).non_retryable is True
    assert (await raised_by(StorageUnavailableError("x"), last, translate_errors_and_give_up)).non_retryable is False


@pytest.mark.parametrize("error", [ValueError(SECRET), StorageUnavailableError("away")])
async def test_what_goes_into_history_quotes_nobody(error):
    """Neither an unforeseen exception's message nor the vendor's error behind ours."""
    failure = Failure()

    DefaultFailureConverter().to_failure(
        await raised_by(error, cause=RuntimeError(SECRET)), DefaultPayloadConverter(), failure
    )

    assert SECRET not in str(failure)


def test_a_described_error_says_what_and_where_without_its_message():
    """Enough to find the line, nothing of the data."""
    try:
        int(SECRET)
    except ValueError as error:
        facts = described(error)

    assert facts["error_type"] == "ValueError"
    assert "test_failures.py" in facts["raised_at"][-1]
    assert SECRET not in str(facts)


@pytest.mark.parametrize(
    ("details", "is_handed_back"),
    [
        ({"worker_shutdown": True}, True),
        ({"worker_shutdown": True, "cancel_requested": True}, False),
        ({"cancel_requested": True}, False),
        ({"not_found": True}, False),
    ],
)
async def test_what_a_stopping_worker_had_under_way_is_handed_back_at_once(details, is_handed_back):
    """The end of a worker is a failure to be repeated without a pause; a cancel stays a cancel."""
    environment = activity_environment()
    started = asyncio.Event()

    @translate_errors
    async def endless():
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(environment.run(endless))
    await started.wait()
    environment.cancel(ActivityCancellationDetails(**details))
    if not is_handed_back:
        with pytest.raises(asyncio.CancelledError):
            await running
        return
    with pytest.raises(ApplicationError) as caught:
        await running
    assert (caught.value.type, caught.value.non_retryable) == (HANDED_BACK, False)
    assert caught.value.next_retry_delay < timedelta(seconds=0.1)


@pytest.mark.parametrize(("asked", "waits"), [(90.0, timedelta(seconds=90)), (10**6, timedelta(hours=1))])
def test_a_service_that_asks_to_be_left_alone_is_left_alone(asked, waits):
    """The next attempt comes when the service said, an hour later at most."""
    error = to_application_error(EmbedderUnavailableError("It is busy.", retry_after_seconds=asked))

    assert error.next_retry_delay == waits


@pytest.mark.parametrize("asked", [None, 0.0, -5.0, "soon", float("inf"), float("nan")])
def test_where_nothing_sensible_is_asked_the_usual_pauses_hold(asked):
    """The retry policy decides when the service did not."""
    assert (
        to_application_error(EmbedderUnavailableError("It is busy.", retry_after_seconds=asked)).next_retry_delay
        is None
    )

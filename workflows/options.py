"""Timeouts and retry policies of every activity, in one table.

Infrastructure that is away is waited for: a batch outlives an outage of half an hour
without losing a document, and past that each one fails with a code a retry can name.
"""

from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

from ingather.models.batch import ProcessingOptions
from ingather.models.engine import (
    CPU_QUEUE,
    FETCH_SECONDS,
    HEARTBEAT_TIMEOUT,
    IO_QUEUE,
    LONGEST_MODEL_SECONDS,
    MANIFEST_QUEUE,
    PACK_DOCUMENTS,
    READING_SECONDS,
    SOURCE_QUEUE,
    TEXT_CALLS,
    TEXT_QUEUE,
    WEBHOOK_QUEUE,
)


class ActivityOptions(TypedDict, total=False):
    """The part of Temporal's options that belongs in this table; summary and priority vary by call."""

    task_queue: str
    schedule_to_close_timeout: timedelta
    start_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType


_LONGEST_PAUSE = timedelta(seconds=10)
"""Between two attempts: what may pass between the end of an outage and its end for the batch."""

_PATIENT = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=_LONGEST_PAUSE,
    maximum_attempts=180,
)

_ENDLESS = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=_LONGEST_PAUSE,
)

_STORE_AND_WRITE_SECONDS = 240
"""What one attempt may take beside parsing: store, embed, write; and get the bytes, where they were handed in."""

_PARSES_AN_ATTEMPT = 8
"""A crashed parser gets a second chance inside the attempt, and a document may wait in line behind others that take
all the time they have. Heartbeats notice a dead worker long before this."""


def ingest_options(options: ProcessingOptions) -> ActivityOptions:
    """One document."""
    return ActivityOptions(
        task_queue=CPU_QUEUE,
        start_to_close_timeout=timedelta(
            seconds=_PARSES_AN_ATTEMPT * options.timeout_seconds
            + _STORE_AND_WRITE_SECONDS
            + FETCH_SECONDS
            + (READING_SECONDS if options.parsing_model else 0)
        ),
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=_PATIENT,
        # Anything less leaves a zombie writing while the batch closes.
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


def fetched(options: ActivityOptions) -> ActivityOptions:
    """The same for a document that is fetched from its source first."""
    return options | ActivityOptions(task_queue=SOURCE_QUEUE)


def text_options(options: ProcessingOptions) -> ActivityOptions:
    """One text. Requests to the model have a time-out of their own; this is for what would hang beyond it."""
    return ingest_options(options) | ActivityOptions(
        task_queue=TEXT_QUEUE,
        start_to_close_timeout=timedelta(seconds=TEXT_CALLS * LONGEST_MODEL_SECONDS + _STORE_AND_WRITE_SECONDS),
    )


_BRIEF = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=_LONGEST_PAUSE,
    maximum_attempts=5,
)
"""A pack is not worth waiting for long: its documents have all the patience there is when they run alone."""


def pack_options(options: ProcessingOptions) -> ActivityOptions:
    """Several small documents, one after the other: each has at most one parse that takes all its time."""
    parses = PACK_DOCUMENTS + _PARSES_AN_ATTEMPT
    seconds = parses * options.timeout_seconds + _STORE_AND_WRITE_SECONDS
    return ingest_options(options) | ActivityOptions(
        start_to_close_timeout=timedelta(seconds=seconds), retry_policy=_BRIEF
    )


MANIFEST = ActivityOptions(
    task_queue=MANIFEST_QUEUE,
    start_to_close_timeout=timedelta(hours=2),
    heartbeat_timeout=HEARTBEAT_TIMEOUT,
    retry_policy=_ENDLESS,
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""Expanding archives can take long and must settle before a cancel is answered."""

_FILES_A_PAGE_SECONDS = 1_800
"""What looking at 250 files may take in all; heartbeats notice a dead worker long before."""


def read_codes_options(options: ProcessingOptions) -> ActivityOptions:
    """Some files of sheets, looked at one after the other."""
    return ActivityOptions(
        task_queue=CPU_QUEUE,
        start_to_close_timeout=timedelta(seconds=_FILES_A_PAGE_SECONDS + 10 * options.timeout_seconds),
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=_PATIENT,
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )


PAGE = ActivityOptions(
    task_queue=IO_QUEUE,
    # The documents of a retry may lie on as many pages as there are; heartbeats notice a dead worker long before this.
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=HEARTBEAT_TIMEOUT,
    retry_policy=_ENDLESS,
)

INDEX = ActivityOptions(
    task_queue=IO_QUEUE,
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=HEARTBEAT_TIMEOUT,
    retry_policy=_PATIENT,
    # A write that was told to stop must not go on beside the one that takes its place.
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)

LAST_INDEX = INDEX | ActivityOptions(schedule_to_close_timeout=timedelta(seconds=60))
"""What a cancelled batch had finished: its end does not wait for an index that is away."""

RECORDS = ActivityOptions(
    task_queue=IO_QUEUE,
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=HEARTBEAT_TIMEOUT,
    retry_policy=_ENDLESS,
    # A report that was told to stop must not go on writing beside the one that follows it.
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""The catalog's last word and the report: a batch does not end without them."""

CONCLUDE = ActivityOptions(
    task_queue=IO_QUEUE,
    # One short write: no beat is needed to notice a dead worker.
    start_to_close_timeout=timedelta(seconds=30),
    retry_policy=_ENDLESS,
)

AUDIT = ActivityOptions(
    task_queue=IO_QUEUE,
    # One short write: no beat is needed to notice a dead worker.
    start_to_close_timeout=timedelta(seconds=30),
    retry_policy=_ENDLESS,
)

NEWS = ActivityOptions(
    task_queue=IO_QUEUE,
    start_to_close_timeout=timedelta(minutes=2),
    heartbeat_timeout=HEARTBEAT_TIMEOUT,
    retry_policy=_ENDLESS,
)

DELIVERY = ActivityOptions(
    task_queue=WEBHOOK_QUEUE,
    # Longer than any receiver is given; heartbeats notice a dead worker long before this.
    start_to_close_timeout=timedelta(minutes=5),
    heartbeat_timeout=HEARTBEAT_TIMEOUT,
    # For what is ours: a receiver that fails is an answer, and has its own schedule.
    retry_policy=_ENDLESS,
)

REQUEST_PLACE = ActivityOptions(
    task_queue=IO_QUEUE,
    # One call with a deadline of five seconds: no beat is needed to notice a dead worker.
    start_to_close_timeout=timedelta(seconds=7),
    retry_policy=_ENDLESS,
    # The line must not hear of a request after the release that follows it.
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)

CHECK_PLACES = ActivityOptions(
    task_queue=IO_QUEUE,
    start_to_close_timeout=timedelta(seconds=20),
    # The next check is as good, and the line neither ends nor continues as new during one.
    schedule_to_close_timeout=timedelta(seconds=30),
    retry_policy=_ENDLESS,
)

CLEAN_UPLOADS = ActivityOptions(
    task_queue=IO_QUEUE,
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=HEARTBEAT_TIMEOUT,
    # The next run by the schedule does what this one could not.
    schedule_to_close_timeout=timedelta(hours=1),
    retry_policy=_BRIEF,
)

"""Our events in contract A's words."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.contracts.job_body import priority_of, to_our_priority
from api.contracts.job_events import JobAnnouncer, JobTeller, final_status
from ingather.domain.event_stream import encode
from ingather.models.batch import BatchState, Counts
from ingather.models.events import Event, EventType
from ingather.ports.event_log import LoggedEvent
from tests.support.catalog_records import batch_record

JOB = "01890000-0000-7000-8000-0000000000aa"
NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
GOOD, BAD = Counts(total=2, done=2), Counts(total=2, done=1, failed=1)


def logged(kind: EventType, state: BatchState = BatchState.RUNNING, **data: Any) -> LoggedEvent:
    return LoggedEvent(7, kind, encode(Event(seq=7, type=kind, time=NOW, batch_id=JOB, data=data)), state.value)


def ended(kind: EventType, state: BatchState, counts: Counts = GOOD) -> LoggedEvent:
    return logged(kind, state, status=state.value, counts=counts.model_dump())


def document(kind: EventType, state: BatchState = BatchState.RUNNING, **data: Any) -> LoggedEvent:
    return logged(kind, state, ordinal=3, filename="a.txt", **data)


def tell(*events: LoggedEvent, begun: bool = False) -> list[dict[str, Any]]:
    teller = JobTeller(JOB, begun=begun)
    return [orjson.loads(body) for event in events for body in teller.tell(event)]


def kinds(*events: LoggedEvent, begun: bool = False) -> list[str]:
    return [said["event_type"] for said in tell(*events, begun=begun)]


def test_a_job_from_beginning_to_end():
    """Start once, one event for each document's end, complete once; nothing for what the contract has no word for."""
    story = [
        logged(EventType.BATCH_CREATED),
        logged(EventType.BATCH_QUEUED),
        logged(EventType.BATCH_STARTED),
        document(EventType.DOCUMENT_STARTED),
        logged(EventType.BATCH_PROGRESS),
        document(EventType.DOCUMENT_SUCCEEDED),
        document(EventType.DOCUMENT_SKIPPED),
        logged(EventType.BATCH_PAUSING),
        logged(EventType.BATCH_PAUSED),
        logged(EventType.BATCH_RESUMED),
        document(EventType.DOCUMENT_FAILED, error={"code": "corrupt", "message": "It cannot be read."}),
        ended(EventType.BATCH_COMPLETED, BatchState.COMPLETED_WITH_FAILURES, BAD),
    ]
    assert kinds(*story) == ["start", "progress", "progress", "fail", "complete"]
    assert [said["message"] for said in tell(*story)[-2:]] == ["It cannot be read.", "failed"]


def test_an_event_has_all_of_the_contracts_fields():
    """Also those that say nothing in it."""
    [said] = tell(document(EventType.DOCUMENT_SUCCEEDED, chunks=1), begun=True)
    assert said == {
        "job_id": JOB,
        "event_type": "progress",
        "document_index": 3,
        "filename": "a.txt",
        "message": "Document processed: 1 chunk.",
        "timestamp": "2026-07-01T12:00:00Z",
    }
    [end] = tell(ended(EventType.BATCH_COMPLETED, BatchState.COMPLETED), begun=True)
    assert (end["document_index"], end["filename"], end["message"]) == (None, None, "completed")


def test_a_document_is_called_as_it_was_sent():
    """Whatever it is called here."""
    [said] = tell(document(EventType.DOCUMENT_SUCCEEDED, original_filename="../a.txt"), begun=True)
    assert said["filename"] == "../a.txt"


@given(st.text())
def test_no_name_breaks_a_line(name: str):
    """Whatever a client calls its documents."""
    [body] = JobTeller(JOB, begun=True).tell(document(EventType.DOCUMENT_SUCCEEDED, original_filename=name))
    assert len(body.decode().splitlines()) == 1
    assert orjson.loads(body)["filename"] == (name or "a.txt")


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (ended(EventType.BATCH_CANCELLED, BatchState.CANCELLED, Counts(total=2, cancelled=2)), ["start", "cancel"]),
        (ended(EventType.BATCH_FAILED, BatchState.FAILED, Counts(total=2, cancelled=2)), ["start", "complete"]),
    ],
)
def test_a_job_that_never_ran_has_its_start_before_its_end(end: LoggedEvent, told: list[str]):
    """Cancelled in the line, or without a manifest."""
    assert kinds(logged(EventType.BATCH_QUEUED), logged(EventType.BATCH_CANCELLING), end) == told


def test_what_is_cancelled_with_its_job_has_no_event_and_what_is_cut_short_failed():
    """A workflow that was ended from outside leaves documents that nobody will process."""
    cancelled = document(EventType.DOCUMENT_CANCELLED, BatchState.CANCELLING)
    cut_short = document(EventType.DOCUMENT_CANCELLED, BatchState.RUNNING)
    assert kinds(cancelled, cut_short, begun=True) == ["fail"]


def test_a_failure_without_a_message_has_its_code():
    """The catalog may be behind the journal for a moment."""
    [said] = tell(document(EventType.DOCUMENT_FAILED, error={"code": "corrupt", "message": ""}), begun=True)
    assert said["message"] == "The document failed: corrupt."


@pytest.mark.parametrize(
    ("state", "counts", "status"),
    [
        (BatchState.COMPLETED, GOOD, "completed"),
        (BatchState.COMPLETED_WITH_FAILURES, BAD, "failed"),
        (BatchState.FAILED, Counts(total=1, failed=1), "failed"),
        (BatchState.COMPLETED, Counts(total=2, done=1, skipped=1), "completed"),
        (BatchState.CANCELLED, BAD, "cancelled"),
        (BatchState.CANCELLING, Counts(total=1, in_flight=1), "cancelled"),
    ],
)
def test_how_a_job_ends(state: BatchState, counts: Counts, status: str):
    """Failed when at least one document failed, completed when none did."""
    assert final_status(state, counts) == status


def test_an_announcer_goes_on_where_another_stopped():
    """Whether the start was told is in the notes; where they were lost with the events, it was."""
    first = JobAnnouncer(JOB, {}, was_told=False)
    assert first.announcements(logged(EventType.BATCH_QUEUED)) == []
    second = JobAnnouncer(JOB, first.notes(), was_told=True)
    [start] = second.announcements(logged(EventType.BATCH_STARTED))
    assert (start.channel, orjson.loads(start.body)["event_type"]) == (f"job:events:{JOB}", "start")
    assert JobAnnouncer(JOB, second.notes(), was_told=True).announcements(logged(EventType.BATCH_STARTED)) == []
    assert JobAnnouncer(JOB, {}, was_told=True).announcements(logged(EventType.BATCH_STARTED)) == []


@pytest.mark.parametrize("priority", range(1, 11))
def test_a_priority_reads_as_it_was_sent(priority: int):
    """Unless it was changed through another door: then it is one that stands for ours."""
    record = batch_record(priority=to_our_priority(priority))
    said = record.model_copy(update={"spec": record.spec.model_copy(update={"metadata": {"job_priority": priority}})})
    assert priority_of(said) == priority
    moved = said.model_copy(update={"priority": to_our_priority(priority) % 5 + 1})
    assert to_our_priority(priority_of(moved)) == moved.priority
    assert to_our_priority(priority_of(record)) == record.priority

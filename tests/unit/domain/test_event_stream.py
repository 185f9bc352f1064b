"""Journal entries become events."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingather.domain.event_stream import (
    Story,
    encode,
    is_waiting,
    live_files,
    numbered,
    progress_data,
)
from ingather.models.batch import BatchProgress, BatchState, Counts
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus
from ingather.models.events import Event, EventType
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.messages import DocumentHeartbeat, JournalEntry, JournalKind

BATCH = "01890000-0000-7000-8000-0000000000aa"
NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def state(value: BatchState) -> JournalEntry:
    return JournalEntry(kind=JournalKind.STATE, at=NOW, state=value)


def started(ordinal: int) -> JournalEntry:
    return JournalEntry(kind=JournalKind.STARTED, at=NOW, ordinal=ordinal)


def ended(ordinal: int, status: DocumentStatus, code: str | None = None) -> JournalEntry:
    return JournalEntry(kind=JournalKind.ENDED, at=NOW, ordinal=ordinal, status=status, code=code)


def record(ordinal: int, status: DocumentStatus, **changes: object) -> DocumentRecord:
    fields = {
        "file_id": file_id_for(BATCH, ordinal),
        "tenant_id": DEFAULT_TENANT_ID,
        "batch_id": BATCH,
        "ordinal": ordinal,
        "filename": f"document-{ordinal}.txt",
        "collection": "default",
        "status": status,
        "attempts": 1,
        "ended_at": NOW,
    }
    return DocumentRecord(**{**fields, **changes})


def types(drafts: list) -> list[str]:
    return [draft.type.value for draft in drafts]


def test_a_whole_life_is_told_in_order() -> None:
    """Created, queued, started, paused, resumed: each state once, with the word that fits the one before."""
    states = [
        BatchState.PENDING,
        BatchState.QUEUED,
        BatchState.RUNNING,
        BatchState.PAUSING,
        BatchState.PAUSED,
        BatchState.RUNNING,
        BatchState.FINALIZING,
    ]

    drafts = Story(BATCH).tell([state(value) for value in states], 0, {})

    expected = ["batch.created", "batch.queued", "batch.started", "batch.pausing", "batch.paused", "batch.resumed"]
    assert types(drafts) == expected
    assert [draft.journal_next for draft in drafts] == [1, 2, 3, 4, 5, 6]


def test_a_pause_during_a_retry_ends_in_resumed() -> None:
    """After a pause the batch is resumed, also where it goes back to retrying."""
    story = Story(BATCH)
    story.tell([state(BatchState.RETRYING), state(BatchState.PAUSED)], 0, {})

    assert types(story.tell([state(BatchState.RETRYING)], 2, {})) == ["batch.resumed"]


def test_a_failed_document_says_what_and_what_to_do() -> None:
    """Code, message, stage and advice come with the event."""
    error = DocumentFailure(code="corrupt", message="Cannot be read.", stage=Stage.PARSING, action="Save it again.")
    failed = record(4, DocumentStatus.FAILED, error=error)

    [draft] = Story(BATCH).tell([ended(4, DocumentStatus.FAILED, "corrupt")], 0, {4: failed})

    assert draft.type is EventType.DOCUMENT_FAILED
    assert draft.data["filename"] == "document-4.txt"
    assert draft.data["document_id"] == file_id_for(BATCH, 4)
    expected = {"code": "corrupt", "message": "Cannot be read.", "stage": "parsing", "action": "Save it again."}
    assert draft.data["error"] == expected


def test_an_event_never_mixes_two_attempts() -> None:
    """A document that failed and has succeeded since is told as failed, without the success's chunks."""
    done = record(1, DocumentStatus.DONE, chunk_count=7, attempts=2)

    [draft] = Story(BATCH).tell([ended(1, DocumentStatus.FAILED, "corrupt")], 0, {1: done})

    assert draft.data["error"]["code"] == "corrupt"
    assert "chunks" not in draft.data


def test_a_document_that_the_catalog_does_not_know_is_told_all_the_same() -> None:
    """Nothing is dropped: id and status are known from the journal alone."""
    [draft] = Story(BATCH).tell([started(9)], 0, {})

    assert draft.data == {
        "document_id": file_id_for(BATCH, 9),
        "ordinal": 9,
        "filename": None,
        "status": "in_flight",
    }


def test_what_was_told_is_not_told_again() -> None:
    """Only ends that no event has told come from the catalog."""
    story = Story(BATCH)
    first, second = record(0, DocumentStatus.DONE), record(1, DocumentStatus.DONE)
    story.tell([ended(0, DocumentStatus.DONE)], 0, {0: first})

    missed = story.tell_missed([first, second, record(2, DocumentStatus.PENDING)], 1, NOW)

    assert [draft.data["ordinal"] for draft in missed] == [1]


def test_a_document_that_failed_again_is_told_again() -> None:
    """The same end at another time is another event."""
    story = Story(BATCH)
    story.tell([ended(0, DocumentStatus.FAILED, "corrupt")], 0, {0: record(0, DocumentStatus.FAILED)})

    later = record(0, DocumentStatus.FAILED, ended_at=NOW + timedelta(seconds=9))
    missed = story.tell_missed([later], 1, NOW)

    assert types(missed) == ["document.failed"]


def test_what_the_catalog_told_first_is_not_told_by_the_journal() -> None:
    """Where the catalog was ahead of the journal, the journal's entries of the same attempt add nothing."""
    story = Story(BATCH)
    done = record(0, DocumentStatus.DONE, started_at=NOW)
    story.tell_missed([done], 0, NOW)

    assert story.tell([started(0), ended(0, DocumentStatus.DONE)], 0, {0: done}) == []


def test_two_failures_within_one_page_are_two_events() -> None:
    """Failed, retried, failed again: started and failed twice, though the catalog knows the last end only."""
    story = Story(BATCH)
    entries = [started(0), ended(0, DocumentStatus.FAILED, "a"), started(0), ended(0, DocumentStatus.FAILED, "b")]
    error = DocumentFailure(code="b", message="Second.")

    drafts = story.tell(entries, 0, {0: record(0, DocumentStatus.FAILED, error=error)})

    assert types(drafts) == ["document.started", "document.failed"] * 2
    assert [drafts[index].data["error"]["code"] for index in (1, 3)] == ["a", "b"]


def test_a_cancelled_document_is_told_once() -> None:
    """The journal knows of it before the catalog does; the catalog's later word adds nothing."""
    story = Story(BATCH)
    pending = record(0, DocumentStatus.PENDING, ended_at=None)
    story.tell([ended(0, DocumentStatus.CANCELLED)], 0, {0: pending})

    assert story.tell_missed([record(0, DocumentStatus.CANCELLED)], 1, NOW) == []


def test_a_document_that_nobody_saw_start_is_told_whole() -> None:
    """Its start comes with it, at its own time, between the others."""
    quick = record(0, DocumentStatus.DONE, started_at=NOW, ended_at=NOW + timedelta(seconds=2))
    other = record(1, DocumentStatus.DONE, ended_at=NOW + timedelta(seconds=1))

    missed = Story(BATCH).tell_missed([quick, other], 0, NOW)

    assert types(missed) == ["document.started", "document.succeeded", "document.succeeded"]
    assert [draft.data["ordinal"] for draft in missed] == [0, 1, 0]


def test_ends_from_before_a_trimmed_log_are_not_told_again() -> None:
    """Where the log lost its oldest events, older ends were told by them."""
    story = Story(BATCH, horizon=NOW)
    old = record(0, DocumentStatus.DONE, ended_at=NOW - timedelta(seconds=1))

    missed = story.tell_missed([old, record(1, DocumentStatus.DONE)], 1, NOW)

    assert [draft.data["ordinal"] for draft in missed] == [1]


def test_another_poller_knows_what_the_first_one_knew() -> None:
    """Recalling the logged events leads to the same story as telling them."""
    told, recalled = Story(BATCH), Story(BATCH)
    entries = [state(BatchState.RUNNING), started(0), started(1), ended(0, DocumentStatus.DONE)]
    drafts = told.tell(entries, 0, {0: record(0, DocumentStatus.DONE)})
    for draft, event in numbered(drafts, BATCH, iter(range(1, 10))):
        recalled.recall(event.type, draft.state, encode(event))

    assert recalled == told


@given(st.text())
def test_no_name_breaks_a_line(name: str) -> None:
    """Whatever a file is called, an encoded event is one line for every client, and says the name unchanged."""
    event = Event(seq=1, type=EventType.DOCUMENT_STARTED, time=NOW, batch_id=BATCH, data={"filename": name})

    body = encode(event)

    assert not {b"\r", b"\n", b"\0"} & {bytes([byte]) for byte in body}
    assert len(body.decode().splitlines()) == 1
    assert orjson.loads(body)["data"]["filename"] == name


def test_the_envelope_is_the_same_everywhere() -> None:
    """Id, seq, type, time in UTC, batch and data."""
    event = Event(seq=42, type=EventType.BATCH_PAUSED, time=NOW, batch_id=BATCH, data={"status": "paused"})

    envelope = orjson.loads(encode(event))

    assert datetime.fromisoformat(envelope.pop("time")) == NOW
    assert envelope == {
        "id": "42",
        "seq": 42,
        "type": "batch.paused",
        "batch_id": BATCH,
        "data": {"status": "paused"},
    }


def test_live_files_show_their_stage_and_their_name() -> None:
    """The name comes with the heartbeat, or from the catalog before the first one."""
    beat = DocumentHeartbeat(stage=Stage.EMBEDDING, filename="a.pdf", started_at=NOW)

    files = live_files(BATCH, {2: NOW, 1: NOW}, {2: beat}, {1: "b.pdf"})

    assert [(file["ordinal"], file["filename"], file["stage"]) for file in files] == [
        (1, "b.pdf", None),
        (2, "a.pdf", "embedding"),
    ]


def test_progress_is_absolute() -> None:
    """One event missed costs nothing: every number is the whole number."""
    counts = Counts(total=4, done=1, failed=1, in_flight=1, pending=1)

    data = progress_data(BatchProgress(state=BatchState.RUNNING, counts=counts, version=8))

    assert data["counts"] == counts.model_dump()
    assert data["progress"] == 0.5


@pytest.mark.parametrize(
    ("value", "in_flight", "waits"),
    [
        (BatchState.PAUSED, 0, True),
        (BatchState.PAUSING, 1, False),
        (BatchState.RUNNING, 0, False),
        (BatchState.PENDING, 0, True),
    ],
)
def test_a_batch_waits_when_only_a_message_can_move_it(value: BatchState, in_flight: int, waits: bool) -> None:
    """Then it is asked less often."""
    counts = Counts(total=2, in_flight=in_flight, pending=2 - in_flight)

    assert is_waiting(BatchProgress(state=value, counts=counts)) is waits

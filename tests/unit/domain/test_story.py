"""Journal entries and catalog rows become events, each once."""

from datetime import UTC, datetime, timedelta

import pytest

from ingather.domain.event_stream import Draft
from ingather.domain.live_progress import ChildKey
from ingather.domain.story import Story, ended_in
from ingather.models.batch import BatchState
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus
from ingather.models.events import EventType
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.messages import JournalEntry, JournalKind

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


def types(drafts: list[Draft]) -> list[str]:
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

    drafts = Story(BATCH).tell([state(value) for value in states], {})

    expected = ["batch.created", "batch.queued", "batch.started", "batch.pausing", "batch.paused", "batch.resumed"]
    assert types(drafts) == expected


def test_a_pause_during_a_retry_ends_in_resumed() -> None:
    """After a pause the batch is resumed, also where it goes back to retrying."""
    story = Story(BATCH)
    story.tell([state(BatchState.RETRYING), state(BatchState.PAUSED)], {})

    assert types(story.tell([state(BatchState.RETRYING)], {})) == ["batch.resumed"]


def test_a_failed_document_says_what_and_what_to_do() -> None:
    """Code, message, stage and advice come with the event."""
    error = DocumentFailure(code="corrupt", message="Cannot be read.", stage=Stage.PARSING, action="Save it again.")
    failed = record(4, DocumentStatus.FAILED, error=error)

    [draft] = Story(BATCH).tell([ended(4, DocumentStatus.FAILED, "corrupt")], {4: failed})

    assert draft.type is EventType.DOCUMENT_FAILED
    assert draft.data["filename"] == "document-4.txt"
    assert draft.data["document_id"] == file_id_for(BATCH, 4)
    expected = {"code": "corrupt", "message": "Cannot be read.", "stage": "parsing", "action": "Save it again."}
    assert draft.data["error"] == expected


def test_an_event_never_mixes_two_attempts() -> None:
    """A document that failed and has succeeded since is told as failed, without the success's chunks."""
    done = record(1, DocumentStatus.DONE, chunk_count=7, attempts=2)

    [draft] = Story(BATCH).tell([ended(1, DocumentStatus.FAILED, "corrupt")], {1: done})

    assert draft.data["error"]["code"] == "corrupt"
    assert "chunks" not in draft.data


def test_a_document_that_the_catalog_does_not_know_is_told_all_the_same() -> None:
    """Nothing is dropped: id and status are known from the journal alone."""
    [draft] = Story(BATCH).tell([started(9)], {})

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
    story.tell([ended(0, DocumentStatus.DONE)], {0: first})

    missed = story.tell_missed([first, second, record(2, DocumentStatus.PENDING)], NOW)

    assert [draft.data["ordinal"] for draft in missed] == [1]


def test_a_document_that_failed_again_is_told_again() -> None:
    """The same end at another time is another event."""
    story = Story(BATCH)
    story.tell([ended(0, DocumentStatus.FAILED, "corrupt")], {0: record(0, DocumentStatus.FAILED)})

    later = record(0, DocumentStatus.FAILED, ended_at=NOW + timedelta(seconds=9))
    missed = story.tell_missed([later], NOW)

    assert types(missed) == ["document.failed"]


def test_what_the_catalog_told_first_is_not_told_by_the_journal() -> None:
    """Where the catalog was ahead of the journal, the journal's entries of the same attempt add nothing."""
    story = Story(BATCH)
    done = record(0, DocumentStatus.DONE, started_at=NOW)
    story.tell_missed([done], NOW, early=True)

    assert story.tell([started(0), ended(0, DocumentStatus.DONE)], {0: done}) == []


def test_two_failures_within_one_page_are_two_events() -> None:
    """Failed, retried, failed again: started and failed twice, though the catalog knows the last end only."""
    story = Story(BATCH)
    entries = [started(0), ended(0, DocumentStatus.FAILED, "a"), started(0), ended(0, DocumentStatus.FAILED, "b")]
    error = DocumentFailure(code="b", message="Second.")

    drafts = story.tell(entries, {0: record(0, DocumentStatus.FAILED, error=error)})

    assert types(drafts) == ["document.started", "document.failed"] * 2
    assert [drafts[index].data["error"]["code"] for index in (1, 3)] == ["a", "b"]


def test_a_cancelled_document_is_told_once() -> None:
    """The journal knows of it before the catalog does; the catalog's later word adds nothing."""
    story = Story(BATCH)
    pending = record(0, DocumentStatus.PENDING, ended_at=None)
    story.tell([ended(0, DocumentStatus.CANCELLED)], {0: pending})

    assert story.tell_missed([record(0, DocumentStatus.CANCELLED)], NOW) == []


def test_a_row_that_its_batch_knows_nothing_of_is_not_told() -> None:
    """The worker wrote the end, but could not answer before the batch counted the document as cancelled."""
    told = Story(BATCH)
    told.tell([started(0), ended(0, DocumentStatus.CANCELLED)], {})
    story = Story.load(BATCH, told.notes(whole=True), NOW)
    begun, later = NOW - timedelta(seconds=1), NOW + timedelta(minutes=1)

    assert story.tell_missed([record(0, DocumentStatus.DONE, started_at=begun)], NOW) == []
    # A retry that nobody saw is another matter.
    assert types(story.tell_missed([record(0, DocumentStatus.DONE, started_at=later, ended_at=later)], later)) == [
        "document.started",
        "document.succeeded",
    ]


def test_a_document_told_as_done_is_not_cancelled_later() -> None:
    """The row was told first, then put right by the batch's word."""
    story = Story(BATCH)
    story.tell_missed([record(0, DocumentStatus.DONE, started_at=NOW)], NOW)

    corrected = record(0, DocumentStatus.CANCELLED, ended_at=NOW + timedelta(seconds=3))
    assert story.tell_missed([corrected], NOW) == []


def test_a_document_that_nobody_saw_start_is_told_whole() -> None:
    """Its start comes with it, at its own time, between the others."""
    quick = record(0, DocumentStatus.DONE, started_at=NOW, ended_at=NOW + timedelta(seconds=2))
    other = record(1, DocumentStatus.DONE, ended_at=NOW + timedelta(seconds=1))

    missed = Story(BATCH).tell_missed([quick, other], NOW)

    assert types(missed) == ["document.started", "document.succeeded", "document.succeeded"]
    assert [draft.data["ordinal"] for draft in missed] == [0, 1, 0]


def test_another_poller_knows_what_the_first_one_knew() -> None:
    """What was noted beside the events leads to the same story as telling them."""
    told = Story(BATCH)
    told.begin_child(ChildKey(3, 1))
    entries = [state(BatchState.RUNNING), started(0), started(1), ended(0, DocumentStatus.DONE)]
    told.tell(entries, {0: record(0, DocumentStatus.DONE)})
    told.position, told.version = 17, 4
    notes = told.notes(whole=True)
    told.tell([ended(5_000, DocumentStatus.FAILED, "corrupt")], {})
    loaded = Story.load(BATCH, notes | told.notes(whole=False), NOW)

    assert (loaded.position, loaded.version, loaded.state) == (17, 4, BatchState.RUNNING)
    assert loaded.children == {ChildKey(3, 1): 0}
    assert set(loaded.running) == {1}
    assert loaded.tell_missed([record(0, DocumentStatus.DONE), record(5_000, DocumentStatus.FAILED)], NOW) == []
    assert types(loaded.tell_missed([record(1, DocumentStatus.DONE)], NOW)) == ["document.succeeded"]


def test_without_notes_there_is_no_story() -> None:
    """Then its teller begins anew, and says that something is missing."""
    assert Story.load(BATCH, {}, NOW) is None


def test_damaged_notes_are_an_error() -> None:
    """Better no memory than a wrong one."""
    notes = Story(BATCH).notes(whole=True) | {"told:0": b"no deflate stream"}

    with pytest.raises(ValueError, match="damaged"):
        Story.load(BATCH, notes, NOW)


def test_what_was_passed_over_is_not_told_later() -> None:
    """An announced gap stands for it; what happens to the document afterwards is told."""
    story = Story(BATCH)
    story.tell([ended(1, DocumentStatus.DONE)], {1: record(1, DocumentStatus.DONE)})
    story.pass_over([0])

    assert story.tell_missed([record(0, DocumentStatus.FAILED)], NOW) == []
    assert types(story.tell([started(0)], {})) == ["document.started"]


def test_a_child_s_documents_that_ran_again_are_left_to_the_later_child() -> None:
    """Once a later round has begun, a row that ended after the child did is of that round."""
    entry = JournalEntry(kind=JournalKind.CHILD_ENDED, at=NOW, child=0)
    own = record(0, DocumentStatus.FAILED, ended_at=NOW - timedelta(seconds=1))
    later = record(1, DocumentStatus.DONE, ended_at=NOW + timedelta(seconds=1))

    assert ended_in(entry, [own, later], is_last_round=True) == [own, later]
    assert ended_in(entry, [own, later], is_last_round=False) == [own]

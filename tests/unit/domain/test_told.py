"""One byte a document: what was told of it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ingather.domain.told import BLOCK_SIZE, Told
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for

BATCH = "01890000-0000-7000-8000-0000000000aa"
NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
ENDS = [DocumentStatus.DONE, DocumentStatus.FAILED, DocumentStatus.SKIPPED, DocumentStatus.CANCELLED]


def record(ordinal: int, status: DocumentStatus, ended_at: datetime | None = NOW) -> DocumentRecord:
    return DocumentRecord(
        file_id=file_id_for(BATCH, ordinal),
        tenant_id=DEFAULT_TENANT_ID,
        batch_id=BATCH,
        ordinal=ordinal,
        filename="a.txt",
        collection="default",
        status=status,
        ended_at=ended_at,
    )


@given(
    st.dictionaries(st.integers(0, 3 * BLOCK_SIZE), st.sampled_from([DocumentStatus.IN_FLIGHT, *ENDS]), max_size=30),
    st.dictionaries(st.integers(0, 3 * BLOCK_SIZE), st.sampled_from(ENDS), max_size=30),
)
def test_notes_and_their_changes_bring_back_the_same(before, after) -> None:
    """Whatever was told before the notes were taken, and after."""
    told = Told()
    for ordinal, status in before.items():
        told.note(ordinal, status)
    notes = told.notes()
    for ordinal, status in after.items():
        told.note(ordinal, status)
    loaded = Told.load(notes | told.changes())

    expected = {**before, **after}
    assert {ordinal: loaded.status(ordinal) for ordinal in expected} == expected
    unsettled = set(range(3 * BLOCK_SIZE + 1)) - {o for o, s in expected.items() if s in ENDS}
    assert set(loaded.unsettled(3 * BLOCK_SIZE + 1)) == unsettled
    assert loaded.count_unsettled(3 * BLOCK_SIZE + 1) == len(unsettled)
    assert set(loaded.running()) == {o for o, s in expected.items() if s is DocumentStatus.IN_FLIGHT}


def test_a_change_is_small_in_a_large_batch() -> None:
    """A million documents told are a few kilobytes of notes, and one more is one note."""
    told = Told()
    for ordinal in range(0, 1_000_000, 1_000):
        told.note(ordinal, DocumentStatus.DONE, NOW)
    assert sum(map(len, told.notes().values())) < 100_000
    told.note(999_999, DocumentStatus.FAILED, NOW)

    assert len(told.changes()) == 1
    assert told.changes() == {}


def test_the_same_end_at_a_later_time_was_not_told() -> None:
    """Failed, retried where nobody saw it, failed again."""
    told = Told()
    told.note(0, DocumentStatus.FAILED, NOW)

    assert told.has(record(0, DocumentStatus.FAILED))
    assert not told.has(record(0, DocumentStatus.FAILED, NOW + timedelta(seconds=9)))
    assert not told.has(record(0, DocumentStatus.DONE))


def test_an_end_told_without_a_time_is_told_whatever_the_time() -> None:
    """The journal knew of a cancelled document before the catalog did."""
    told = Told()
    told.note(0, DocumentStatus.CANCELLED)

    assert told.has(record(0, DocumentStatus.CANCELLED, NOW + timedelta(hours=1)))


def test_failed_documents_may_have_run_again() -> None:
    """After a retry they are looked at too, done ones where everything may have been retried."""
    told = Told()
    for ordinal, status in enumerate(ENDS):
        told.note(ordinal, status, NOW)

    assert list(told.unsettled(6)) == [4, 5]
    assert list(told.unsettled(6, with_failed=True)) == [1, 4, 5]
    assert list(told.unsettled(6, with_retriable=True)) == [1, 3, 4, 5]
    assert list(told.unsettled(6, with_all=True)) == [0, 1, 2, 3, 4, 5]

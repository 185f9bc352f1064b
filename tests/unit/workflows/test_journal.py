"""The journal is read on from any position, and a continue-as-new takes its end along."""

import random
import tracemalloc
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ingather.domain.bitmap import encode_bitmap
from ingather.models.messages import JournalEntry, JournalKind
from workflows.journal import CARRIED_BYTES, PAGE_SIZE, Journal

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def entries(count):
    return [JournalEntry(kind=JournalKind.STARTED, at=NOON, ordinal=ordinal) for ordinal in range(count)]


@given(st.integers(0, 50), st.integers(0, 3_500), st.integers(0, 4_000))
def test_a_reader_goes_on_from_where_it_was(first, count, after):
    """It gets entries from its position on, in order; what was let go shows in the first position."""
    journal = Journal(first, entries(count))

    start, page = journal.page(after)

    assert start == min(max(after, first), first + count)
    assert len(page) == min(PAGE_SIZE, first + count - start)
    assert [entry.ordinal for entry in page] == list(range(start - first, start - first + len(page)))


def test_reading_page_by_page_sees_everything_once():
    """However long it is."""
    journal, seen, after = Journal(5, entries(2_345)), [], 0
    while True:
        start, page = journal.page(after)
        if not page:
            break
        seen += page
        after = start + len(page)

    assert [entry.ordinal for entry in seen] == list(range(2_345))
    assert after == journal.next


@given(st.integers(0, 10), st.integers(0, 4_000))
def test_positions_go_on_over_a_continue_as_new(first, count):
    """The next run has the end of the journal under the same positions."""
    journal = Journal(first, entries(count))

    position, kept = journal.tail()
    again = Journal(position, kept)

    assert len(kept) >= min(count, 2_000)
    assert again.next == journal.next
    assert again.page(journal.next - 1) == journal.page(journal.next - 1)


def test_what_a_continue_as_new_takes_along_has_a_size():
    """Also where every entry names the scattered documents of a child that ran them again."""
    scattered = encode_bitmap(random.Random(7).sample(range(10_000), 1_000))
    entry = JournalEntry(kind=JournalKind.CHILD_ENDED, at=NOON, child=7, retry_round=1, ordinals=scattered)
    journal = Journal(3, [entry] * 4_000)

    position, kept = journal.tail()

    size = len(TypeAdapter(tuple[JournalEntry, ...]).dump_json(kept))
    assert CARRIED_BYTES - 3_000 < size <= CARRIED_BYTES
    assert position + len(kept) == journal.next


def test_what_happened_to_very_many_documents_fits_into_a_worker():
    """It keeps the journals of hundreds of children, each with two entries a document."""
    told = entries(2_000)
    tracemalloc.start()
    try:
        journal = Journal(0, entries(2_000))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size < 2_000 * 200
    assert journal.page(1_000)[1] == tuple(told[1_000:])


def test_a_closed_batchs_journal_goes_on_where_it_ended():
    """Positions are never used twice for a batch."""
    journal = Journal(7)
    assert (journal.next, journal.page(0)) == (7, (7, ()))

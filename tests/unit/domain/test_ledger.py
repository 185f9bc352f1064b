"""The ledger's counts add up whatever happens, and it comes back from its letters as it was."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingather.domain.bitmap import encode_bitmap
from ingather.domain.ledger import Ledger
from ingather.models.batch import Counts, SourceSlice
from ingather.models.document import DocumentStatus

CODES = ("corrupt", "encrypted", "parser_timeout")
STATUSES = st.sampled_from(DocumentStatus)
MOVES = st.lists(st.tuples(st.integers(0, 11), STATUSES, st.sampled_from((None, *CODES))), max_size=60)


def after(moves, document_count=12):
    ledger = Ledger(document_count)
    for ordinal, status, code in moves:
        ledger.move(ordinal, status, code if status is DocumentStatus.FAILED else None)
    return ledger


class AnyBatch(RuleBasedStateMachine):
    """Random moves against the simplest book there could be: a dictionary."""

    @initialize(document_count=st.integers(0, 20))
    def begin(self, document_count):
        self.ledger = Ledger(document_count)
        self.book = dict.fromkeys(range(document_count), (DocumentStatus.PENDING, None))

    @rule(ordinal=st.integers(0, 19), status=STATUSES, code=st.sampled_from((None, *CODES)))
    def move(self, ordinal, status, code):
        if ordinal in self.book:
            code = code if status is DocumentStatus.FAILED else None
            self.ledger.move(ordinal, status, code)
            self.book[ordinal] = (status, code)

    @rule()
    def carry_over(self):
        self.ledger = Ledger.load(self.ledger.letters(), self.ledger.failures())

    @invariant()
    def counts_add_up(self):
        counts = self.ledger.counts
        assert counts.total == len(self.book) == len(self.ledger)
        for status in DocumentStatus:
            assert getattr(counts, status.value) == self.ledger.count(status) == len(self.having(status))

    @invariant()
    def the_lowest_pending_is_next(self):
        assert self.ledger.next_pending() == min(self.having(DocumentStatus.PENDING), default=None)

    @invariant()
    def failures_are_the_failed_ones(self):
        codes = [code for _, code in self.book.values() if code]
        assert self.ledger.failures_by_code == {code: codes.count(code) for code in codes}
        assert list(self.ledger.failed()) == self.having(DocumentStatus.FAILED)
        for code in CODES:
            wanted = [ordinal for ordinal, (_, own) in self.book.items() if own == code]
            assert list(self.ledger.failed(codes=[code])) == wanted

    def having(self, status):
        return [ordinal for ordinal, (own, _) in self.book.items() if own is status]


TestAnyBatch = AnyBatch.TestCase
TestAnyBatch.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(MOVES)
def test_a_ledger_comes_back_from_what_it_wrote(moves):
    """Letters and bitmaps hold all there is, and are written the same again."""
    ledger = after(moves)

    again = Ledger.load(ledger.letters(), ledger.failures())

    assert again.letters() == ledger.letters()
    assert again.failures() == ledger.failures()
    assert again.counts == ledger.counts
    assert again.failures_by_code == ledger.failures_by_code
    assert again.next_pending() == ledger.next_pending()


@given(MOVES)
def test_sources_divide_the_counts(moves):
    """What the sources count adds up to what the batch counts."""
    ledger = after(moves)
    slices = [
        SourceSlice(name=str(start), source_type="zip", first_ordinal=start, document_count=count)
        for start, count in ((0, 5), (5, 0), (5, 7))
    ]

    parts = ledger.sources(slices)

    assert [part.counts.total for part in parts] == [5, 0, 7]
    for field in Counts.model_fields:
        assert sum(getattr(part.counts, field) for part in parts) == getattr(ledger.counts, field)


@given(MOVES, st.sets(st.sampled_from(CODES)), st.sets(st.integers(0, 15)))
def test_a_filter_without_values_lets_everything_through(moves, codes, ordinals):
    """Codes and ordinals narrow the failed ones down, each by itself and both together."""
    ledger = after(moves)

    found = set(ledger.failed(sorted(codes), sorted(ordinals)))

    by_code = set(ledger.failed(sorted(codes)))
    by_ordinal = set(ledger.failed((), sorted(ordinals)))
    assert found == by_code & by_ordinal
    if not ordinals:
        assert found == by_code


@given(MOVES, st.sets(st.integers(0, 15)))
def test_cancelled_ones_are_named_or_all(moves, ordinals):
    """A retry that names ordinals takes no other cancelled document along."""
    ledger = after(moves)
    everyone = set(ledger.where(DocumentStatus.CANCELLED))

    assert set(ledger.cancelled()) == everyone
    assert set(ledger.cancelled(sorted(ordinals))) == (everyone & ordinals if ordinals else everyone)


def test_codes_are_told_most_frequent_first():
    """The first line of a summary is the one that matters."""
    ledger = Ledger(4)
    for ordinal, code in enumerate(("encrypted", "corrupt", "corrupt", "archive_refused")):
        ledger.move(ordinal, DocumentStatus.FAILED, code)

    assert list(ledger.failures_by_code) == ["corrupt", "archive_refused", "encrypted"]


def test_a_retried_document_loses_its_code():
    """What runs again has not failed."""
    ledger = Ledger(1)
    ledger.move(0, DocumentStatus.FAILED, "corrupt")
    ledger.move(0, DocumentStatus.PENDING)

    assert (ledger.failures_by_code, ledger.failures()) == ({}, {})


def test_a_thousand_documents_stay_small():
    """What travels in a continue-as-new is about a byte a document."""
    ledger = Ledger(1_000)
    for ordinal in range(0, 1_000, 2):
        ledger.move(ordinal, DocumentStatus.FAILED, "corrupt")

    assert len(ledger.letters()) == 1_000
    assert len(ledger.failures()["corrupt"]) <= 180


def test_letters_of_another_version_are_refused():
    """Better than to count them wrongly."""
    with pytest.raises(ValueError, match="stands for nothing"):
        Ledger.load("pdx", {})


def test_a_ledger_of_a_million_is_written_in_a_few_kilobytes():
    """It travels in a workflow's input and result."""
    ledger = Ledger(1_000_000)
    ledger.move_all(DocumentStatus.PENDING, DocumentStatus.DONE)
    for ordinal in range(0, 1_000_000, 1_000):
        ledger.move(ordinal, DocumentStatus.FAILED, "corrupt")

    assert len(ledger.letters()) < 10_000
    assert Ledger.load(ledger.letters(), ledger.failures()).counts == ledger.counts


@given(MOVES, STATUSES, STATUSES, st.sampled_from((None, *CODES)))
def test_moving_all_of_a_status_is_moving_each(moves, source, target, code):
    """Counts, codes and the next one are the same."""
    together, one_by_one = after(moves), after(moves)
    moved = together.move_all(source, target, code)
    for ordinal in moved:
        one_by_one.move(ordinal, target, code)

    assert moved == list(after(moves).where(source))
    assert together.counts == one_by_one.counts
    assert (together.letters(), together.failures()) == (one_by_one.letters(), one_by_one.failures())
    assert together.next_pending() == one_by_one.next_pending()
    assert together.failures_by_code == one_by_one.failures_by_code


@given(MOVES, st.lists(st.sampled_from(CODES)), st.lists(st.integers(0, 11)), st.booleans())
def test_reset_takes_what_matches_back_to_pending(moves, codes, ordinals, include_cancelled):
    """With and without filters."""
    ledger = after(moves)
    expected = list(ledger.failed(codes, ordinals)) + (list(ledger.cancelled(ordinals)) if include_cancelled else [])
    pending = set(ledger.where(DocumentStatus.PENDING))

    assert ledger.reset(codes, ordinals, include_cancelled=include_cancelled) == sorted(expected)
    assert set(ledger.where(DocumentStatus.PENDING)) == pending | set(expected)


def test_everything_that_ended_can_be_set_back():
    """A retry of everything takes what is done and skipped too; what has not ended is not touched."""
    ledger = Ledger.load("dfscip", {"corrupt": encode_bitmap([1])})

    assert ledger.reset(include_done=True) == [0, 1, 2, 3]
    assert (ledger.letters(), ledger.failures_by_code, ledger.next_pending()) == ("ppppip", {}, 0)


def test_a_part_brings_its_ends_home():
    """A child runs some documents of its parent's ledger, by their place among themselves."""
    whole, part = Ledger(6), Ledger(2)
    part.move(0, DocumentStatus.DONE)
    part.move(1, DocumentStatus.FAILED, "corrupt")

    whole.apply((2, 5), part.letters(), part.failures())

    assert (whole.letters(), whole.code(5)) == ("ppdppf", "corrupt")


@pytest.mark.parametrize("letters", ["z", "zAAAA", "z!!"])
def test_a_damaged_long_ledger_is_refused(letters):
    """As a short one is."""
    with pytest.raises(ValueError, match=r"."):
        Ledger.load(letters, {})

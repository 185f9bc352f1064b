"""The ledger's counts add up whatever happens, and it comes back from its letters as it was."""

import base64
import random
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingather.domain import ledger as ledger_module
from ingather.domain.bitmap import encode_bitmap, encode_flags
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


MILLION = 1_000_000


@pytest.fixture(scope="module")
def million_failed():
    """Written down: all failed, in turn with each code."""
    by_code = {code: encode_bitmap(range(place, MILLION, len(CODES))) for place, code in enumerate(CODES)}
    return Ledger.load("f" * MILLION, by_code).written()


def test_a_ledger_of_a_million_is_written_in_a_few_kilobytes():
    """It travels in a workflow's input and result."""
    ledger = Ledger(MILLION)
    ledger.move_all(DocumentStatus.PENDING, DocumentStatus.DONE)
    for ordinal in range(0, MILLION, 1_000):
        ledger.move(ordinal, DocumentStatus.FAILED, "corrupt")

    text, failures = ledger.written()

    assert (len(text) < 10_000, failures) == (True, {})
    assert Ledger.load(text, failures).counts == ledger.counts


def test_a_million_without_any_order_stay_below_what_the_server_warns_at():
    """Any of four states and of twenty codes, each document by itself: 480 of 512 KiB."""
    codes = [f"code_{number}" for number in range(20)]
    # One in four fails, with each code as often: eighty sides, of which twenty are codes.
    thrown = bytes(random.Random(12).choices(range(80), k=MILLION))
    letters = thrown.translate(bytes([*b"f" * 20, *b"p" * 20, *b"d" * 20, *b"s" * 20, *bytes(176)])).decode()
    failed = {
        code: encode_flags(thrown.translate(bytes(side == number for side in range(256))))
        for number, code in enumerate(codes)
    }
    ledger = Ledger.load(letters, failed)

    text, failures = ledger.written()

    assert len(text) < 485 * 1024
    assert failures == {}
    again = Ledger.load(text, failures)
    assert (again.letters(), again.failures()) == (letters, failed)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1_200), STATUSES, st.sampled_from((None, *CODES))), max_size=60))
def test_a_long_ledger_comes_back_from_its_text(moves):
    """Whatever is in it, and in whichever order its codes were first seen."""
    ledger = after(moves, 1_201)

    again = Ledger.load(*ledger.written())

    assert (again.letters(), again.failures()) == (ledger.letters(), ledger.failures())
    assert (again.counts, again.failures_by_code) == (ledger.counts, ledger.failures_by_code)
    assert again.written() == ledger.written()


def test_a_short_ledger_is_written_so_that_people_can_read_it():
    """Letters, and failures by code."""
    assert after([(1, DocumentStatus.FAILED, "corrupt")], 3).written() == ("pfp", {"corrupt": "0:Ag=="})


def test_the_long_form_of_earlier_versions_is_read():
    """Batches that ended before are opened again."""
    letters = "dfs" * 500
    deflated = "z" + base64.b64encode(zlib.compress(letters.encode())).decode()

    ledger = Ledger.load(deflated, {"corrupt": encode_bitmap(range(1, 1_500, 3))})

    assert ledger.letters() == letters
    assert ledger.failures_by_code == {"corrupt": 500}


def test_there_is_no_code_too_many():
    """What finds no room for its code has failed all the same."""
    ledger = Ledger(300)
    for ordinal in range(300):
        ledger.move(ordinal, DocumentStatus.FAILED, f"code_{ordinal}")

    assert ledger.count(DocumentStatus.FAILED) == 300
    assert len(ledger.failures_by_code) == 250
    assert (ledger.code(249), ledger.code(250)) == ("code_249", None)


def steps_of(action):
    """How many lines of the ledger's own code run: what a workflow task's time grows with."""
    steps = 0

    def trace(frame, event, _):
        nonlocal steps
        if frame.f_code.co_filename != ledger_module.__file__:
            return None
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize(
    "action",
    [
        lambda ledger: ledger.reset(CODES[:2]),
        lambda ledger: ledger.reset(CODES[:2], include_cancelled=True),
        lambda ledger: ledger.reset(),
        lambda ledger: ledger.reset(include_done=True),
        lambda ledger: ledger.move_all(DocumentStatus.FAILED, DocumentStatus.PENDING),
        lambda ledger: ledger.move_all(DocumentStatus.FAILED, DocumentStatus.FAILED, "unknown"),
        lambda ledger: ledger.written(),
        lambda ledger: Ledger.load(*ledger.written()),
        lambda ledger: (ledger.letters(), ledger.failures()),
        lambda ledger: ledger.counts,
    ],
    ids=["codes", "codes and cancelled", "failed", "all", "move", "fail", "write", "read", "letters", "count"],
)
def test_what_concerns_a_million_is_not_done_one_by_one(action, million_failed):
    """A workflow task may not think for two seconds: a million documents take a few dozen steps."""
    ledger = Ledger.load(*million_failed)

    assert steps_of(lambda: action(ledger)) < 250


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


@pytest.mark.parametrize("letters", ["z", "zAAAA", "z!!", "y", "yAAAA", 'y"', "y~~~~~"])
def test_a_damaged_long_ledger_is_refused(letters):
    """As a short one is."""
    with pytest.raises(ValueError, match=r"."):
        Ledger.load(letters, {})

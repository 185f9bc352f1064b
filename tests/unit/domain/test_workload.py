"""What is left of a batch, by the sizes of its documents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingather.domain.workload import DocumentWork, Workload

SMALL, LARGE = 5_000, 3_000_000


def remaining_seconds(documents, in_flight, elapsed_seconds):
    """At a first look."""
    return Workload().remaining_seconds(documents, in_flight, elapsed_seconds, now=1_000.0)


def batch(ended: int, rest: list[int], busy_seconds: float = 0.005) -> list[DocumentWork]:
    """So many small documents that have ended, and others of these sizes that have not."""
    done = [DocumentWork(ordinal, SMALL, is_ended=True, busy_seconds=busy_seconds) for ordinal in range(ended)]
    return done + [DocumentWork(ended + place, size, is_ended=False) for place, size in enumerate(rest)]


@pytest.mark.parametrize(("ended", "left"), [(20, 80), (500, 500), (1, 9)])
def test_documents_of_one_size_take_what_those_before_them_took(ended, left):
    """The rest goes on at the pace so far."""
    seconds = remaining_seconds(batch(ended, [SMALL] * left), (), elapsed_seconds=ended * 0.1)
    assert seconds == pytest.approx(left * 0.1, rel=0.1)


def test_a_large_document_outlasts_many_small_ones():
    """Eighty small ones are done in two seconds; three megabytes at their end take two more by themselves."""
    without = remaining_seconds(batch(20, [SMALL] * 80), (), elapsed_seconds=0.5)
    with_large = remaining_seconds(batch(20, [*[SMALL] * 79, LARGE]), (), elapsed_seconds=0.5)
    assert without == pytest.approx(2.0, rel=0.1)
    assert with_large == pytest.approx(5.1, rel=0.2)


def test_a_large_document_under_way_comes_nearer_its_end():
    """What it has had already is not waited for again; it is never expected to have ended before now."""
    workload = Workload()
    looks = [
        workload.remaining_seconds(batch(99, [LARGE]), {99}, elapsed_seconds=2.0 + passed, now=1_000.0 + passed)
        for passed in (0.0, 0.5, 1.0, 60.0)
    ]
    assert looks[0] == pytest.approx(3.1, rel=0.2)
    assert looks[0] - looks[1] == pytest.approx(0.5, abs=0.1)
    assert looks[1] - looks[2] == pytest.approx(0.5, abs=0.1)
    assert 0 <= looks[3] < 3


def test_a_document_that_is_sent_back_begins_anew():
    """One that is no longer in flight is forgotten until it is again."""
    workload = Workload()
    alone = batch(99, [LARGE])
    workload.remaining_seconds(alone, {99}, elapsed_seconds=2.0, now=1_000.0)
    workload.remaining_seconds(alone, (), elapsed_seconds=4.0, now=1_002.0)
    assert workload.remaining_seconds(alone, {99}, elapsed_seconds=4.0, now=1_002.0) == pytest.approx(3.1, rel=0.2)


def test_what_bytes_cost_is_learned():
    """A machine, or a model, that is ten times slower is known after some megabytes."""
    ended = [DocumentWork(number, 1_000_000, is_ended=True, busy_seconds=9.0) for number in range(20)]
    rest = [DocumentWork(20, LARGE, is_ended=False)]
    assert remaining_seconds([*ended, *rest], {20}, elapsed_seconds=90.0) > 20


def test_many_lanes_are_not_mistaken_for_two():
    """Where large documents go through quickly together, the rest is expected to do so too."""
    ended = [DocumentWork(number, 1_000_000, is_ended=True, busy_seconds=0.8) for number in range(100)]
    rest = [DocumentWork(100 + number, 1_000_000, is_ended=False) for number in range(100)]
    assert remaining_seconds([*ended, *rest], (), elapsed_seconds=2.5) == pytest.approx(2.5, rel=0.35)


@pytest.mark.parametrize(("ended", "elapsed"), [(0, 5.0), (3, 0.0)])
def test_nothing_is_said_before_anything_is_known(ended, elapsed):
    """No document has ended, or no time has passed."""
    assert remaining_seconds(batch(ended, [SMALL]), (), elapsed) is None


SIZES = st.integers(0, 200_000_000)


@given(
    st.lists(st.tuples(SIZES, st.floats(0, 60)), min_size=1, max_size=30),
    st.lists(SIZES, max_size=30),
    st.floats(0.001, 10_000),
    st.sets(st.integers(0, 60)),
)
def test_there_is_always_an_answer_and_it_is_not_negative(ended, rest, elapsed, in_flight):
    """For all batches of which something has ended: seconds that are there; none where nothing is left; more with more."""
    done = [DocumentWork(n, size, is_ended=True, busy_seconds=busy) for n, (size, busy) in enumerate(ended)]
    left = [DocumentWork(len(done) + n, size, is_ended=False) for n, size in enumerate(rest)]
    seconds = remaining_seconds([*done, *left], in_flight, elapsed)
    assert seconds is not None
    assert seconds >= 0
    assert (seconds > 0) == bool(left)
    more = DocumentWork(len(done) + len(left), 1_000, is_ended=False)
    longer = remaining_seconds([*done, *left, more], in_flight, elapsed)
    assert longer is not None
    assert longer >= seconds

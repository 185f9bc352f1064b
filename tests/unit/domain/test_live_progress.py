"""A parent's numbers and its children's are one snapshot that adds up."""

from hypothesis import given
from hypothesis import strategies as st

from ingather.domain.live_progress import ChildKey, is_newer, merged, not_behind
from ingather.models.batch import BatchProgress, BatchState, ChildProgress, Counts, SourceProgress


def counts(**parts: int) -> Counts:
    return Counts(total=sum(parts.values()), **parts)


def parent(*sizes: int, state: BatchState = BatchState.RUNNING, **parts: int) -> BatchProgress:
    children = tuple(ChildProgress(index=index, document_count=size) for index, size in enumerate(sizes))
    own = counts(in_flight=sum(sizes), **parts)
    return BatchProgress(
        state=state,
        counts=own,
        version=7,
        children=children,
        sources=(SourceProgress(name="upload", source_type="upload", counts=own),),
        failures_by_code={"corrupt": parts.get("failed", 0)} if parts.get("failed") else {},
        indexed=parts.get("done", 0),
    )


def child(version: int = 1, **parts: int) -> BatchProgress:
    return BatchProgress(
        state=BatchState.RUNNING, counts=counts(**parts), version=version, indexed=parts.get("done", 0)
    )


def test_what_children_did_leaves_in_flight() -> None:
    """Their documents stand where the children have them."""
    whole = parent(10, 5, done=20, pending=100)
    first = child(pending=2, in_flight=3, done=4, failed=1)
    second = child(done=5)

    live = merged(whole, {ChildKey(0): first, ChildKey(1): second})

    assert live.counts == counts(pending=102, in_flight=3, done=29, failed=1)
    assert live.sources[0].counts == live.counts
    assert live.indexed == 29


def test_documents_of_a_silent_child_stay_in_flight() -> None:
    """The snapshot is older for them, and adds up."""
    live = merged(parent(10, 5, done=20), {ChildKey(0): child(done=10)})

    assert live.counts == counts(in_flight=5, done=30)


def test_numbers_do_not_go_back_where_a_child_falls_silent() -> None:
    """Its parent has learnt of another's end meanwhile, so its version is later: state and priority are, numbers not."""
    before = merged(parent(10, 5), {ChildKey(0): child(done=8, pending=2), ChildKey(1): child(done=4, in_flight=1)})
    now = parent(10, state=BatchState.PAUSING, done=5).model_copy(update={"version": 8})
    assert is_newer(now, before)

    told = not_behind(merged(now, {}), before)

    assert (told.state, told.version, told.counts, told.indexed) == (BatchState.PAUSING, 8, before.counts, 12)
    heard = merged(now, {ChildKey(0): child(done=9, in_flight=1)})
    assert is_newer(heard, told)


def test_other_work_has_numbers_of_its_own() -> None:
    """A retry begins below what had ended before, a batch that grows has more to end, and who is further on is believed."""
    known = child(done=8, pending=2)
    again = child(done=5, pending=5).model_copy(update={"retry_round": 1})
    grown = child(done=5, pending=15)
    further = child(done=9, in_flight=1)

    assert [not_behind(each, known) for each in (again, grown, further)] == [again, grown, further]


def test_an_answer_of_another_child_is_not_counted() -> None:
    """Of one that has ended and is not listed any more, of another round, or of other documents."""
    whole = parent(10, done=20)
    strangers = {ChildKey(4): child(done=7), ChildKey(0, 1): child(done=10), ChildKey(0): child(done=9)}

    assert merged(whole, strangers) == whole


def test_failures_are_added_up_by_code() -> None:
    """Most frequent first."""
    one = child(failed=3).model_copy(update={"failures_by_code": {"empty": 3}})
    live = merged(parent(3, failed=2), {ChildKey(0): one})

    assert list(live.failures_by_code.items()) == [("empty", 3), ("corrupt", 2)]


def test_in_flight_names_the_first_ones() -> None:
    """Of all children, at most 48."""
    answers = {
        ChildKey(index): child(in_flight=40).model_copy(update={"in_flight": tuple(range(index * 40, index * 40 + 40))})
        for index in range(3)
    }

    assert merged(parent(40, 40, 40), answers).in_flight == tuple(range(48))


def test_a_batch_whose_children_rest_is_paused() -> None:
    """Children that pause do not end, so the parent still waits for them."""
    whole = parent(10, state=BatchState.PAUSING)

    assert merged(whole, {ChildKey(0): child(pending=6, done=4)}).state is BatchState.PAUSED
    assert merged(whole, {ChildKey(0): child(in_flight=1, pending=9)}).state is BatchState.PAUSING


def test_a_snapshot_grows_newer_with_its_children() -> None:
    """Between two changes of the parent the children's changes order the answers."""
    whole = parent(10)
    early, late = (merged(whole, {ChildKey(0): child(version, in_flight=10)}) for version in (1, 2))
    after = whole.model_copy(update={"version": 8})

    assert is_newer(late, early)
    assert not is_newer(early, late)
    assert is_newer(after, late)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.booleans()), max_size=8),
    st.integers(0, 1_000),
    st.integers(0, 1_000),
)
def test_counts_always_add_up(children, done, pending) -> None:
    """Whichever children answered."""
    whole = parent(*(sum(parts[:3]) for parts in children), done=done, pending=pending)
    answers = {
        ChildKey(index): child(pending=waiting, done=ended, failed=bad)
        for index, (waiting, ended, bad, answered) in enumerate(children)
        if answered
    }

    live = merged(whole, answers)

    assert live.counts.total == whole.counts.total
    heard = [answer for answer in answers.values() if answer.counts.total]
    assert live.counts.done == done + sum(answer.counts.done for answer in heard)

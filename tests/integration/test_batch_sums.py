"""The catalog's contract for lists and sums of one user's batches: memory, SQLite and PostgreSQL."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from api.resources import BatchSnapshot
from ingather.domain.batch_sums import rested_ms
from ingather.models.batch import BatchState, BatchSummary, Counts, SourceProgress
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.catalog import BatchFilter, BatchTally, OpenTally
from tests.support.catalog_records import NOON, batch_record, submission_part

SECOND = timedelta(seconds=1)
MINE = BatchFilter(DEFAULT_TENANT_ID, contract="sources", created_by="vera")


def from_source(source_type: str, counts: Counts) -> SourceProgress:
    return SourceProgress(name="telescope", source_type=source_type, counts=counts)


@pytest.fixture
async def jobs(catalog) -> list[str]:
    """Four of Vera's through one door, oldest first, one through another, and one of somebody else's."""
    drive, folder = Counts(total=2, pending=2), Counts(total=3, pending=3)
    records = [
        batch_record(
            contract="sources",
            created_by="vera",
            created_at=NOON + number * SECOND,
            state=BatchState.PENDING,
            priority=1 + number % 2,
            counts=Counts(total=5, pending=5),
            sources=(from_source("google_drive", drive), from_source("s3", folder)),
        )
        for number in range(4)
    ]
    others = [batch_record(contract="sources", created_by="jocelyn"), batch_record(created_by="vera")]
    for record in (*records, *others):
        await catalog.add_batch(record)
    return [record.batch_id for record in records]


def ended(batch_id: str, state: BatchState, counts: Counts, *, version: int = 1, ran: timedelta = SECOND):
    sources = (from_source("google_drive", counts),)
    return BatchSummary(
        batch_id=batch_id, state=state, counts=counts, version=version, sources=sources, started_at=NOON,
        ended_at=NOON + ran,
    )  # fmt: skip


async def test_a_users_batches_of_one_door_are_listed_by_place(catalog, jobs):
    """Newest first, so many behind so many, and how many there are in all."""
    page = await catalog.list_batches(MINE, 2, offset=1)

    assert [record.batch_id for record in page] == [jobs[2], jobs[1]]
    assert await catalog.count_batches(MINE) == 4


async def test_batches_may_be_named_beside_their_states(catalog, jobs):
    """What the catalog calls pending may run by now: whoever knows names it."""
    await catalog.finish_batch(ended(jobs[0], BatchState.COMPLETED, Counts(total=5, done=5)))
    where = BatchFilter(
        DEFAULT_TENANT_ID, contract="sources", created_by="vera", states=(BatchState.COMPLETED,), or_ids=(jobs[3],)
    )

    assert [record.batch_id for record in await catalog.list_batches(where, 9)] == [jobs[3], jobs[0]]
    assert await catalog.count_batches(where) == 2


async def test_those_that_have_not_ended_are_listed_with_their_states(catalog, jobs):
    """Their ids and what the catalog knows of their state, newest first."""
    await catalog.finish_batch(ended(jobs[1], BatchState.CANCELLED, Counts(total=5, cancelled=5)))
    await catalog.set_batch_state(jobs[2], BatchState.RETRYING)

    found = await catalog.list_open(MINE)
    assert [(each.batch_id, each.state) for each in found] == [
        (jobs[3], BatchState.PENDING),
        (jobs[2], BatchState.RETRYING),
        (jobs[0], BatchState.PENDING),
    ]
    recent = await catalog.list_open(MINE, ended_after=NOON)
    assert [(each.batch_id, each.state, each.version) for each in recent[3:]] == [(jobs[1], BatchState.CANCELLED, 1)]
    assert await catalog.list_open(MINE, ended_after=NOON + 9 * SECOND) == found
    assert (found[0].created_by, found[0].counts) == ("vera", Counts(total=5, pending=5))


async def test_rests_before_retries_do_not_count(catalog, jobs):
    """A batch that ran for three seconds, rested for one of them, and ended once more."""
    end = ended(jobs[0], BatchState.COMPLETED, Counts(total=5, done=5))
    times = {"started_at": NOON, "ended_at": NOON + 3 * SECOND, "rested_ms": 1_000}
    await catalog.finish_batch(end.model_copy(update=times))

    tally, [record] = await catalog.tally_batches(MINE), await catalog.list_batches(replace(MINE, or_ids=(jobs[0],)), 9)
    assert (tally.ran_count, tally.ran_ms, record.ran_ms) == (1, 2_000, 2_000)
    assert BatchSnapshot.from_record(record).progress.rested_ms == 1_000
    assert rested_ms(end.model_copy(update=times), NOON + 5 * SECOND) == 3_000


async def test_those_that_ended_since_are_listed_by_their_end(catalog, jobs):
    """The last first, whenever they were made."""
    for number, job in enumerate((jobs[2], jobs[3], jobs[0])):
        end = ended(job, BatchState.COMPLETED, Counts(total=5, done=5))
        await catalog.finish_batch(end.model_copy(update={"ended_at": NOON + number * SECOND}))

    assert await catalog.list_ended(MINE, NOON, 9) == [jobs[0], jobs[3], jobs[2]]
    assert await catalog.list_ended(MINE, NOON, 2) == [jobs[0], jobs[3]]
    assert await catalog.list_ended(MINE, NOON + SECOND, 9) == [jobs[0], jobs[3]]


async def test_batches_that_have_not_ended_count_with_their_sources_alone(catalog, jobs):
    """What their documents become is not the catalog's to say."""
    tally = await catalog.tally_batches(MINE)

    assert tally == BatchTally(
        noted={BatchState.PENDING: 4}, by_priority={1: 2, 2: 2}, by_source_type={"google_drive": 8, "s3": 12}
    )


async def test_those_that_do_more_than_wait_are_told_one_by_one(catalog, jobs):
    """As long as they have not ended: each counts once, here or there."""
    await catalog.finish_batch(ended(jobs[0], BatchState.FAILED, Counts(total=5, failed=5)))
    await catalog.note_queued(jobs[1])

    tally = await catalog.tally_batches(MINE, [jobs[0], jobs[2], "of another"])
    assert (tally.by_state, tally.noted, tally.open) == (
        {BatchState.FAILED: 1},
        {BatchState.QUEUED: 1, BatchState.PENDING: 1},
        {jobs[2]: BatchState.PENDING},
    )
    assert tally.by_priority == {1: 2, 2: 2}


async def test_a_batch_that_has_ended_is_not_noted_in_line(catalog, jobs):
    """A word that comes late changes nothing."""
    await catalog.finish_batch(ended(jobs[0], BatchState.CANCELLED, Counts(total=5, cancelled=5)))
    for batch_id in (jobs[0], str(uuid.uuid4())):
        await catalog.note_queued(batch_id)
    [record] = await catalog.list_batches(replace(MINE, or_ids=(jobs[0],)), 9)
    assert record.state is BatchState.CANCELLED


async def test_what_has_left_its_noted_state_is_not_found_by_it(catalog, jobs):
    """Unless it ended in a state that is asked for."""
    await catalog.finish_batch(ended(jobs[0], BatchState.COMPLETED, Counts(total=5, done=5)))
    states = (BatchState.PENDING, BatchState.COMPLETED)
    where = replace(MINE, states=states, or_ids=(jobs[3],), moved_ids=(jobs[0], jobs[2], jobs[3]))

    assert [record.batch_id for record in await catalog.list_batches(where, 9)] == [jobs[3], jobs[1], jobs[0]]
    assert await catalog.count_batches(where) == 3


async def test_ended_batches_are_added_up(catalog, jobs):
    """Documents by outcome, times of those that ran, and what their documents turned out to come from."""
    await catalog.finish_batch(
        ended(jobs[0], BatchState.COMPLETED_WITH_FAILURES, Counts(total=5, done=3, failed=1, skipped=1), ran=3 * SECOND)
    )
    await catalog.finish_batch(ended(jobs[1], BatchState.FAILED, Counts(total=5, failed=5)))
    never_ran = ended(jobs[2], BatchState.CANCELLED, Counts(total=5, cancelled=5))
    await catalog.finish_batch(never_ran.model_copy(update={"started_at": None}))

    assert await catalog.tally_batches(MINE) == BatchTally(
        noted={BatchState.PENDING: 1},
        by_state={BatchState.COMPLETED_WITH_FAILURES: 1, BatchState.FAILED: 1, BatchState.CANCELLED: 1,
        },
        by_priority={1: 2, 2: 2},
        by_source_type={"google_drive": 17, "s3": 3},
        done=3, failed=6, skipped=1, ran_count=2, ran_ms=4_000,
    )  # fmt: skip


async def test_a_batch_that_runs_again_counts_once_and_as_it_ended_last(catalog, jobs):
    """Its earlier end counts no more while it runs, and an end that is told too late never."""
    await catalog.finish_batch(ended(jobs[0], BatchState.FAILED, Counts(total=5, failed=5), version=4))
    await catalog.set_batch_state(jobs[0], BatchState.RETRYING)
    running = await catalog.tally_batches(MINE)
    await catalog.finish_batch(ended(jobs[0], BatchState.COMPLETED, Counts(total=5, done=5), version=9))
    await catalog.finish_batch(ended(jobs[0], BatchState.FAILED, Counts(total=5, failed=5), version=4))
    after = await catalog.tally_batches(MINE)

    assert (running.failed, running.ran_count) == (0, 0)
    assert (after.done, after.failed, after.by_state[BatchState.COMPLETED]) == (5, 0, 1)


async def test_what_a_tenant_has_open_is_added_up(catalog, jobs):
    """By the state that was noted last, with the documents to come, whichever door and user; named ones apart, ended ones not at all."""
    await catalog.finish_batch(ended(jobs[0], BatchState.COMPLETED, Counts(total=5, done=5)))
    await catalog.finish_batch(
        ended(jobs[1], BatchState.COMPLETED_WITH_FAILURES, Counts(total=5, done=2, failed=2, skipped=1))
    )
    await catalog.set_batch_state(jobs[1], BatchState.QUEUED)
    growing = batch_record(state=BatchState.PENDING)
    growing = growing.model_copy(update={"spec": growing.spec.model_copy(update={"open": True})})
    await catalog.add_batch(growing, submission_part(growing.batch_id, part_id="first", document_count=4))
    await catalog.add_part(submission_part(growing.batch_id, part_id="second", document_count=3))

    tally = await catalog.tally_open(DEFAULT_TENANT_ID, [jobs[0], jobs[3]])
    assert tally == OpenTally(
        noted={BatchState.PENDING: 2, BatchState.QUEUED: 3},
        documents_left=5 + 2 + 7,
        open=frozenset({jobs[3]}),
    )
    assert await catalog.tally_open(str(uuid.uuid4())) == OpenTally()

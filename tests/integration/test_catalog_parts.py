"""The catalog's contract for submissions in parts: memory, SQLite and PostgreSQL."""

import asyncio
import uuid

import pytest

from ingather.models.batch import BatchState, BatchSummary, Counts, SubmissionTotals
from ingather.models.errors import BatchNotFoundError, BatchTooLargeError, EmptyBatchError, InvalidStateError
from tests.support.catalog_records import SHA, batch_record, submission_part


async def test_a_batch_and_its_first_part_are_added_together(catalog):
    """The part is there as soon as the batch is, and comes back as it was written."""
    record = batch_record()
    part = submission_part(record.batch_id, fingerprint=SHA)
    await catalog.add_batch(record, part)
    assert await catalog.list_parts(record.batch_id) == [part]


async def test_a_second_submission_of_a_batch_adds_no_part(catalog):
    """Who comes second is answered with the first batch; its own object is not made part of it."""
    record = batch_record()
    part = submission_part(record.batch_id)
    await catalog.add_batch(record, part)
    await catalog.add_batch(record, submission_part(record.batch_id, part_id="other"))
    assert await catalog.list_parts(record.batch_id) == [part]


async def test_parts_stand_in_the_order_they_came(catalog, batch_id):
    """Each gets the next number, and the answer tells what the batch has now."""
    for number in range(3):
        part, is_new, totals = await catalog.add_part(submission_part(batch_id, part_id=f"p{number}"))
        assert (part.number, is_new) == (number, True)
        assert totals == SubmissionTotals(
            part_count=number + 1, document_count=10 * number + 10, size_bytes=1_000 * number + 1_000
        )
    assert [part.part_id for part in await catalog.list_parts(batch_id)] == ["p0", "p1", "p2"]


async def test_parts_that_come_at_once_all_get_a_place(catalog, batch_id):
    """Twenty requests at the same moment: twenty parts, numbered without a gap."""
    parts = [submission_part(batch_id, part_id=f"p{number}") for number in range(20)]
    await asyncio.gather(*(catalog.add_part(part) for part in parts))
    listed = await catalog.list_parts(batch_id)
    assert [part.number for part in listed] == list(range(20))
    assert {part.part_id for part in listed} == {part.part_id for part in parts}


async def test_a_part_is_added_once(catalog, batch_id):
    """The same id again is answered with the part as it was first, also after the batch was sealed."""
    first, _, _ = await catalog.add_part(submission_part(batch_id, key="first"))
    again = submission_part(batch_id, key="second")
    assert await catalog.add_part(again) == (
        first,
        False,
        SubmissionTotals(part_count=1, document_count=10, size_bytes=1_000),
    )
    await catalog.seal(batch_id)
    assert (await catalog.add_part(again))[:2] == (first, False)


async def test_of_one_part_sent_twice_at_once_one_stays(catalog, batch_id):
    """Ten requests with one id: one is new, and all are answered with it."""
    parts = [submission_part(batch_id, key=f"object-{number}") for number in range(10)]
    answers = await asyncio.gather(*(catalog.add_part(part) for part in parts))
    assert sum(is_new for _, is_new, _ in answers) == 1
    assert len({part.key for part, _, _ in answers}) == 1
    assert len(await catalog.list_parts(batch_id)) == 1


async def test_a_sealed_batch_takes_no_part(catalog, batch_id):
    """Sealing answers what was handed in; whoever comes later is refused."""
    await catalog.add_part(submission_part(batch_id, part_id="a"))
    await catalog.add_part(submission_part(batch_id, part_id="b"))
    totals = SubmissionTotals(part_count=2, document_count=20, size_bytes=2_000)
    assert await catalog.seal(batch_id) == totals
    sealed_at = (await catalog.get_batch(batch_id)).sealed_at
    assert sealed_at is not None
    with pytest.raises(InvalidStateError):
        await catalog.add_part(submission_part(batch_id, part_id="c"))
    assert await catalog.seal(batch_id) == totals
    assert (await catalog.get_batch(batch_id)).sealed_at == sealed_at


async def test_a_batch_that_ended_takes_no_part(catalog, batch_id):
    """A cancelled batch, for one, is past taking documents, although nobody sealed it."""
    await catalog.finish_batch(BatchSummary(batch_id=batch_id, state=BatchState.CANCELLED, counts=Counts(), version=3))
    with pytest.raises(InvalidStateError) as refused:
        await catalog.add_part(submission_part(batch_id))
    assert refused.value.facts["current_status"] == "cancelled"


async def test_a_batch_without_documents_is_not_sealed(catalog, batch_id):
    """It stays open, so that documents can still come."""
    with pytest.raises(EmptyBatchError):
        await catalog.seal(batch_id)
    await catalog.add_part(submission_part(batch_id))
    assert (await catalog.seal(batch_id)).document_count == 10


async def test_a_batch_that_ended_unsealed_is_not_sealed(catalog, batch_id):
    """A cancelled batch cannot be sealed; one that was sealed before its end is sealed."""
    await catalog.add_part(submission_part(batch_id))
    await catalog.finish_batch(BatchSummary(batch_id=batch_id, state=BatchState.CANCELLED, counts=Counts(), version=3))
    with pytest.raises(InvalidStateError):
        await catalog.seal(batch_id)


async def test_a_part_is_found_by_its_id(catalog, batch_id):
    """A request that comes again is known before its body is read."""
    assert await catalog.get_part(batch_id, "a") is None
    assert await catalog.count_parts(batch_id) == SubmissionTotals()
    part, _, totals = await catalog.add_part(submission_part(batch_id, part_id="a", fingerprint=SHA))
    assert await catalog.get_part(batch_id, "a") == part
    assert await catalog.count_parts(batch_id) == totals


async def test_no_part_comes_between_the_count_and_the_seal(catalog, batch_id):
    """What ``seal`` counts is what the batch has, whoever adds at the same moment."""
    await catalog.add_part(submission_part(batch_id, part_id="first"))

    async def add(number: int) -> bool:
        try:
            await catalog.add_part(submission_part(batch_id, part_id=f"p{number}"))
        except InvalidStateError:
            return False
        return True

    outcomes = await asyncio.gather(
        *(add(number) for number in range(5)), catalog.seal(batch_id), *(add(number) for number in range(5, 10))
    )
    totals = outcomes.pop(5)
    assert totals.part_count == sum(outcomes) + 1 == len(await catalog.list_parts(batch_id))


async def test_a_part_over_the_limit_is_refused(catalog, batch_id):
    """Documents of all parts together stay within the limit; a full batch still takes nothing more."""
    await catalog.add_part(submission_part(batch_id, part_id="a"), 20)
    with pytest.raises(BatchTooLargeError):
        await catalog.add_part(submission_part(batch_id, part_id="b", document_count=11), 20)
    await catalog.add_part(submission_part(batch_id, part_id="b"), 20)
    with pytest.raises(BatchTooLargeError):
        await catalog.add_part(submission_part(batch_id, part_id="c", document_count=1), 20)


async def test_a_part_is_replaced_in_its_place(catalog, batch_id):
    """A repeated submission puts its own object where the first attempt's was, sealed batch or not."""
    await catalog.add_part(submission_part(batch_id, part_id="a", key="old"))
    await catalog.add_part(submission_part(batch_id, part_id="b"))
    await catalog.seal(batch_id)
    await catalog.replace_part(submission_part(batch_id, part_id="a", key="new"))
    assert [(part.number, part.key) for part in await catalog.list_parts(batch_id)] == [(0, "new"), (1, "objects/b")]


async def test_a_part_that_is_gone_is_put_back_first(catalog, batch_id):
    """The attempt before took its part back; the next one has a place for its own."""
    part = submission_part(batch_id)
    await catalog.replace_part(part)
    assert await catalog.list_parts(batch_id) == [part]


async def test_only_the_part_with_this_object_is_taken_back(catalog, batch_id):
    """An attempt that failed late does not take away what another put in its place."""
    old, new = submission_part(batch_id, key="old"), submission_part(batch_id, key="new")
    await catalog.replace_part(old)
    await catalog.replace_part(new)
    await catalog.remove_part(old)
    assert await catalog.list_parts(batch_id) == [new]
    await catalog.remove_part(new)
    await catalog.remove_part(new)
    assert await catalog.list_parts(batch_id) == []


async def test_parts_belong_to_a_batch(catalog):
    """A batch that nobody registered has no parts and gets none."""
    unknown = str(uuid.uuid4())
    assert await catalog.list_parts(unknown) == []
    for refused in (
        catalog.add_part(submission_part(unknown)),
        catalog.replace_part(submission_part(unknown)),
        catalog.seal(unknown),
    ):
        with pytest.raises(BatchNotFoundError):
            await refused


async def test_bytes_in_flight_are_those_of_batches_that_have_not_ended(catalog):
    """Every part of an open or running batch counts, whatever its state; those of ended ones and of others do not."""
    other = "22222222-2222-7222-8222-222222222222"
    await catalog.add_tenant(other, "Other")
    assert await catalog.bytes_in_flight(other) == 0
    for state, size in ((BatchState.QUEUED, 1), (BatchState.PAUSED, 20), (BatchState.COMPLETED, 300)):
        record = batch_record(tenant_id=other, state=state)
        await catalog.add_batch(record, submission_part(record.batch_id, size_bytes=size))
    growing = batch_record(tenant_id=other, state=BatchState.PENDING)
    await catalog.add_batch(growing)
    await catalog.add_part(submission_part(growing.batch_id, size_bytes=4_000))
    await catalog.add_part(submission_part(growing.batch_id, part_id="q", size_bytes=50_000))

    assert await catalog.bytes_in_flight(other) == 54_021

"""What is left of a batch: rows that agree with the ledger, a report, a summary, and no more uploads than needed."""

import asyncio
import json
import uuid
from datetime import UTC, datetime

import pytest
from temporalio.exceptions import ApplicationError

from activities.records import RecordActivities
from activities.webhooks import Newsroom
from ingather.domain.audit import batch_event
from ingather.domain.batch_state import final_state
from ingather.domain.bitmap import encode_bitmap
from ingather.domain.keys import (
    ends_prefix,
    report_key,
    submission_part_key,
    summary_key,
    upload_key,
    upload_prefix,
)
from ingather.domain.ledger import Ledger
from ingather.models.audit import Actor, AuditType
from ingather.models.batch import BatchProblem, BatchState, BatchSummary, Counts
from ingather.models.document import DocumentStatus
from ingather.models.errors import CatalogUnavailableError
from ingather.models.messages import (
    ClosedBatch,
    ControlNote,
    FinishBatchInput,
    RecordControlsInput,
    ReopenBatchInput,
    ResetDocumentsInput,
)
from ingather.models.webhook import Webhook
from ingather.ports.audit import AuditFilter
from ingather.ports.webhooks import DeliveryFilter
from tests.support.catalog_records import batch_record
from tests.support.ingesting import TENANT, activity_environment, run_activity

TEXTS = (b"The dome opens at nine.\n", b"The mirror is washed in spring.\n", b"The gate is shut at dusk.\n")


def closed_batch(batch_id, *, version=5, problem=None, counts=None, **statuses):
    """How a batch of three ended: ``d0="done", d1="failed:encrypted"`` …"""
    ledger = Ledger(len(statuses))
    for ordinal, word in enumerate(statuses.values()):
        status, _, code = word.partition(":")
        ledger.move(ordinal, DocumentStatus(status), code or None)
    counts = counts or ledger.counts
    summary = BatchSummary(
        batch_id=batch_id,
        state=final_state(counts, problem),
        counts=counts,
        version=version,
        failures_by_code=ledger.failures_by_code,
        problem=problem,
        ended_at=datetime.now(UTC),
    )
    return ClosedBatch(summary=summary, ledger=ledger.letters(), failures=ledger.failures(), journal_length=9)


async def finish(workshop, closed):
    request = FinishBatchInput(tenant_id=TENANT, batch_id=closed.summary.batch_id, closed=closed)
    return await run_activity(workshop.record_activities.finish_batch, request)


async def ingested(workshop, count=3):
    batch_id = await workshop.batch(*TEXTS[:count])
    for ordinal in range(count):
        await workshop.ingest(batch_id, ordinal)
    return batch_id


async def test_webhooks_hear_of_an_end_once_it_is_on_record(workshop):
    """Whoever asks when the event comes finds the batch ended; a repeated attempt tells nothing new."""
    batch_id = await ingested(workshop)
    seen = []

    class Starter:
        async def start_delivery(self, delivery, summary):
            record = await workshop.catalog.get_batch(batch_id)
            seen.append((summary, record.state, delivery.delivery_id))

    hook = webhook(batch_id=batch_id, event_types=("batch.completed",))
    await workshop.catalog.webhooks.add_webhook(hook)
    records = RecordActivities(workshop.blobs, workshop.catalog, Newsroom(workshop.catalog.webhooks, Starter()))
    closed = closed_batch(batch_id, d0="done", d1="done", d2="failed:encrypted")
    request = FinishBatchInput(tenant_id=TENANT, batch_id=batch_id, closed=closed)
    for _ in range(2):
        await run_activity(records.finish_batch, request)
    assert len(set(seen)) == 1
    assert seen[0][:2] == ("batch.completed", BatchState.COMPLETED_WITH_FAILURES)
    [delivery] = await workshop.catalog.webhooks.list_deliveries(DeliveryFilter(TENANT, hook.webhook_id), 9)
    assert delivery.payload["data"]["failures_by_code"] == {"encrypted": 1}


def webhook(**facts):
    return Webhook(
        webhook_id=str(uuid.uuid4()),
        tenant_id=TENANT,
        url="https://hooks.example.org/",
        sealed="gAAA",
        created_at=datetime.now(UTC),
        **facts,
    )


async def uploads(workshop, batch_id):
    return [blob.key async for blob in workshop.blobs.list(upload_prefix(TENANT, batch_id))]


async def ends(workshop, batch_id):
    return sorted([blob.key async for blob in workshop.blobs.list(ends_prefix(TENANT, batch_id))])


async def report(workshop, batch_id):
    record = await workshop.catalog.get_batch(batch_id)
    content = await workshop.blobs.get(record.report_key)
    return [json.loads(line) for line in content.splitlines()]


async def test_the_report_has_a_line_for_every_document(workshop):
    """In order, each with how it ended; the catalog's record carries the summary and names the report."""
    batch_id = await ingested(workshop)

    output = await finish(workshop, closed_batch(batch_id, d0="done", d1="done", d2="done"))

    assert output.report_key == report_key(TENANT, batch_id, 5)
    assert [(line["ordinal"], line["status"]) for line in await report(workshop, batch_id)] == [
        (0, "done"), (1, "done"), (2, "done"),
    ]  # fmt: skip
    record = await workshop.catalog.get_batch(batch_id)
    assert (record.state, record.counts.done, record.report_key) == (BatchState.COMPLETED, 3, output.report_key)


async def test_a_report_that_comes_late_leaves_the_later_one(workshop):
    """A frozen worker wakes up with the first run's report after a retry has ended: nothing of it is written."""
    batch_id = await ingested(workshop)
    await finish(workshop, closed_batch(batch_id, version=9, d0="done", d1="done", d2="done"))
    later = await ends(workshop, batch_id)

    with pytest.raises(ApplicationError) as caught:
        await finish(workshop, closed_batch(batch_id, version=5, d0="done", d1="failed:encrypted", d2="done"))

    assert caught.value.non_retryable
    assert await ends(workshop, batch_id) == later
    assert [row.status for row in await workshop.rows(batch_id)] == ["done"] * 3


async def frozen_report(workshop, frozen_in):
    """A batch that is being retried while its report of before stands still: its id, that attempt, and what thaws it."""
    batch_id = await ingested(workshop, 2)
    first = closed_batch(batch_id, d0="cancelled", d1="failed:encrypted")
    frozen, thaw = workshop.catalog.freeze(frozen_in)
    late = asyncio.create_task(finish(workshop, first))
    await frozen.wait()
    await finish(workshop, first)  # the attempt that took over
    request = ResetDocumentsInput(tenant_id=TENANT, batch_id=batch_id, ordinals=encode_bitmap([0, 1]))
    await run_activity(workshop.record_activities.reset_documents, request)
    return batch_id, late, thaw


@pytest.mark.parametrize("frozen_in", ["save_outcome", "mark_cancelled", "finish_batch"])
async def test_a_report_frozen_while_it_is_written_changes_nothing_of_the_later_one(workshop, frozen_in):
    """Wherever its worker stood still while the batch was retried and ended again: rows, report and record stay."""
    batch_id, late, thaw = await frozen_report(workshop, frozen_in)
    await workshop.ingest(batch_id, 0, retry_round=1)
    await workshop.ingest(batch_id, 1, retry_round=1)
    output = await finish(workshop, closed_batch(batch_id, version=9, d0="done", d1="done"))

    thaw.set()
    with pytest.raises(ApplicationError):
        await late

    record = await workshop.catalog.get_batch(batch_id)
    assert (record.state, record.version, record.report_key) == (BatchState.COMPLETED, 9, output.report_key)
    assert [line["status"] for line in await report(workshop, batch_id)] == ["done", "done"]
    assert [row.status for row in await workshop.rows(batch_id)] == ["done", "done"]
    closed = ClosedBatch.model_validate_json(await workshop.blobs.get(summary_key(TENANT, batch_id, 9)))
    assert closed.summary.counts.done == 2


@pytest.mark.parametrize("frozen_in", ["save_outcome", "mark_cancelled", "finish_batch"])
async def test_a_report_frozen_while_it_is_written_closes_no_retry_under_way(workshop, frozen_in):
    """The same end again, when the batch was opened since: it runs on, and is called so."""
    batch_id, late, thaw = await frozen_report(workshop, frozen_in)

    thaw.set()
    with pytest.raises(ApplicationError):
        await late
    assert (await workshop.catalog.get_batch(batch_id)).state is BatchState.RETRYING


@pytest.mark.parametrize("name", ["reset_documents", "reopen_batch"])
async def test_a_reset_that_comes_late_opens_no_ended_batch(workshop, name):
    """Its worker was frozen, another did it, and the retry has ended: the last word stays, and so does every row."""
    batch_id = await ingested(workshop)
    await finish(workshop, closed_batch(batch_id, d0="done", d1="failed:encrypted", d2="cancelled"))
    scheduled = activity_environment()
    requests = {
        "reset_documents": ResetDocumentsInput(tenant_id=TENANT, batch_id=batch_id, ordinals=encode_bitmap([1, 2])),
        "reopen_batch": ReopenBatchInput(tenant_id=TENANT, batch_id=batch_id),
    }
    await scheduled.run(getattr(workshop.record_activities, name), requests[name])
    assert (await workshop.catalog.get_batch(batch_id)).state is BatchState.RETRYING
    await finish(workshop, closed_batch(batch_id, version=9, d0="done", d1="failed:encrypted", d2="cancelled"))
    before = await workshop.catalog.get_batch(batch_id), await workshop.rows(batch_id)

    await scheduled.run(getattr(workshop.record_activities, name), requests[name])

    assert (await workshop.catalog.get_batch(batch_id), await workshop.rows(batch_id)) == before


async def test_an_end_takes_the_place_of_the_one_before(workshop):
    """A batch that was retried has one report."""
    batch_id = await ingested(workshop)
    await finish(workshop, closed_batch(batch_id, d0="done", d1="failed:encrypted", d2="done"))
    await finish(workshop, closed_batch(batch_id, version=9, d0="done", d1="done", d2="done"))

    assert await ends(workshop, batch_id) == [report_key(TENANT, batch_id, 9), summary_key(TENANT, batch_id, 9)]


async def test_rows_follow_the_ledger(workshop):
    """Documents without an answer of their own get the ledger's: failed with a code, or cancelled."""
    batch_id = await workshop.batch(*TEXTS)
    await workshop.ingest(batch_id, 0)

    await finish(workshop, closed_batch(batch_id, d0="done", d1="failed:document_timeout", d2="cancelled"))

    rows = await workshop.rows(batch_id)
    assert [row.status.value for row in rows] == ["done", "failed", "cancelled"]
    assert (rows[1].error.code, bool(rows[1].error.action), rows[1].ended_at is not None) == (
        "document_timeout", True, True,
    )  # fmt: skip


async def test_what_an_attempt_given_up_for_dead_wrote_later_is_put_right(workshop):
    """The ledger said done; a failure that came after it does not stay in the report."""
    batch_id = await ingested(workshop, 1)
    await workshop.blobs.delete(f"uploads/{TENANT}/{batch_id}/file-00000")
    assert (await workshop.ingest(batch_id)).code == "blob_not_found"

    await finish(workshop, closed_batch(batch_id, d0="done"))

    row = await workshop.row(batch_id)
    assert (row.status, row.error) == (DocumentStatus.DONE, None)


async def test_a_code_nobody_knows_is_kept(workshop):
    """A code of a version that is gone does not stop the report."""
    batch_id = await workshop.batch(TEXTS[0])

    await finish(workshop, closed_batch(batch_id, d0="failed:of_another_version"))

    assert (await workshop.row(batch_id)).error.code == "of_another_version"


async def test_rows_of_a_manifest_that_was_never_finished_end_with_their_batch(workshop):
    """Cancelled while an archive was unpacked, the rows already written are cancelled; there is no ledger for them."""
    batch_id = await workshop.batch(*TEXTS)

    await finish(workshop, closed_batch(batch_id, counts=Counts(total=1, cancelled=1)))

    assert {row.status for row in await workshop.rows(batch_id)} == {DocumentStatus.CANCELLED}


async def test_rows_of_a_manifest_that_could_not_be_made_fail_with_its_problem(workshop):
    """Each row says what the whole batch says."""
    batch_id = await workshop.batch(*TEXTS)
    problem = BatchProblem(code="batch_too_large", message="Too many.")

    await finish(workshop, closed_batch(batch_id, counts=Counts(total=1, failed=1), problem=problem))

    assert {row.error.code for row in await workshop.rows(batch_id)} == {"batch_too_large"}


async def test_uploads_go_when_nothing_can_be_retried(workshop):
    """Every document has its bytes under its own key by then."""
    batch_id = await ingested(workshop)

    await finish(workshop, closed_batch(batch_id, d0="done", d1="done", d2="skipped"))

    assert await uploads(workshop, batch_id) == []
    for row in await workshop.rows(batch_id):
        assert await workshop.blobs.stat(row.raw_key) is not None


async def test_an_upload_stays_where_it_is_the_documents_own_bytes(workshop):
    """Those of a pack are not copied; what no row refers to goes."""
    batch_id = await workshop.batch(*TEXTS)
    await workshop.ingest_pack(batch_id, 0, 1)
    await workshop.ingest(batch_id, 2)

    await finish(workshop, closed_batch(batch_id, d0="done", d1="done", d2="done"))

    rows = await workshop.rows(batch_id)
    assert await uploads(workshop, batch_id) == [row.raw_key for row in rows[:2]]
    assert await workshop.blobs.stat(rows[2].raw_key) is not None


@pytest.mark.parametrize("ending", ["failed:encrypted", "cancelled"])
async def test_uploads_stay_as_long_as_a_retry_may_need_them(workshop, ending):
    """A failed or cancelled document is fetched again from where it came in."""
    batch_id = await ingested(workshop)

    await finish(workshop, closed_batch(batch_id, d0="done", d1="done", d2=ending))

    assert len(await uploads(workshop, batch_id)) == 3


async def test_uploads_of_a_batch_that_was_refused_whole_go(workshop):
    """No retry will read them again: an archive of gigabytes that is none must not stay for ever."""
    batch_id = await workshop.batch(*TEXTS)
    problem = BatchProblem(code="archive_corrupt", message="It is no archive.")

    await finish(workshop, closed_batch(batch_id, counts=Counts(total=1, failed=1), problem=problem))

    assert await uploads(workshop, batch_id) == []


async def test_a_batch_cancelled_while_it_was_open_leaves_nothing_of_what_came_in(workshop):
    """Nobody wants half of it: its uploads and its lines go; the report and the summary stay."""
    record = batch_record(state=BatchState.PENDING)
    record = record.model_copy(update={"spec": record.spec.model_copy(update={"open": True})})
    await workshop.catalog.add_batch(record)
    for key in (
        upload_key(TENANT, f"{record.batch_id}/upload", "pack-00000"),
        submission_part_key(TENANT, record.batch_id, "upload"),
    ):
        await workshop.blobs.put(key, b"x")
    summary = BatchSummary(
        batch_id=record.batch_id, state=BatchState.CANCELLED, counts=Counts(total=3, cancelled=3), version=4
    )

    await finish(workshop, ClosedBatch(summary=summary, ledger="", journal_length=1))

    left = [blob.key async for blob in workshop.blobs.list("") if record.batch_id in blob.key]
    assert left == sorted([report_key(TENANT, record.batch_id, 4), summary_key(TENANT, record.batch_id, 4)])


async def test_finishing_again_writes_the_same(workshop):
    """An attempt that died anywhere is simply made again."""
    batch_id = await ingested(workshop)
    closed = closed_batch(batch_id, d0="done", d1="done", d2="cancelled")
    await finish(workshop, closed)
    before = await workshop.blobs.get(report_key(TENANT, batch_id, 5)), await workshop.catalog.get_batch(batch_id)

    await finish(workshop, closed)

    assert before == (
        await workshop.blobs.get(report_key(TENANT, batch_id, 5)),
        await workshop.catalog.get_batch(batch_id),
    )


async def test_a_closed_batch_is_opened_with_the_state_it_was_left_in(workshop):
    """``summary.json`` holds all a later retry needs, and the catalog calls the batch running again."""
    batch_id = await ingested(workshop)
    closed = closed_batch(batch_id, d0="done", d1="failed:encrypted", d2="cancelled")
    await finish(workshop, closed)

    request = ReopenBatchInput(tenant_id=TENANT, batch_id=batch_id)
    found = await run_activity(workshop.record_activities.reopen_batch, request)

    assert (found.ledger, found.failures, found.journal_length) == (closed.ledger, closed.failures, 9)
    assert found.summary.report_key == report_key(TENANT, batch_id, 5)
    assert (await workshop.catalog.get_batch(batch_id)).state is BatchState.RETRYING


async def test_a_batch_without_a_summary_cannot_be_opened(workshop):
    """Trying again would find nothing either."""
    batch_id = await workshop.batch(*TEXTS)
    assert await workshop.blobs.stat(summary_key(TENANT, batch_id, 5)) is None

    request = ReopenBatchInput(tenant_id=TENANT, batch_id=batch_id)
    with pytest.raises(ApplicationError) as caught:
        await run_activity(workshop.record_activities.reopen_batch, request)

    assert (caught.value.type, caught.value.non_retryable) == ("blob_not_found", True)


async def test_a_reset_takes_the_last_word_back(workshop):
    """The documents are pending, and the batch is running, also where the report had just been written."""
    batch_id = await ingested(workshop)
    await finish(workshop, closed_batch(batch_id, d0="done", d1="failed:encrypted", d2="done"))

    request = ResetDocumentsInput(tenant_id=TENANT, batch_id=batch_id, ordinals=encode_bitmap([1]))
    await run_activity(workshop.record_activities.reset_documents, request)

    assert [row.status.value for row in await workshop.rows(batch_id)] == ["done", "pending", "done"]
    assert (await workshop.catalog.get_batch(batch_id)).state is BatchState.RETRYING


async def test_a_catalog_that_is_away_is_waited_for(workshop):
    """The last word is raised for a retry, not swallowed."""
    batch_id = await workshop.batch(TEXTS[0])
    workshop.catalog.faults["save_outcome"] = CatalogUnavailableError("away")

    with pytest.raises(ApplicationError) as caught:
        await finish(workshop, closed_batch(batch_id, d0="failed:document_timeout"))

    assert caught.value.non_retryable is False


async def test_each_end_of_a_batch_is_on_record_once(workshop):
    """By the system, with state and counts; a report that is written again is the same end, a retry's is another."""
    batch_id = await ingested(workshop, count=1)
    for version in (5, 5, 9):
        await finish(workshop, closed_batch(batch_id, version=version, d0="done"))
    events = await workshop.catalog.audit.list_events(AuditFilter(TENANT, event_type="BATCH_ENDED"), 10)
    assert [(event.resource_id, event.actor, event.details["state"]) for event in events] == [
        (batch_id, "system", "completed")
    ] * 2
    assert events[0].details["counts"]["done"] == 1


async def test_what_was_done_to_a_batch_is_recorded_where_it_is_not_on_record(workshop):
    """An event that the API recorded before it died, or before it answered, stays as it was; the others are added."""
    batch_id, ada, now = await workshop.batch(*TEXTS), Actor(name="ada", credential="key:abcd1234"), datetime.now(UTC)
    by_api = batch_event(AuditType.BATCH_PAUSED, TENANT, batch_id, ada, now, which="one")
    await workshop.catalog.audit.record([by_api])
    notes = tuple(
        ControlNote(kind=kind, which="one", by=ada, at=datetime(2030, 1, 1, tzinfo=UTC))
        for kind in (AuditType.BATCH_PAUSED, AuditType.BATCH_RESUMED)
    )
    request = RecordControlsInput(tenant_id=TENANT, batch_id=batch_id, notes=notes)
    for _ in range(2):
        await run_activity(workshop.record_activities.record_controls, request)

    found = await workshop.catalog.audit.list_events(AuditFilter(TENANT, resource_id=batch_id, actor="ada"), 10)
    assert {event.event_type for event in found} == {"BATCH_PAUSED", "BATCH_RESUMED"}
    assert len(found) == 2
    assert by_api in found

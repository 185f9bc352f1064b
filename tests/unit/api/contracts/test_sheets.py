"""Contract C's answers about a batch: how it stands, its results, and what nobody may see."""

import uuid
from datetime import UTC, datetime

import orjson
import pytest

from ingather.domain.keys import sheet_csv_key, sheet_rows_key, submission_part_key
from ingather.domain.sheet_table import csv_header, csv_rows
from ingather.models.batch import BatchProblem, BatchState, BatchSummary, Counts
from ingather.models.document import DocumentStatus
from ingather.models.errors import IdempotencyKeyReusedError, ValidationFailedError
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.sheets import SheetObject, SheetRow, SheetUpload, UploadType
from tests.support.sheet_events import stage_event

TENANT = DEFAULT_TENANT_ID
BATCHES = "/api/batches"
EVERY = ("status", "progress", "stream", "results.csv", "results.ndjson", "skipped.ndjson", "sheets")


def upload(**changes):
    given = {
        "batch_id": str(uuid.uuid4()),
        "tenant_id": TENANT,
        "created_by": "somebody",
        "upload_type": UploadType.ZIP_WITH_QR,
        "objects": (SheetObject(key="uploads/x/y/whole", filename="scan.zip", size_bytes=7),),
        "metadata": {"notes": "Monday", "profile_id": "p1"},
    }
    return SheetUpload(**given | changes)


@pytest.fixture
async def batch_id(api):
    handed_in = upload()
    await api.parts.sheets.submit(handed_in)
    return handed_in.batch_id


async def ended(api, batch_id, state=BatchState.COMPLETED_WITH_FAILURES, **fields):
    counts = Counts(total=3, done=2, failed=1)
    summary = BatchSummary(
        batch_id=batch_id, state=state, counts=counts, version=4, ended_at=datetime.now(UTC), **fields
    )
    await api.catalog.finish_batch(summary)


def row(batch_id, ordinal, group):
    return SheetRow(
        batch_id=batch_id, tenant_id=TENANT, file_id=file_id_for(batch_id, ordinal), ordinal=ordinal,
        filename=f"{ordinal}.png", group_code=group, status=DocumentStatus.DONE,
    )  # fmt: skip


async def get(api, batch_id, what, **params):
    return await api.http.get(f"{BATCHES}/{batch_id}/{what}", params=params)


# --- Submission ---------------------------------------------------------------------------------


async def test_an_upload_becomes_one_batch_however_often_it_is_submitted(api):
    """Its id was given out before, so a lost answer makes no second one."""
    handed_in = upload()
    first = await api.parts.sheets.submit(handed_in)
    again = await api.parts.sheets.submit(handed_in)

    assert (again.batch_id, again.created_at) == (first.batch_id, first.created_at)
    assert len(await api.catalog.list_parts(first.batch_id)) == 1
    assert (first.spec.pipeline, first.spec.metadata["notes"]) == ("sheets", "Monday")
    key = submission_part_key(TENANT, first.batch_id, first.batch_id)
    assert SheetUpload.model_validate_json(await api.blobs.get(key)) == handed_in


async def test_an_id_that_stands_for_another_batch_is_refused(api):
    """Nobody's batch is taken over."""
    other = await api.submit()
    with pytest.raises(IdempotencyKeyReusedError):
        await api.parts.sheets.submit(upload(batch_id=other["id"]))


@pytest.mark.parametrize("kind", [UploadType.ZIP_NO_QR, UploadType.IMAGES])
async def test_sheets_without_codes_need_a_task(api, kind):
    """Nothing else says what they belong to."""
    with pytest.raises(ValidationFailedError, match="task_id"):
        await api.parts.sheets.submit(upload(upload_type=kind))


# --- How it stands ------------------------------------------------------------------------------


async def test_the_status_of_a_batch_that_runs(api, batch_id):
    """Every promised field; nothing is completed yet."""
    body = (await get(api, batch_id, "status")).json()

    assert body.keys() >= {
        "batch_id",
        "status",
        "upload_type",
        "sheets_total",
        "sheets_processed",
        "sheets_failed",
        "created_at",
        "completed_at",
    }
    assert (body["status"] in {"pending", "processing"}, body["upload_type"]) == (True, "zip_with_qr")
    assert body["completed_at"] is None


async def test_the_status_of_a_batch_with_unreadable_sheets_is_completed(api, batch_id):
    """They are counted, as processed and as failed."""
    await ended(api, batch_id)
    body = (await get(api, batch_id, "status")).json()

    assert (body["status"], body["sheets_total"], body["sheets_processed"], body["sheets_failed"]) == (
        "completed",
        3,
        3,
        1,
    )
    assert body["completed_at"] is not None


async def test_a_refused_upload_says_why(api, batch_id):
    """In its status."""
    problem = BatchProblem(code="archive_encrypted", message="Every file is encrypted.")
    await ended(api, batch_id, BatchState.FAILED, problem=problem)
    body = (await get(api, batch_id, "status")).json()
    assert (body["status"], body["error_details"]) == ("failed", "Every file is encrypted.")


async def test_progress_is_the_latest_event_and_how_much_of_the_whole_is_done(api, batch_id):
    """For clients that ask instead of listening."""
    await api.parts.sheet_progress.tell(
        stage_event(batch_id, "processing_sheets", progress_percentage=50, sheets_total=4, sheets_processed=2)
    )
    body = (await get(api, batch_id, "progress")).json()

    assert (body["stage"], body["sheets_processed"], body["stage_percentage"]) == ("processing_sheets", 2, 50.0)
    assert body["progress_percentage"] == 61.0
    assert body.keys() >= {"status", "message", "sheets_total", "elapsed_seconds", "timestamp", "batch_id"}


@pytest.mark.parametrize(
    ("stage", "status"), [("uploading", "pending"), ("extracting", "processing"), ("organizing_qr", "processing")]
)
async def test_a_batch_that_is_looked_into_is_processing(api, batch_id, stage, status):
    """Though it has no place yet in which its sheets run: nobody reads "pending" beside a stage that goes on."""
    waiting = api.engine.open[batch_id].model_copy(update={"state": BatchState.QUEUED, "started_at": None})
    api.engine.open[batch_id] = waiting
    await api.parts.sheet_progress.tell(stage_event(batch_id, stage))
    for what in ("status", "progress"):
        assert (await get(api, batch_id, what)).json()["status"] == status


async def test_progress_is_answered_when_the_log_is_gone(api, batch_id):
    """From what the engine and the catalog know."""
    body = (await get(api, batch_id, "progress")).json()
    assert body["stage"] in {"extracting", "processing_sheets"}
    await ended(api, batch_id)
    body = (await get(api, batch_id, "progress")).json()
    assert (body["stage"], body["status"], body["progress_percentage"]) == ("completed", "completed", 100.0)


# --- Results ------------------------------------------------------------------------------------


async def test_results_are_downloaded_as_a_table_and_as_lines(api, batch_id):
    """Under names that say whose they are."""
    rows = [row(batch_id, 0, "A"), row(batch_id, 1, "B")]
    await api.blobs.put(sheet_csv_key(TENANT, batch_id, 4), (csv_header() + csv_rows(rows)).encode())
    await api.blobs.put(
        sheet_rows_key(TENANT, batch_id, 4), b"".join(r.model_dump_json().encode() + b"\n" for r in rows)
    )
    await ended(api, batch_id)

    table, lines = await get(api, batch_id, "results.csv"), await get(api, batch_id, "results.ndjson")

    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert f"{batch_id}-results.csv" in table.headers["content-disposition"]
    assert len(table.text.splitlines()) == 3
    assert [orjson.loads(line)["group_code"] for line in lines.content.splitlines()] == ["A", "B"]


async def test_there_are_no_results_before_the_end(api, batch_id):
    """404, with when to ask again."""
    response = await get(api, batch_id, "results.csv")
    assert (response.status_code, response.json()["message"]) == (404, "The batch has no results yet.")


async def test_rows_are_listed_by_group_and_page_by_page(api, batch_id):
    """From the catalog."""
    await api.catalog.sheets.load([row(batch_id, n, "A" if n < 3 else "B") for n in range(5)], 4)

    first = (await get(api, batch_id, "sheets", limit=2)).json()
    assert ([each["ordinal"] for each in first["data"]], first["has_more"]) == ([0, 1], True)
    rest = (await get(api, batch_id, "sheets", limit=9, after=1, group="A")).json()
    assert ([each["ordinal"] for each in rest["data"]], rest["has_more"]) == ([2], False)


# --- Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", EVERY)
async def test_an_unknown_batch_is_not_found(api, what):
    """In the contract's shape; what cannot be an id is not found either."""
    for batch_id in (str(uuid.uuid4()), "x"):
        response = await get(api, batch_id, what)
        assert response.status_code == 404
        assert response.json() == {"detail": "Batch not found", "message": "Batch not found"}


@pytest.mark.parametrize("what", EVERY)
async def test_a_batch_of_another_door_is_not_found(api, what):
    """It has no sheets."""
    other = await api.submit()
    assert (await get(api, other["id"], what)).status_code == 404


@pytest.mark.parametrize("what", EVERY)
async def test_another_tenants_batch_is_not_found(api, batch_id, what):
    """As if it were not there."""
    await api.catalog.add_tenant("00000000-0000-7000-8000-0000000000aa", "neighbour")
    headers = {"X-Tenant-ID": "00000000-0000-7000-8000-0000000000aa"}
    response = await api.http.get(f"{BATCHES}/{batch_id}/{what}", headers=headers)
    assert response.status_code == 404


async def test_what_no_route_answers_is_said_in_the_contracts_words(api):
    """A detail and a message, the same."""
    response = await api.http.get(f"{BATCHES}/x/y/z")
    assert (response.status_code, set(response.json())) == (404, {"detail", "message"})


async def test_a_question_that_does_not_fit_says_where(api, batch_id):
    """In the contract's shape, as the uploads do; a number that no sheet has is not left to the database."""
    for name, value in (("limit", 0), ("after", 1 << 40)):
        response = await get(api, batch_id, "sheets", **{name: value})
        body = response.json()
        assert (response.status_code, set(body)) == (422, {"detail", "message"})
        assert name in body["detail"]
        assert body["detail"] == body["message"]

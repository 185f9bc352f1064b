"""Why a batch waits and when it should be done, as clients read it."""

import base64
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from api.engine_waits import PendingWork
from ingather.models.batch import BatchState, BatchSummary, Counts
from ingather.models.document import DocumentStatus
from ingather.models.engine import CPU_QUEUE, IO_QUEUE
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import PlacesLine
from ingather.settings import EmbedderSettings, Settings
from tests.support.api import api_in_process
from tests.support.catalog_records import document_record

SILENT = 30.0


def line(*batch_ids: str, held: int = 4) -> PlacesLine:
    order = b"".join(uuid.UUID(batch_id).bytes for batch_id in batch_ids)
    return PlacesLine(held=held, waiting=len(batch_ids), order=base64.b64encode(order).decode())


async def submitted(api, state: BatchState, *, total: int = 1, ended: int = 0, **changes: object) -> str:
    """A batch of which the engine says so."""
    batch_id = (await api.submit())["id"]
    in_flight = total - ended if state is BatchState.RUNNING else 0
    counts = Counts(total=total, done=ended, in_flight=in_flight, pending=total - ended - in_flight)
    progress = api.engine.open[batch_id].model_copy(update={"state": state, "counts": counts, **changes})
    api.engine.open[batch_id] = progress
    return batch_id


async def ended_in(api, seconds: float) -> None:
    """A batch of one document that took so long."""
    batch_id = (await api.submit())["id"]
    del api.engine.open[batch_id]
    now = datetime.now(UTC)
    await api.catalog.finish_batch(
        BatchSummary(
            batch_id=batch_id,
            state=BatchState.COMPLETED,
            counts=Counts(total=1, done=1),
            version=5,
            started_at=now - timedelta(seconds=seconds),
            ended_at=now,
        )
    )


async def read(api, batch_id: str) -> dict:
    return (await api.http.get(f"/v1/batches/{batch_id}")).json()


async def test_a_queued_batch_tells_its_position(api):
    """``place n of m``, from the tenant's line."""
    batch_id = await submitted(api, BatchState.QUEUED, waiting_for="place")
    api.engine.waits.lines[DEFAULT_TENANT_ID] = line(str(uuid.uuid4()), batch_id, str(uuid.uuid4()))

    assert (await read(api, batch_id))["waiting_for"] == "place 2 of 3"
    [listed] = (await api.http.get("/v1/batches")).json()["data"]
    assert listed["waiting_for"] == "place 2 of 3"


@pytest.mark.parametrize("is_down", [True, False], ids=["engine silent", "not named"])
async def test_a_position_nobody_knows_is_not_made_up(api, is_down):
    """Without the line it is ``place``, which is what the batch itself said."""
    batch_id = await submitted(api, BatchState.QUEUED, waiting_for="place")
    api.engine.waits.is_down = is_down

    assert (await read(api, batch_id))["waiting_for"] == "place"


async def test_a_running_batch_waits_for_nothing(api):
    """Work goes on: null."""
    batch_id = await submitted(api, BatchState.RUNNING, total=10, ended=3)

    assert (await read(api, batch_id))["waiting_for"] is None


async def test_a_batch_whose_work_nobody_takes_says_so(api):
    """Its documents are scheduled, none has started, and no worker asks for any."""
    batch_id = await submitted(api, BatchState.RUNNING, total=10)
    api.engine.waits.silent_seconds[CPU_QUEUE] = SILENT
    api.engine.waits.work = PendingWork(scheduled=10)

    seen = await read(api, batch_id)
    assert (seen["waiting_for"], seen["estimated_completion_at"]) == ("no worker", None)


async def test_a_worker_whose_slots_are_full_is_still_a_worker(api):
    """It asks for nothing while it works; a document of the batch that has started shows that it is there."""
    batch_id = await submitted(api, BatchState.RUNNING, total=10)
    api.engine.waits.silent_seconds[CPU_QUEUE] = SILENT
    api.engine.waits.work = PendingWork(started=2, scheduled=8)

    assert (await read(api, batch_id))["waiting_for"] is None


async def test_a_batch_whose_request_nobody_carries_waits_for_a_worker(api):
    """Before its turn comes somebody has to ask for it."""
    batch_id = await submitted(api, BatchState.QUEUED, waiting_for="place")
    api.engine.waits.silent_seconds[IO_QUEUE] = SILENT
    api.engine.waits.work = PendingWork(scheduled=2)

    assert (await read(api, batch_id))["waiting_for"] == "no worker"


async def test_a_paused_batch_waits_for_resume_whatever_else_is_missing(api):
    """A person's word comes first: workers would change nothing."""
    batch_id = await submitted(api, BatchState.PAUSED, total=10, ended=5)
    api.engine.waits.silent_seconds[CPU_QUEUE] = SILENT

    seen = await read(api, batch_id)
    assert (seen["waiting_for"], seen["estimated_completion_at"]) == ("resume", None)


async def test_a_provider_that_wants_to_be_left_alone_is_named_with_its_time():
    """Most of what was tried waits until the service takes requests again; the minute is rounded up, in UTC."""
    settings = Settings(embedder=EmbedderSettings(kind="openai", base_url="http://127.0.0.1:9", model="m"))
    async with api_in_process(settings) as api:
        batch_id = await submitted(api, BatchState.RUNNING, total=10)
        until = datetime(2026, 3, 14, 14, 4, 12, tzinfo=UTC)
        api.engine.waits.work = PendingWork(started=1, scheduled=7, limited=2, limited_until=until)

        seen = await read(api, batch_id)
        assert (seen["waiting_for"], seen["estimated_completion_at"]) == ("provider limit until 14:05", None)


async def test_a_few_refusals_on_the_way_are_no_standstill():
    """While more documents are at work than wait for the provider, the batch goes on."""
    settings = Settings(embedder=EmbedderSettings(kind="openai", base_url="http://127.0.0.1:9", model="m"))
    async with api_in_process(settings) as api:
        batch_id = await submitted(api, BatchState.RUNNING, total=10)
        api.engine.waits.work = PendingWork(started=4, limited=2, limited_until=datetime.now(UTC))

        assert (await read(api, batch_id))["waiting_for"] is None


async def test_a_queued_batch_is_estimated_at_the_tenants_pace(api):
    """What runs and stands before it, then itself, at the pace of the tenant's latest batches."""
    await ended_in(api, seconds=10)
    await submitted(api, BatchState.RUNNING, total=5, ended=1)
    first = await submitted(api, BatchState.QUEUED, total=3)
    second = await submitted(api, BatchState.QUEUED, total=2)
    behind = await submitted(api, BatchState.QUEUED, total=100)
    api.engine.waits.lines[DEFAULT_TENANT_ID] = line(first, second, behind)

    left = datetime.fromisoformat((await read(api, second))["estimated_completion_at"]) - datetime.now(UTC)

    assert left.total_seconds() == pytest.approx((4 + 3 + 2) * 10, abs=2)


async def test_a_queued_batch_of_a_new_tenant_has_no_estimate(api):
    """Nothing was ever measured: null, not a guess."""
    batch_id = await submitted(api, BatchState.QUEUED)
    api.engine.waits.lines[DEFAULT_TENANT_ID] = line(batch_id)

    assert (await read(api, batch_id))["estimated_completion_at"] is None


async def test_the_position_is_part_of_the_etag(api):
    """Somebody who polls with ``If-None-Match`` hears that the line moved."""
    batch_id = await submitted(api, BatchState.QUEUED)
    api.engine.waits.lines[DEFAULT_TENANT_ID] = line(batch_id)
    tag = (await api.http.get(f"/v1/batches/{batch_id}")).headers["etag"]

    same = await api.http.get(f"/v1/batches/{batch_id}", headers={"If-None-Match": tag})
    assert same.status_code == 304

    api.engine.waits.lines[DEFAULT_TENANT_ID] = line(str(uuid.uuid4()), batch_id)
    changed = await api.http.get(f"/v1/batches/{batch_id}", headers={"If-None-Match": tag})
    assert changed.status_code == 200


async def test_a_large_document_is_expected_to_take_long(api):
    """Two batches are equally far by count; the one with three megabytes to come is done later."""
    began = datetime.now(UTC) - timedelta(seconds=1)
    estimates = []
    for last in (1_000, 3_000_000):
        batch_id = await submitted(api, BatchState.RUNNING, total=10, ended=5, started_at=began)
        await api.catalog.add_documents(
            [
                document_record(
                    batch_id,
                    ordinal,
                    size_bytes=last if ordinal == 9 else 1_000,
                    status=DocumentStatus.DONE if ordinal < 5 else DocumentStatus.PENDING,
                )
                for ordinal in range(10)
            ]
        )
        estimates.append(datetime.fromisoformat((await read(api, batch_id))["estimated_completion_at"]))
    assert estimates[1] - estimates[0] > timedelta(seconds=1)

"""The cleaning of uploads: what it finishes, what it removes, what it leaves alone."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import uuid_utils
from temporalio.testing import ActivityEnvironment

from activities.uploads import UploadActivities
from ingather.domain.keys import incoming_key
from ingather.models.batch import BatchProblem, BatchState, BatchSummary, Counts
from ingather.models.errors import StorageUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import CleanUploadsOutput
from ingather.models.upload import UploadState
from tests.support.api import api_in_process
from tests.support.chunks import ChunkClient
from tests.unit.api.test_batch_uploads import uploaded

LIFETIME = timedelta(hours=24)
PAST = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
async def api():
    async with api_in_process() as made:
        yield made


async def clean(api, finish=None) -> CleanUploadsOutput:
    uploads = api.parts.chunked_uploads
    finish = finish or uploads.finish
    progress = api.parts.sheet_progress
    activities = UploadActivities(
        api.blobs, uploads.parted, api.catalog, progress=progress, lifetime=LIFETIME, finish=finish
    )
    return await ActivityEnvironment().run(activities.clean_uploads)


async def change(api, upload_id: str, **changes) -> None:
    await api.catalog.uploads.edit_upload(upload_id, changes)


async def unbegun(api) -> ChunkClient:
    """All chunks are there, and the batch did not begin."""
    client = ChunkClient(api.http, [b"one", b"two"])
    await client.taken(0)
    api.engine.fails_to_start = True
    assert (await client.send(1)).status_code == 503
    return client


async def last_stage(api, batch_id: str) -> str:
    """Of the latest event that was told of a batch of sheets."""
    return json.loads((await api.parts.sheet_progress.latest(batch_id)).body)["stage"]


async def kept(api) -> list[str]:
    return [*await api.keys("incoming/"), *await api.keys("uploads/")]


async def test_an_upload_that_is_complete_gets_its_batch(api):
    """Its API process died between the last chunk and the start; another client's batch is not begun twice."""
    client = await unbegun(api)
    api.engine.fails_to_start = False
    assert await clean(api) == CleanUploadsOutput()  # whoever took the last chunk may be at it
    await change(api, client.upload_id, changed_at=PAST)
    assert await clean(api) == CleanUploadsOutput(begun=1)
    upload = await api.catalog.uploads.get_upload(client.upload_id)
    assert (upload.state, list(api.engine.specs)) == (UploadState.STARTED, [upload.batch_id])
    assert await clean(api) == CleanUploadsOutput()


async def test_an_upload_gets_its_batch_though_many_before_it_cannot(api):
    """Those that have been refused again and again, more than a page of them, hide nobody."""
    client = await unbegun(api)
    api.engine.fails_to_start = False
    await change(api, client.upload_id, changed_at=PAST)
    upload = await api.catalog.uploads.get_upload(client.upload_id)
    without_task = upload.details | {"upload_type": "images"}
    for number in range(120):
        refused = {"upload_id": str(uuid.UUID(int=number)), "batch_id": str(uuid.uuid4()), "details": without_task}
        await api.catalog.uploads.open_upload(upload.model_copy(update=refused))
    assert await clean(api) == CleanUploadsOutput(begun=1)
    assert list(api.engine.specs) == [upload.batch_id]


async def test_an_upload_gets_its_batch_though_storage_fails_those_before_it(api):
    """One or two, each time anew; when it fails more in a row, the others are left to the next run."""
    client = await unbegun(api)
    api.engine.fails_to_start = False
    await change(api, client.upload_id, changed_at=PAST)
    upload = await api.catalog.uploads.get_upload(client.upload_id)

    async def finish(other):
        if other.upload_id != upload.upload_id:
            raise StorageUnavailableError("Object storage did not answer.")
        return await api.parts.chunked_uploads.finish(other)

    begun = []
    for number in range(1, 4):
        copy = {"upload_id": str(uuid.UUID(int=number)), "batch_id": str(uuid.uuid4())}
        await api.catalog.uploads.open_upload(upload.model_copy(update=copy))
        begun.append((await clean(api, finish)).begun)
        await change(api, upload.upload_id, state=UploadState.STORED)
    assert begun == [1, 1, 0]


async def test_while_the_engine_is_away_nothing_is_given_up(api):
    """It is tried again, until as much time is over once more."""
    client = await unbegun(api)
    await change(api, client.upload_id, changed_at=PAST, expires_at=PAST)
    assert await clean(api) == CleanUploadsOutput()
    assert await kept(api)
    await change(api, client.upload_id, expires_at=PAST - LIFETIME)
    assert await clean(api) == CleanUploadsOutput(removed=1)
    assert await kept(api) == []


async def test_what_is_not_finished_in_time_is_removed(api):
    """Chunks, parts and all that is known of it, and whoever listens is told; what is still in time stays."""
    late, in_time = (ChunkClient(api.http, [bytes(size)] * 3) for size in (9 * 1024 * 1024, 5))
    for index in (0, 2):
        await late.taken(index)
        await in_time.taken(index)
    before = [await api.catalog.uploads.get_upload(client.upload_id) for client in (late, in_time)]
    await change(api, late.upload_id, expires_at=PAST)
    assert await clean(api) == CleanUploadsOutput(removed=1)
    assert await api.catalog.uploads.get_upload(late.upload_id) is None
    assert [await last_stage(api, each.batch_id) for each in before] == ["failed", "uploading"]
    assert len(await kept(api)) == 2
    assert api.parts.chunked_uploads.parted.open_count == 1


async def test_a_batchs_file_is_the_batchs(api):
    """Of an upload that has begun one, the record goes and the file stays; nobody is told of an end."""
    client = ChunkClient(api.http, [b"one"])
    batch_id = (await client.taken(0))["batch_id"]
    await change(api, client.upload_id, expires_at=PAST)
    assert await clean(api) == CleanUploadsOutput(removed=1)
    assert len(await kept(api)) == 1
    assert await last_stage(api, batch_id) == "uploading"


async def test_a_file_over_tus_stays_as_long_as_a_batch_needs_it(api):
    """While one runs, and where documents failed and may be retried; then it goes."""
    upload_id = await uploaded(api, b"hello")
    batches = [(await api.submit(documents=[], uploads=[upload_id]))["id"] for _ in range(2)]
    await change(api, upload_id, expires_at=PAST)
    assert await clean(api) == CleanUploadsOutput()
    await api.end(batches[0], BatchState.COMPLETED, done=1)
    await api.end(batches[1], BatchState.FAILED, failed=1)
    assert await clean(api) == CleanUploadsOutput()
    retried = await api.http.post(f"/v1/batches/{batches[1]}/retry")
    assert retried.status_code == 202
    await api.end(batches[1], BatchState.COMPLETED, done=1)
    assert await clean(api) == CleanUploadsOutput(removed=1)
    assert await kept(api) == []


async def test_a_file_over_tus_goes_with_a_batch_that_was_refused_whole(api):
    """Such a batch is not retried."""
    upload_id = await uploaded(api, b"hello")
    batch_id = (await api.submit(documents=[], uploads=[upload_id]))["id"]
    await change(api, upload_id, expires_at=PAST)
    problem = BatchProblem(code="archive_corrupt", message="It is no archive.")
    await api.catalog.finish_batch(
        BatchSummary(
            batch_id=batch_id, state=BatchState.FAILED, counts=Counts(total=1, failed=1), version=2, problem=problem
        )
    )
    assert await clean(api) == CleanUploadsOutput(removed=1)
    assert await kept(api) == []


async def test_a_file_that_nobody_names_goes_when_its_time_is_over(api):
    """Finished or not."""
    upload_id = await uploaded(api, b"hello")
    assert await clean(api) == CleanUploadsOutput()
    await change(api, upload_id, expires_at=PAST)
    assert await clean(api) == CleanUploadsOutput(removed=1)
    assert await kept(api) == []


async def test_pieces_of_no_upload_are_swept(api):
    """Stored, and their request died before they were counted: old ones go, by the time in their names."""
    milliseconds = int((datetime.now(UTC) - 3 * LIFETIME).timestamp() * 1_000)
    old = uuid.UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62)
    for name in (str(old), str(uuid_utils.uuid7()), "something else"):
        await api.blobs.put(incoming_key(DEFAULT_TENANT_ID, name), b"x")
    assert await clean(api) == CleanUploadsOutput(swept=1)
    assert len(await kept(api)) == 2

"""Documents that are handed on: stored under their own key, pushed once, recorded as done."""

import asyncio
import hashlib
import uuid

import pytest
from structlog.testing import capture_logs
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from ingather.domain.keys import raw_key, upload_key
from ingather.models.content import BlobRef
from ingather.models.document import DocumentFailure, DocumentRef, DocumentStatus
from ingather.models.errors import CatalogUnavailableError, HandoffUnavailableError, StorageUnavailableError
from ingather.models.identity import file_id_for
from ingather.ports.audit import AuditFilter
from tests.support.ingesting import TENANT, activity_environment, run_activity

TEXTS = (b"one", b"two", b"three")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def hand_on(workshop, batch_id, ordinal=0, **run):
    return await run_activity(
        workshop.handoff_activities.hand_on_document, await workshop.request(batch_id, ordinal), **run
    )


def taken(workshop):
    """Everything on the tenant's list, in the order its workers get it."""
    found = []
    while (entry := workshop.queue.take(TENANT)) is not None:
        found.append(entry)
    return found


async def packed_batch(workshop, *contents):
    """A batch whose bytes came in together, in one object."""
    batch_id = str(uuid.uuid4())
    key = upload_key(TENANT, batch_id, "pack-00001")
    await workshop.blobs.put(key, b"".join(contents))
    refs, offset = [], 0
    for ordinal, content in enumerate(contents):
        blob = BlobRef(key=key, offset=offset, size_bytes=len(content), sha256=sha256(content))
        refs.append(DocumentRef(ordinal=ordinal, filename=f"{ordinal}.txt", blob=blob))
        offset += len(content)
    await workshop.add_manifest(batch_id, refs, "default")
    return batch_id


async def test_a_document_is_written_pushed_and_done(workshop, preparer):
    """An object at its own key, an entry of five fields, a row that is done; nothing was parsed."""
    batch_id = await workshop.batch(*TEXTS)

    output = await hand_on(workshop, batch_id, 1)

    assert output.status is DocumentStatus.DONE
    file_id = file_id_for(batch_id, 1)
    path = f"raw/{TENANT}/{file_id}/{sha256(b'two')}"
    assert await workshop.blobs.get(path) == b"two"
    [entry] = taken(workshop)
    assert entry.model_dump() == {
        "file_id": file_id, "batch_id": batch_id, "sha256": sha256(b"two"), "storage_path": path, "tenant_id": TENANT,
    }  # fmt: skip
    row = await workshop.row(batch_id, 1)
    assert (row.status, row.raw_key, row.raw_offset, row.chunk_count) == (DocumentStatus.DONE, path, 0, 0)
    assert preparer.parsed == []


async def test_small_documents_get_objects_of_their_own(workshop):
    """Also those that came in with others and share an activity: the next stage knows one key a document."""
    batch_id = await packed_batch(workshop, *TEXTS)

    output = await run_activity(
        workshop.handoff_activities.hand_on_pack, await workshop.pack_request(batch_id, 0, 1, 2)
    )

    assert (output.statuses, output.failures) == ("ddd", {})
    for ordinal, (content, entry) in enumerate(zip(TEXTS, taken(workshop), strict=True)):
        path = raw_key(TENANT, file_id_for(batch_id, ordinal), sha256(content))
        assert entry.storage_path == path
        assert await workshop.blobs.get(path) == content
        assert (await workshop.row(batch_id, ordinal)).raw_key == path


@pytest.mark.parametrize("packed", [False, True])
async def test_a_crash_between_push_and_record_pushes_nothing_twice(workshop, packed):
    """The first attempt pushed and died; the next one finds that out, and brings the catalog in line."""
    batch_id = await packed_batch(workshop, *TEXTS)
    activities = workshop.handoff_activities
    method = activities.hand_on_pack if packed else activities.hand_on_document
    request = await (workshop.pack_request(batch_id, 0) if packed else workshop.request(batch_id, 0))
    workshop.catalog.faults["save_outcome"] = CatalogUnavailableError("away")
    with pytest.raises(ApplicationError) as caught:
        await run_activity(method, request)
    assert not caught.value.non_retryable
    assert len(taken(workshop)) == 1
    assert (await workshop.row(batch_id, 0)).status is DocumentStatus.PENDING

    workshop.catalog.faults.clear()
    await run_activity(method, request, attempt=2)

    assert taken(workshop) == []
    assert (await workshop.row(batch_id, 0)).status is DocumentStatus.DONE


async def test_the_same_content_twice_is_two_documents(workshop):
    """Nothing is skipped here: what to do with a copy is the next stage's affair."""
    batch_id = await workshop.batch(b"same", b"same")
    for ordinal in (0, 1):
        assert (await hand_on(workshop, batch_id, ordinal)).status is DocumentStatus.DONE
    assert [entry.file_id for entry in taken(workshop)] == [file_id_for(batch_id, ordinal) for ordinal in (0, 1)]


@pytest.mark.parametrize("operation", ["get", "put"])
async def test_nothing_is_pushed_without_its_bytes(workshop, operation):
    """Storage that is away is waited for; until then nobody is told."""
    batch_id = await workshop.batch(*TEXTS)
    workshop.blobs.faults[operation, "uploads/" if operation == "get" else "raw/"] = StorageUnavailableError("away")
    with pytest.raises(ApplicationError) as caught:
        await hand_on(workshop, batch_id)
    assert (caught.value.type, caught.value.non_retryable) == ("storage_unavailable", False)
    assert taken(workshop) == []


async def test_a_redis_that_is_away_is_waited_for(workshop):
    """The document is tried again; it has no outcome before it is pushed."""

    async def away(*_args, **_options):
        raise HandoffUnavailableError("away")

    batch_id = await workshop.batch(*TEXTS)
    pushing, workshop.queue.push = workshop.queue.push, away
    with pytest.raises(ApplicationError) as caught:
        await hand_on(workshop, batch_id)
    assert (caught.value.type, caught.value.non_retryable) == ("handoff_unavailable", False)
    assert (await workshop.row(batch_id)).status is DocumentStatus.PENDING

    workshop.queue.push = pushing
    assert (await hand_on(workshop, batch_id, attempt=2)).status is DocumentStatus.DONE
    assert len(taken(workshop)) == 1


async def test_what_cannot_be_stored_fails_alone(workshop):
    """Empty ones and refused ones are failures of their own; their neighbours are handed on."""
    batch_id = await packed_batch(workshop, b"", b"two")
    output = await run_activity(workshop.handoff_activities.hand_on_pack, await workshop.pack_request(batch_id, 0, 1))
    assert (output.statuses, list(output.failures)) == ("fd", ["empty"])
    assert [entry.file_id for entry in taken(workshop)] == [file_id_for(batch_id, 1)]

    refused = await workshop.refused_batch(DocumentFailure(code="invalid_base64", message="broken"))
    assert (await hand_on(workshop, refused)).code == "invalid_base64"
    assert taken(workshop) == []


async def test_a_cancel_that_comes_after_the_push_is_too_late(workshop):
    """What was handed on is done, in the catalog and for the workflow."""
    batch_id = await workshop.batch(*TEXTS)
    pushing = asyncio.Event()
    push = workshop.queue.push

    async def slow_push(*args, **options):
        pushing.set()
        await asyncio.sleep(0.05)
        return await push(*args, **options)

    workshop.queue.push = slow_push
    environment: ActivityEnvironment = activity_environment()
    request = await workshop.request(batch_id)
    running = asyncio.create_task(environment.run(workshop.handoff_activities.hand_on_document, request))
    await pushing.wait()
    environment.cancel()

    assert (await running).status is DocumentStatus.DONE
    assert (await workshop.row(batch_id)).status is DocumentStatus.DONE
    assert len(taken(workshop)) == 1


async def test_what_the_catalog_remembers_is_not_pushed_again(workshop):
    """Also where the markers are gone: an attempt that comes after the record has nothing to push."""
    batch_id = await workshop.batch(*TEXTS)
    await hand_on(workshop, batch_id)
    workshop.queue.clear()

    for retry in ({"attempt": 2}, {"retry_round": 1}):
        attempt = retry.pop("attempt", 1)
        request = await workshop.request(batch_id, 0, **retry)
        await run_activity(workshop.handoff_activities.hand_on_document, request, attempt=attempt)
    assert taken(workshop) == []


async def test_a_document_is_audited_once(workshop):
    """With the published fields, under the name of whom it came from, however often it is tried."""
    batch_id = await workshop.batch(*TEXTS)
    for attempt in (1, 2, 3):
        request = await workshop.request(batch_id, 0, actor="ada")
        await run_activity(workshop.handoff_activities.hand_on_document, request, attempt=attempt)

    [event] = await workshop.catalog.audit.list_events(AuditFilter(TENANT), 10)
    row = await workshop.row(batch_id)
    assert uuid.UUID(event.event_id)
    assert event.model_dump(exclude={"event_id", "timestamp"}) == {
        "tenant_id": TENANT, "event_type": "DOCUMENT_INGESTED", "resource_type": "document",
        "resource_id": row.file_id, "details": {"filename": row.filename}, "actor": "ada",
    }  # fmt: skip
    assert row.ended_at is not None
    assert event.timestamp <= row.ended_at


async def test_no_text_leaves_the_activity(workshop, capsys):
    """What is pushed, answered and logged says where the bytes are, never what they say."""
    secret = "Zanzibar-7731"
    batch_id = await workshop.batch(secret.encode())
    with capture_logs() as lines:
        output = await hand_on(workshop, batch_id)
    [entry] = taken(workshop)
    spoken = [lines, *capsys.readouterr(), output, entry, await workshop.row(batch_id)]
    assert lines
    assert not any(secret in str(word) for word in spoken)

"""The client and the API in one process: what one answers, the other reads."""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from ingather.client import (
    AsyncIngatherClient,
    ConflictError,
    InvalidRequestError,
    NewDocument,
    NotFoundError,
    Selection,
    UploadStream,
)
from ingather.models.batch import BatchState
from ingather.models.document import DocumentStatus
from ingather.settings import Settings, SourceSettings, WebhookSettings
from tests.support.api import ApiInProcess, api_in_process
from tests.support.listening import listening
from tests.support.source_jobs import DRIVE, connect
from tests.support.watched_job import OWNER, job_world


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


@dataclass
class World:
    api: ApiInProcess
    client: AsyncIngatherClient


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder that connections may lead to."""
    (tmp_path / "q1").mkdir()
    for name in ("a.txt", "b.txt", "q1/c.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
async def world(shelf: Path) -> AsyncIterator[World]:
    settings = Settings(
        sources=SourceSettings(roots=(shelf,), keys=Fernet.generate_key().decode()),
        webhooks=WebhookSettings(allow_private=True),
    )
    async with api_in_process(settings) as api:
        transport = httpx.ASGITransport(api.app)
        async with AsyncIngatherClient("http://api.test", transport=transport) as client:
            yield World(api, client)


async def test_what_is_sent_in_any_way_arrives(world: World) -> None:
    """Bytes, a pipe of unknown length, lines that are made as they are sent, a piece of JSON."""
    client = world.client
    files = [("a.txt", b"alpha"), UploadStream("b.txt", Pipe(b"beta" * 200_000))]
    metadata = {"a.txt": {"year": 2026}}
    batches = [
        await client.submit(files, metadata=metadata, name="n", collection="papers", batch_metadata={"by": "Ada"}),
        await client.submit_lines(NewDocument(f"{number}.txt", "text") for number in range(3)),
        await client.submit_documents([NewDocument("c.txt", "gamma", {"year": 2026})], priority=2),
    ]
    assert [batch.counts.total for batch in batches] == [2, 3, 1]
    first = batches[0]
    assert (first.name, first.collection, first.metadata) == ("n", "papers", {"by": "Ada"})
    assert first.created_at
    assert first.created_at.tzinfo
    assert batches[2].priority == 2


async def test_the_same_key_is_the_same_batch(world: World) -> None:
    """Another payload under it is refused."""
    client = world.client
    one = await client.submit([("a.txt", b"alpha")], idempotency_key="k")
    other = await client.submit([("a.txt", b"alpha")], idempotency_key="k")
    assert (one.id, one.was_replayed, other.was_replayed) == (other.id, False, True)
    with pytest.raises(InvalidRequestError) as caught:
        await client.submit([("a.txt", b"beta")], idempotency_key="k")
    assert caught.value.code == "idempotency_key_reused"


async def test_an_open_batch_is_filled_and_sealed(world: World) -> None:
    """Files and lines add up; what was sealed takes no more."""
    client = world.client
    batch = await client.open_batch(name="nightly")
    assert batch.waiting_for == "seal"
    await client.add(batch.id, [("a.txt", b"alpha")])
    added = await client.add_lines(batch.id, [NewDocument("b.txt", "beta"), NewDocument("c.txt", "gamma")])
    assert (added.documents_added, added.documents) == (2, 3)
    assert (await client.seal(batch.id)).status == "running"
    with pytest.raises(ConflictError):
        await client.add(batch.id, [("d.txt", b"delta")])


async def test_a_dry_run_says_what_would_happen(world: World) -> None:
    """And nothing is kept."""
    found = await world.client.preview([("a.txt", b"alpha"), ("b.txt", b"alpha")])
    assert (found.documents, found.bytes, found.duplicates) == (2, 10, 1)
    assert (await world.client.preview_lines([NewDocument("c.txt", "gamma")])).documents == 1
    assert [batch async for batch in world.client.batches()] == []


async def test_a_batch_is_steered_and_edited(world: World) -> None:
    """Each answer is the batch as it is then."""
    client = world.client
    batch = await client.submit([("a.txt", b"alpha")], hold=True)
    assert (await client.start(batch.id)).status == "running"
    assert (await client.pause(batch.id)).status == "paused"
    assert (await client.resume(batch.id)).status == "running"
    edited = await client.edit(batch.id, name="renamed", priority=1)
    assert (edited.name, edited.priority) == ("renamed", 1)
    await client.cancel(batch.id)
    assert [name for _, name, _ in world.api.engine.messages][-1] == "cancel"


async def test_lists_are_read_to_their_end(world: World) -> None:
    """Page by page, or as far as was asked."""
    client = world.client
    made = [(await client.submit([("a.txt", b"alpha")])).id for _ in range(5)]
    assert [batch.id async for batch in client.batches()] == made[::-1]
    assert [batch.id async for batch in client.batches(limit=2)] == made[:2:-1]
    assert [batch.id async for batch in client.batches(status="completed")] == []


async def test_tenants_users_and_keys_come_and_go(world: World) -> None:
    """Made, listed, changed, deleted; and all of it is in the audit log."""
    client = world.client
    tenant = await client.create_tenant("Acme", {"fairness_weight": 2}, pipeline="handoff")
    assert (await client.edit_tenant(tenant.id, {"name": "Acme & Co"})).name == "Acme & Co"
    user = await client.create_user("ada", "correct horse battery", tenant_id=tenant.id, scopes=["read"])
    token = await client.log_in("ada", "correct horse battery")
    assert token.expires_in > 0
    assert token.access_token not in repr(token)
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    key = await client.create_api_key("nightly", tenant_id=tenant.id, user="ada", expires_at=expires_at)
    assert key.key
    assert key.expires_at == expires_at
    next_key = await client.rotate_api_key(key.id, grace_seconds=60)
    assert next_key.rotated_from == key.id
    listed = [(each.id, each.key) async for each in client.api_keys(tenant_id=tenant.id)]
    assert sorted(listed) == sorted([(key.id, None), (next_key.id, None)])
    assert [each.username async for each in client.users(tenant_id=tenant.id)] == ["ada"]
    await client.delete_api_key(next_key.id)
    await client.delete_user(user.id)
    await client.delete_tenant(tenant.id)
    assert tenant.id not in [each.id async for each in client.tenants()]
    recorded = [each.type async for each in client.audit(tenant_id=tenant.id, since=datetime.now(UTC) - timedelta(1))]
    assert {"TENANT_CREATED", "USER_CREATED", "API_KEY_ROTATED", "TENANT_DELETED"} <= set(recorded)


async def test_limits_are_known_before_a_byte_is_sent(world: World) -> None:
    """Those that have a meaning here by name, all of them as they came."""
    limits = await world.client.limits()
    assert limits.max_documents_per_batch == 1_000_000
    assert "max_concurrent_jobs" in limits.raw


async def test_webhooks_are_made_tried_and_their_log_is_read(world: World) -> None:
    """The secret comes once; what was sent is listed, and sent again."""
    client = world.client
    made = await client.create_webhook("http://127.0.0.1:9/", event_types=["batch.failed"], description="ops")
    assert made.secret is not None
    assert (made.event_types, made.is_enabled, made.batch_id) == (("batch.failed",), True, None)
    assert [(each.id, each.secret) async for each in client.webhooks()] == [(made.id, None)]
    changed = await client.edit_webhook(made.id, event_types=[], is_enabled=True)
    assert changed == await client.webhook(made.id)
    assert (await client.rotate_webhook(made.id)).secret not in {None, made.secret}
    tested = await client.test_webhook(made.id)
    assert (tested.ok, tested.status_code) == (False, None)
    [sent] = [each async for each in client.deliveries(made.id, status="failed")]
    assert (sent.event_type, len(sent.attempts)) == ("webhook.test", 1)
    again = await client.redeliver(made.id, sent.id)
    assert (await client.delivery(made.id, again.id)).event_id == sent.event_id
    await client.delete_webhook(made.id)
    with pytest.raises(NotFoundError):
        await client.webhook(made.id)


async def test_a_source_is_connected_tried_and_browsed(world: World, shelf: Path) -> None:
    """A folder and its files; the same again is what is there, and something else under its id is a conflict."""
    client, settings = world.client, {"path": str(shelf)}
    made = await client.create_connection("local_directory", settings, connection_id="shelf")
    assert (made.id, made.source_type, made.settings) == ("shelf", "local_directory", settings)
    assert await client.create_connection("local_directory", settings, connection_id="shelf") == made
    with pytest.raises(ConflictError):
        await client.create_connection("local_directory", {"path": str(shelf / "q1")}, connection_id="shelf")
    assert await client.connection("shelf") == made
    assert [each.id async for each in client.connections()] == ["shelf"]
    tested = await client.test_connection("shelf")
    assert (tested.ok, tested.code) == (True, None)
    found = [(each.id, each.is_folder, each.size_bytes) async for each in client.connection_files("shelf")]
    assert sorted(found) == [("a.txt", False, 5), ("b.txt", False, 5), ("q1", True, None)]
    assert [each.id async for each in client.connection_files("shelf", folder="q1")] == ["q1/c.txt"]
    await client.delete_connection("shelf")
    with pytest.raises(NotFoundError, match="Connection not found"):
        await client.connection("shelf")


async def test_that_a_connection_does_not_work_is_an_answer(world: World, shelf: Path) -> None:
    """With what is wrong, and what to do; it is no error."""
    await world.client.create_connection("local_directory", {"path": str(shelf / "gone")}, connection_id="lost")
    tested = await world.client.test_connection("lost")
    assert (tested.ok, bool(tested.code), bool(tested.message), bool(tested.action)) == (False, True, True, True)


async def test_files_of_a_source_are_submitted_and_added(world: World, shelf: Path) -> None:
    """As a batch of their own, or into an open one; a connection that is not there is refused."""
    client = world.client
    await client.create_connection("local_directory", {"path": str(shelf)}, connection_id="shelf")
    selection = Selection("shelf", "local_directory", ["a.txt", "q1/c.txt"])
    batch = await client.submit_sources([selection], name="minutes", idempotency_key="k")
    assert (batch.name, batch.counts.total) == ("minutes", 2)
    assert (await client.submit_sources([selection], name="minutes", idempotency_key="k")).was_replayed
    open_batch = await client.open_batch()
    assert (await client.add_sources(open_batch.id, [selection])).documents == 2
    with pytest.raises(InvalidRequestError) as caught:
        await client.submit_sources([Selection("nowhere", "local_directory", ["a.txt"])])
    assert caught.value.code == "unknown_connection"


JOB = (Selection("drive", "google_drive", ["1AbC"]), Selection("drive", "google_drive", ["2DeF", "3GhI"]))


async def test_a_job_is_made_steered_and_read(world: World) -> None:
    """Each answer is typed; the same key is the same job."""
    client = world.client
    await connect(world.api, "drive", DRIVE)
    options = {"chunk_size": 500, "chunk_overlap": 50}
    asked = {"description": "of Vela", "priority": "high", "options": options, "idempotency_key": "k"}
    made = await client.create_job("vera", "Spectra", JOB, **asked)
    assert (made.user_id, made.name, made.description) == ("vera", "Spectra", "of Vela")
    assert (made.status, made.priority, made.total_files) == ("pending", "high", 3)
    assert made.processing_options["chunk_size"] == 500
    assert [(each.connection_id, each.total_files) for each in made.source_progress] == [("drive", 1), ("drive", 2)]
    assert (await client.create_job("vera", "Spectra", JOB, **asked)).id == made.id
    for action, status in (("start", "running"), ("pause", "paused"), ("resume", "running")):
        assert await client.control_job("vera", made.id, action) == status
    read = await client.job("vera", made.id)
    assert (read.status, read.is_final, bool(read.created_at)) == ("running", False, True)
    statistics = await client.job_statistics("vera")
    assert (statistics.total_jobs, statistics.active_jobs, statistics.by_status["running"]) == (1, 1, 1)


async def test_what_a_job_does_not_allow_is_said(world: World) -> None:
    """In the contract's words: `{"detail"}` is the error's title, and its status is the kind."""
    client = world.client
    await connect(world.api, "drive", DRIVE)
    made = await client.create_job("vera", "Spectra", JOB)
    with pytest.raises(InvalidRequestError) as refused:
        await client.control_job("vera", made.id, "pause")
    assert (refused.value.status, str(refused.value)) == (400, "The job cannot pause now. Current status: pending.")
    with pytest.raises(NotFoundError) as missing:
        await client.job("jocelyn", made.id)
    assert str(missing.value) == "Job not found"
    assert missing.value.request_id
    with pytest.raises(InvalidRequestError, match="nowhere"):
        await client.create_job("vera", "Spectra", [Selection("nowhere", "http", ["a"])])


async def test_a_users_jobs_are_listed(world: World) -> None:
    """Newest first, by status, and as many as are wanted; nobody else's."""
    client = world.client
    await connect(world.api, "drive", DRIVE)
    made = [(await client.create_job("vera", f"Job {number}", JOB)).id for number in range(3)]
    await client.create_job("jocelyn", "Hers", JOB)
    await client.control_job("vera", made[0], "start")
    assert [job.id async for job in client.jobs("vera")] == made[::-1]
    assert [job.id async for job in client.jobs("vera", statuses=["running", "paused"])] == made[:1]
    assert [job.name async for job in client.jobs("vera", limit=2)] == ["Job 2", "Job 1"]


async def test_a_job_is_followed_over_the_apis_own_websocket() -> None:
    """From how it is to its end: each file as it starts and ends; another user's job is not there."""
    async with job_world() as world, listening(world.api.app) as url, AsyncIngatherClient(url) as client:
        world.batch.state(BatchState.RUNNING)
        messages = client.job_messages(OWNER, job_id=world.job_id)
        assert (await anext(messages)).type == "connection_established"
        assert (await anext(messages)).job["status"] == "running"
        await world.batch.run([0])
        world.batch.start(1)
        await world.batch.end(1, DocumentStatus.FAILED, "corrupt")
        await world.batch.run([2])
        await world.batch.close(BatchState.COMPLETED_WITH_FAILURES)
        rest = [message async for message in messages]
        told = [(each.file["file_metadata"]["name"], each.file["status"]) for each in rest if each.file]
        assert [each for each in told if each[1] in ("completed", "failed")] == [
            ("document-0.txt", "completed"),
            ("document-1.txt", "failed"),
            ("document-2.txt", "completed"),
        ]
        assert (rest[-1].is_final, rest[-1].job["failed_files"]) == (True, 1)
        with pytest.raises(NotFoundError, match="Job not found"):
            await anext(client.job_messages("vera", job_id=world.job_id))


async def test_a_ticket_opens_one_batchs_events(world: World) -> None:
    """It is an address, and shown nowhere by itself."""
    batch = await world.client.submit([("a.txt", b"alpha")])
    ticket = await world.client.stream_ticket(batch.id)
    assert (ticket.batch_id, ticket.url) == (batch.id, f"{batch.links['events']}?sig={ticket.sig}")
    assert ticket.open_before < ticket.expires_at
    assert ticket.sig not in repr(ticket)
    with pytest.raises(NotFoundError):
        await world.client.stream_ticket("01900000-0000-7000-8000-000000000000")

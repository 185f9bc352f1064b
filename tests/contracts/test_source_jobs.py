"""Contract D, sentence by sentence, over HTTP and WebSocket against the running stack."""

import asyncio
import json
import shutil
import time
import uuid
from datetime import datetime
from pathlib import Path

import pytest
from temporalio.client import Client
from websockets.exceptions import ConnectionClosed

from ingather.models.identity import workflow_id_for
from tests.support.examples import examples_of, fits, run_examples
from tests.support.running_stack import RunningStack, Visitor
from tests.support.source_client import SourceClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "source-jobs.md"
JOB_FIELDS = {
    "job_id", "user_id", "name", "description", "status", "priority", "created_at", "started_at", "completed_at",
    "total_files", "completed_files", "failed_files", "skipped_files", "progress_percentage", "estimated_duration_ms",
    "source_progress",
}  # fmt: skip
SELECTION_FIELDS = {
    "source_type", "connection_id", "total_files", "completed_files", "failed_files", "skipped_files",
    "progress_percentage", "files",
}  # fmt: skip
FILE_FIELDS = {"file_id", "status", "progress", "current_step", "error", "file_metadata"}
STATISTICS = {
    "total_jobs", "active_jobs", "completed_jobs", "failed_jobs", "cancelled_jobs", "total_files_processed",
    "average_processing_time_ms", "success_rate", "by_source_type", "by_priority", "by_status",
}  # fmt: skip
NOBODYS = "01900000-0000-7000-8000-000000000000"


@pytest.fixture
async def client(visitor: Visitor, shelf: Path) -> SourceClient:
    """A user of the test's own, with a folder that is connected."""
    name = f"user-{time.monotonic_ns()}"
    folder = shelf / name
    folder.mkdir()
    body = {"connection_id": name, "source_type": "local_directory", "settings": {"path": str(folder)}}
    await visitor.post("/v1/connections", body, status=201)
    return SourceClient(visitor, name, folder, name)


@pytest.fixture
async def temporal(stack: RunningStack) -> Client:
    """What the Temporal UI talks to."""
    return await Client.connect(stack.up.facts()["temporal"]["address"])


# Jobs


async def test_health_is_200_with_status_service_and_timestamp(client: SourceClient):
    """Healthy."""
    response = await client.http.get("/health")
    assert response.status_code == 200
    assert response.json()["status"] == "healthy"
    assert {"status", "service", "timestamp"} <= response.json().keys()


async def test_a_job_is_created_pending_and_waits_for_start(client: SourceClient):
    """With every field of it; nothing is fetched before ``start``."""
    names = client.write(2, "held")
    job = await client.create(client.selection(*names), description="of Vela", priority="high")
    assert job.keys() >= JOB_FIELDS
    assert (job["status"], job["user_id"], job["priority"]) == ("pending", client.user_id, "high")
    assert (job["total_files"], job["description"]) == (2, "of Vela")
    assert uuid.UUID(job["job_id"]).version == 7
    assert datetime.fromisoformat(job["created_at"]).utcoffset() is not None
    await client.until(job["job_id"], lambda now: len(now["source_progress"][0]["files"]) == 2)
    assert (await client.read(job["job_id"]))["status"] == "pending"


async def test_a_job_is_told_by_selection_and_file(client: SourceClient):
    """A file that is not there fails alone, one that is there already is skipped; the job completes."""
    names = client.write(3, "told")
    first = await client.started(client.selection(names[0]))
    await client.ended(first)
    job_id = await client.started(client.selection(*names[:2]), client.selection(names[2], "no-such.txt"))
    job = await client.ended(job_id)

    assert (job["status"], job["completed_files"], job["failed_files"], job["skipped_files"]) == ("completed", 2, 1, 1)
    assert job["progress_percentage"] == 100.0
    assert job["estimated_duration_ms"] >= 0
    one, two = job["source_progress"]
    assert one.keys() >= SELECTION_FIELDS
    assert (one["connection_id"], one["source_type"]) == (client.connection_id, "local_directory")
    assert [(f["file_id"], f["status"], f["progress"]) for f in one["files"] + two["files"]] == [
        (names[0], "skipped", 100),
        (names[1], "completed", 100),
        (names[2], "completed", 100),
        ("no-such.txt", "failed", 100),
    ]
    failed = two["files"][1]
    assert failed.keys() >= FILE_FIELDS
    assert failed["error"]
    assert one["files"][1]["file_metadata"] == {
        "name": names[1], "size": (client.folder / names[1]).stat().st_size, "source_type": "local_directory",
    }  # fmt: skip


async def test_a_job_whose_files_all_failed_is_failed(client: SourceClient):
    """And can be retried once they are there."""
    job_id = await client.started(client.selection("late.txt"))
    assert (await client.ended(job_id))["status"] == "failed"
    (client.folder / "late.txt").write_text("It came after all.")
    answer = await client.control(job_id, "retry", retry_failed_only=True)
    assert answer["message"] == "Job retry successful"
    job = await client.until(job_id, lambda now: now["status"] == "completed")
    assert (job["completed_files"], job["failed_files"]) == (1, 0)


async def test_a_retry_of_everything_runs_every_file_again(client: SourceClient):
    """``retry_failed_only: false``: also those that are done."""
    [name] = client.write(1, "again")
    job_id = await client.started(client.selection(name))
    before = await client.ended(job_id)
    await client.control(job_id, "retry", retry_failed_only=False)
    after = await client.until(job_id, lambda now: now["completed_at"] not in {None, before["completed_at"]})
    assert (after["status"], after["completed_files"]) == ("completed", 1)


# Control


async def test_control_goes_through_a_jobs_life(client: SourceClient):
    """Start, pause, resume and cancel are answered with success; what the status does not allow with 400 and the status."""
    names = client.write(40, "steered", words=20_000)
    options = {"parallel_processing": False}
    job = await client.create(client.selection(*names), processing_options=options)
    job_id = job["job_id"]
    for action in ("pause", "resume", "retry"):
        assert "Current status: pending." in (await client.control(job_id, action, status=400))["detail"]
    assert await client.control(job_id, "start") == {
        "success": True, "message": "Job start successful", "job_id": job_id, "status": "running",
    } | {"status": (await client.read(job_id))["status"]}  # fmt: skip
    await client.until(job_id, lambda now: now["status"] == "running")
    await client.control(job_id, "start", status=400)
    await client.control(job_id, "pause")
    await client.until(job_id, lambda now: now["status"] == "paused")
    await client.control(job_id, "resume")
    await client.control(job_id, "cancel")
    job = await client.until(job_id, lambda now: now["status"] == "cancelled" and now["completed_at"])
    assert job["completed_files"] < 40
    assert "Current status: cancelled." in (await client.control(job_id, "cancel", status=400))["detail"]


async def test_the_temporal_ui_does_the_same_by_signals(client: SourceClient, temporal: Client):
    """Signals with plain JSON, as a person types them there, and Temporal's own cancel."""
    names = client.write(40, "signalled", words=20_000)
    options = {"parallel_processing": False}
    job = await client.create(client.selection(*names), processing_options=options)
    workflow = temporal.get_workflow_handle(workflow_id_for(job["job_id"]))
    await workflow.signal("start_signal", {"request_id": "ui-1"})
    await client.until(job["job_id"], lambda now: now["status"] == "running")
    await workflow.signal("pause_signal", {"request_id": "ui-2"})
    await client.until(job["job_id"], lambda now: now["status"] == "paused")
    await workflow.signal("resume_signal", {"request_id": "ui-3"})
    await client.until(job["job_id"], lambda now: now["status"] == "running")
    await workflow.cancel()
    await client.until(job["job_id"], lambda now: now["status"] == "cancelled")


# Lists and sums


async def test_lists_and_statistics_say_what_a_user_has(client: SourceClient):
    """Newest first, filtered by what jobs are doing, with how many there are; all of it added up."""
    names = client.write(2, "listed")
    done = await client.started(client.selection(*names), priority="urgent")
    await client.ended(done)
    held = [(await client.create(client.selection(names[0])))["job_id"] for _ in range(3)]

    page = await client.visitor.post("/batch/jobs/list", {"user_id": client.user_id, "limit": 3, "offset": 0}, 200)
    rest = await client.visitor.post("/batch/jobs/list", {"user_id": client.user_id, "limit": 3, "offset": 3}, 200)
    only = await client.visitor.post(
        "/batch/jobs/list", {"user_id": client.user_id, "status_filter": ["completed"], "limit": 9, "offset": 0}, 200
    )
    said = await client.statistics()

    assert [job["job_id"] for job in page["jobs"]] == held[::-1]
    assert (page["total_jobs"], page["has_more"], rest["has_more"]) == (4, True, False)
    assert [job["job_id"] for job in rest["jobs"]] == [job["job_id"] for job in only["jobs"]] == [done]
    assert said.keys() >= STATISTICS
    assert (said["total_jobs"], said["completed_jobs"], said["active_jobs"]) == (4, 1, 0)
    assert (said["total_files_processed"], said["success_rate"]) == (2, 100.0)
    assert said["by_source_type"] == {"local_directory": 5}
    assert (said["by_priority"]["urgent"], said["by_status"]["pending"]) == (1, 3)
    assert said["average_processing_time_ms"] > 0


# Errors


async def test_errors_have_one_detail(client: SourceClient):
    """400 for what cannot be read or asked for, 404 for what is unknown or another user's."""
    unknown = client.selection("a.txt", connection_id="nobody")
    assert "nobody" in (await client.create(unknown, status=400))["detail"]
    refused = await client.create(client.selection("a"), processing_options={"use_llm_parsing": True}, status=400)
    assert refused.keys() == {"detail"}
    broken = await client.http.post("/batch/jobs", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json().keys()) == (400, {"detail"})
    job = await client.create(client.selection("a.txt"))
    for job_id, user in ((NOBODYS, client.user_id), (job["job_id"], "somebody else")):
        response = await client.http.get(f"/batch/jobs/{job_id}", params={"user_id": user})
        assert (response.status_code, response.json()) == (404, {"detail": "Job not found"})


# Documentation


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the examples need curl and jq")
def test_each_example_of_the_documentation_runs(stack: RunningStack, shelf: Path, tmp_path: Path):
    """In order, in one shell, in an empty folder; and each prints what the page shows."""
    examples = examples_of(PAGE)
    assert len(examples) >= 7
    where = {"INGATHER_URL": stack.base_url, "SHELF": str(shelf / "docs")}
    for example, printed in run_examples(examples, tmp_path, **where):
        if example.expected is not None:
            answer = json.loads(printed)
            assert fits(example.expected, answer), f"line {example.line}: the page shows another answer than {answer}"


# The WebSocket


async def test_a_socket_tells_a_users_jobs_as_they_happen(client: SourceClient):
    """Connected, then a job that is created meanwhile: waiting, each file, its end; ping is answered with pong."""
    names = client.write(3, "watched")
    async with client.socket() as socket:
        first = await socket.next()
        assert (first["type"], first["user_id"], first["job_id"]) == ("connection_established", client.user_id, None)
        await socket.connection.send(json.dumps({"type": "ping"}))
        assert (await socket.next())["type"] == "pong"
        job_id = await client.started(client.selection(*names))
        last = await socket.until("job_update", job_id=job_id, status="completed")

    assert last["job"] == {
        "job_id": job_id, "status": "completed", "progress_percentage": 100.0, "completed_files": 3, "failed_files": 0,
        "total_files": 3,
    }  # fmt: skip
    assert {name for name, status in socket.files() if status == "completed"} == set(names)
    told = next(each for each in socket.messages if each["type"] == "file_progress")
    assert (told["job_id"], told["source_type"], told["connection_id"]) == (
        job_id, "local_directory", client.connection_id,
    )  # fmt: skip
    assert told["file"].keys() >= FILE_FIELDS


async def test_a_client_that_comes_again_misses_nothing(client: SourceClient):
    """With the last cursor, whatever happened meanwhile: jobs that went on, that ended, and that came and went."""
    names = client.write(8, "missed", words=5_000)
    running = await client.started(client.selection(*names), processing_options={"parallel_processing": False})
    async with client.socket() as socket:
        await socket.until("file_progress", status="completed")
        cursor = socket.messages[-1]["cursor"]
        before = socket.files()
    other = await client.started(client.selection(*client.write(2, "short")))
    await client.ended(other)
    async with client.socket(after=cursor) as socket:
        ends: set[str] = set()
        while ends != {running, other}:
            message = await socket.next()
            if message["type"] == "job_update" and message["job"]["status"] == "completed":
                ends.add(message["job"]["job_id"])
    told = before + socket.files()
    completed = [name for name, status in told if status == "completed"]
    assert sorted(completed) == sorted([*names, "short-000.txt", "short-001.txt"])


async def test_a_socket_may_watch_one_job(client: SourceClient):
    """And says so; one of another user or of nobody is closed with 4404."""
    names = client.write(1, "alone")
    job_id = await client.started(client.selection(*names))
    async with client.socket(job_id=job_id) as socket:
        assert (await socket.next())["job_id"] == job_id
        await socket.until("job_update", status="completed")
    async with client.socket(job_id=NOBODYS) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4404


async def test_a_user_may_hold_ten_sockets_open(client: SourceClient):
    """The eleventh is closed with 4429."""
    async with asyncio.TaskGroup() as group:
        leave = asyncio.Event()

        async def hold() -> None:
            async with client.socket() as socket:
                await socket.next()
                ready.release()
                await leave.wait()

        ready = asyncio.Semaphore(0)
        for _ in range(10):
            group.create_task(hold())
        for _ in range(10):
            await ready.acquire()
        async with client.socket() as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.next()
        leave.set()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4429


async def test_messages_are_not_compressed_and_bounded(client: SourceClient):
    """No extension is agreed on; a message over 64 KiB ends the socket with 1009."""
    async with client.socket() as socket:
        await socket.next()
        assert socket.connection.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.connection.response.headers
        await socket.connection.send("x" * 70_000)
        with pytest.raises(ConnectionClosed) as closed:
            await socket.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009

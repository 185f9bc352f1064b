"""The sources contract's WebSocket: who may open one, what it says, and that a resumed one misses nothing."""

import asyncio
import uuid
from contextlib import AsyncExitStack

import orjson
import pytest

from api.contracts.source_job_messages import MAX_POSITIONS, Positions, SocketWording, lines_of
from api.contracts.source_job_socket import MOST_ENDED
from api.service.jobs import Whose
from api.streams.subscription import Frame
from ingather.models.batch import BatchState, Counts
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.event_log import LoggedEvent
from ingather.settings import ApiSettings, AuthSettings, Limits
from tests.support.callers import key_of
from tests.support.source_jobs import create
from tests.support.waiting import until, until_async
from tests.support.watched_job import job_world


@pytest.fixture
async def world():
    async with job_world() as world:
        yield world


# Who may


async def test_the_first_message_says_that_it_is_connected(world):
    """With the user and the job, null where all jobs are watched; every message has type, time and cursor."""
    async with world.open("/batch/ws/vera") as socket:
        first = await socket.next()
        assert (first["type"], first["user_id"], first["job_id"]) == ("connection_established", "vera", None)
        assert {"timestamp", "cursor"} <= first.keys()


async def test_a_ping_is_answered_and_nonsense_is_not(world):
    """Whatever else a client says asks for nothing."""
    async with world.open("/batch/ws/vera") as socket:
        await socket.next()
        for said in ("no json", "[1]", {"type": "dance"}, {"type": "ping"}):
            socket.say(said)
        assert (await socket.next())["type"] == "pong"


async def test_a_message_may_have_64_kib(world):
    """One that is larger ends the socket with 1009."""
    async with world.open("/batch/ws/vera") as socket:
        socket.say("x" * (64 * 1024 + 1))
        assert await socket.closes() == 1009


@pytest.mark.parametrize(("user", "job"), [("vera", "99999999-9999-7999-8999-999999999999"), ("vera", "no-id")])
async def test_an_unknown_job_closes_with_4404(world, user, job):
    """And so does another user's."""
    for job_id in (job, world.job_id):
        async with world.open(f"/batch/ws/{user}", job_id=job_id) as socket:
            assert await socket.closes() == 4404


async def test_where_credentials_are_asked_for_a_socket_needs_one():
    """In a header, a cookie or the first message; a wrong one closes with 4401, another user's name with 4404."""
    async with job_world(auth=AuthSettings(mode="required")) as world:
        key = await key_of(world.api.catalog.accounts, username="vera")
        token = key["X-API-Key"]
        for headers in (key, {"Authorization": f"Bearer {token}"}, {"Cookie": f"ingather_token={token}"}):
            async with world.open("/batch/ws/vera", headers) as socket:
                assert (await socket.next())["type"] == "connection_established"
        async with world.open("/batch/ws/vera") as socket:
            socket.say({"type": "authenticate", "token": token})
            assert (await socket.next())["type"] == "connection_established"
        async with world.open("/batch/ws/jocelyn", key) as socket:
            assert await socket.closes() == 4404
        for said in ({"type": "ping"}, {"type": "authenticate", "token": "wrong"}):
            async with world.open("/batch/ws/vera") as socket:
                socket.say(said)
                assert await socket.closes() == 4401
        async with world.open("/batch/ws/vera", {"X-API-Key": "wrong"}) as socket:
            assert await socket.closes() == 4401


async def test_a_user_holds_so_many_sockets_open_and_no_more():
    """One more closes with 4429; another user's opens, and so does the next once one was left."""
    async with job_world(limits=Limits(websockets_per_user=1)) as world:
        async with world.open("/batch/ws/vera") as first, world.open("/batch/ws/vera") as second:
            await first.next()
            assert await second.closes() == 4429
            async with world.open("/batch/ws/jocelyn") as other:
                await other.next()
        async with world.open("/batch/ws/vera") as again:
            assert (await again.next())["type"] == "connection_established"


async def test_sockets_that_have_not_said_who_they_are_are_few():
    """One more from the same address closes with 4429 at once; one that says who it is makes room."""
    async with job_world(auth=AuthSettings(mode="required")) as world, AsyncExitStack() as open_ones:
        token = (await key_of(world.api.catalog.accounts, username="vera"))["X-API-Key"]
        waiting = [await open_ones.enter_async_context(world.open("/batch/ws/vera")) for _ in range(100)]
        await until(lambda: all(each.is_open for each in waiting))
        async with world.open("/batch/ws/vera") as socket:
            assert await socket.closes() == 4429
        waiting[0].say({"type": "authenticate", "token": token})
        await waiting[0].next()
        async with world.open("/batch/ws/vera") as socket:
            socket.say({"type": "authenticate", "token": token})
            assert (await socket.next())["type"] == "connection_established"


async def test_a_socket_that_shows_no_credential_counts_as_a_wrong_one():
    """Too many of them from one address, and it is 4429 before anything is waited for."""
    settings = {"auth": AuthSettings(mode="required"), "limits": Limits(failed_credentials_per_minute=1)}
    async with job_world(**settings) as world:
        codes = []
        for _ in range(2):
            async with world.open("/batch/ws/vera") as socket:
                socket.say({"type": "ping"})
                codes.append(await socket.closes())
        assert codes == [4401, 4429]


async def test_a_process_that_goes_away_does_not_wait_for_a_credential():
    """1001 also on a socket that has not said yet who it is."""
    async with job_world(auth=AuthSettings(mode="required")) as world, world.open("/batch/ws/vera") as socket:
        await until(lambda: socket.is_open)
        world.house.hub.drain()
        assert await socket.closes() == 1001


async def test_a_page_of_another_origin_gets_no_socket():
    """It is refused before it opens; the API's own pages and those that are allowed are not."""
    settings = {"auth": AuthSettings(mode="required"), "api": ApiSettings(allowed_origins=("https://tool.example",))}
    async with job_world(**settings) as world:
        key = await key_of(world.api.catalog.accounts, username="vera")
        for origin in ("https://tool.example", "https://api.test", "http://api.test"):
            async with world.open("/batch/ws/vera", {**key, "Origin": origin}) as socket:
                assert (await socket.next())["type"] == "connection_established"
        async with world.open("/batch/ws/vera", {**key, "Origin": "https://elsewhere.example"}) as socket:
            assert await socket.closes() == 1008
            assert not socket.is_open


async def test_a_process_that_goes_away_says_so(world):
    """1001 on every socket, also on one that nothing happens on."""
    async with world.open("/batch/ws/vera") as socket:
        await socket.next()
        world.house.hub.drain()
        assert await socket.closes() == 1001


# What it says


async def test_one_job_is_told_from_how_it_is_to_its_end(world):
    """A job as it is, then each file as it starts and ends, with the job's numbers at the end."""
    world.batch.state(BatchState.RUNNING)
    async with world.open(job_id=world.job_id) as socket:
        await socket.until("job_update", status="running")
        world.batch.start(0)
        started = await socket.until("file_progress", status="accessing")
        await world.batch.end(0)
        await socket.until("file_progress", status="completed", progress=100)
        world.batch.start(1)
        await world.batch.end(1, DocumentStatus.FAILED, "corrupt")
        failed = await socket.until("file_progress", status="failed")
        await world.batch.run([2])
        await world.batch.close(BatchState.COMPLETED_WITH_FAILURES)
        last = await socket.until("job_update", status="completed")

    assert (started["job_id"], started["file"]["file_metadata"]["name"]) == (world.job_id, "document-0.txt")
    assert failed["file"]["error"] == "It cannot be read."
    assert last["job"] == {
        "job_id": world.job_id, "status": "completed", "progress_percentage": 100.0, "completed_files": 2,
        "failed_files": 1, "total_files": 3,
    }  # fmt: skip


async def test_a_socket_resumed_at_any_message_misses_nothing(world):
    """Behind the cursor of each message come exactly those that followed it, also after the end."""
    world.batch.state(BatchState.RUNNING)
    async with world.open(job_id=world.job_id) as socket:
        await socket.until("job_update", status="running")
        await world.batch.run_all()
        await world.batch.close()
        await socket.until("job_update", status="completed")
        seen = socket.messages[1:]
    files = [each["file"] for each in seen if each["type"] == "file_progress"]
    assert len(files) == 6

    for position, message in enumerate(seen):
        rest = [each["file"] for each in seen[position + 1 :] if each["type"] == "file_progress"]
        async with world.open(job_id=world.job_id, after=message["cursor"]) as resumed:
            first = await resumed.next()
            if position < len(seen) - 1:
                await resumed.until("job_update", status="completed")
            told = [each["file"] for each in resumed.messages if each["type"] == "file_progress"]
        assert first["resumed"] is True
        assert told == rest


async def test_of_many_jobs_that_ended_meanwhile_the_last_are_told():
    """Those that ended last, however old they are; the first message says that there were more."""
    async with job_world(limits=Limits(jobs_per_user_per_minute=1_000)) as world:
        left = Positions()
        ids = [(await create(world.api))["job_id"] for _ in range(MOST_ENDED + 1)]
        for job_id in [*ids[1:], ids[0]]:
            await world.api.end(job_id, BatchState.COMPLETED, done=3)
        vera = Whose(DEFAULT_TENANT_ID, "sources", "vera")
        told, is_cut = await world.api.parts.jobs.ended_since(vera, left.since, MOST_ENDED)
        assert (told[0], len(told), is_cut) == (ids[0], MOST_ENDED, True)
        for user, is_cut in (("vera", True), ("jocelyn", False)):
            async with world.open(f"/batch/ws/{user}", after=left.cursor()) as socket:
                assert (await socket.next()).get("missed_events", False) is is_cut


async def test_a_cursor_that_cannot_be_read_begins_anew(world):
    """The client is told that it was not resumed, and gets its jobs as they are."""
    world.batch.state(BatchState.RUNNING)
    async with world.open(job_id=world.job_id, after="!!") as socket:
        assert (await socket.next())["resumed"] is False
        assert (await socket.next())["type"] == "job_update"


async def test_a_client_that_takes_nothing_is_left_and_goes_on_where_it_was(world):
    """Its queue is bounded: it is closed with 1013, and resumed without a gap."""
    world.batch.state(BatchState.RUNNING)
    world.batch.start(0)
    async with world.open(job_id=world.job_id) as socket:
        await socket.until("job_update", status="running")
        socket.takes.clear()
        for round_ in range(1, 7):
            for _ in range(50):
                await world.batch.end(0, DocumentStatus.FAILED, "corrupt")
                world.batch.start(0)
            await _until_told(world, round_ * 100)
            await asyncio.sleep(0.2)  # longer than the hub waits for those who are slow
        socket.takes.set()
        assert await socket.closes() == 1013
        cursor, had = socket.messages[-1]["cursor"], _files(socket)
    async with world.open(job_id=world.job_id, after=cursor) as resumed:
        await world.batch.end(0)
        await resumed.until("file_progress", status="completed")
        both = had + _files(resumed)
    assert both == [*["failed", "accessing"] * 300, "completed"]


def _files(socket):
    return [each["file"]["status"] for each in socket.messages if each["type"] == "file_progress"]


async def _until_told(world, count):
    async def told():
        return (await world.house.log.range(world.batch.key)).latest >= count or None

    await until_async(told)


async def test_all_jobs_of_a_user_are_told_and_new_ones_appear(world):
    """A job created meanwhile is there without a reconnect, waiting; nobody else's is."""
    async with world.open("/batch/ws/vera") as socket:
        await socket.next()
        await create(world.api, user_id="jocelyn")
        job = await create(world.api)
        update = await socket.until("job_update")
    assert (update["job"]["job_id"], update["job"]["status"], update["job"]["total_files"]) == (
        job["job_id"],
        "pending",
        3,
    )


async def test_a_job_that_ends_before_it_began_is_told(world):
    """It waited, was cancelled, and is gone: its end is said."""
    async with world.open() as socket:
        await socket.until("job_update", status="pending")
        world.batch.state(BatchState.CANCELLING)
        await world.batch.close(BatchState.CANCELLED)
        last = await socket.until("job_update", status="cancelled")
    assert last["job"]["job_id"] == world.job_id


async def test_a_cancelled_job_is_over_when_its_last_file_is(world):
    """It is called ``cancelled`` at once; that it is over is said with its end, behind what became of its files."""
    world.batch.state(BatchState.RUNNING)
    async with world.open(job_id=world.job_id) as socket:
        running = await socket.until("job_update", status="running")
        world.batch.start(0)
        await socket.until("file_progress", status="accessing")
        world.batch.state(BatchState.CANCELLING)
        first = await socket.until("job_update", status="cancelled")
        await world.batch.end(0, DocumentStatus.CANCELLED)
        await socket.until("file_progress", status="pending")
        await world.batch.close(BatchState.CANCELLED)
        last = first
        while not last["is_over"]:
            last = await socket.until("job_update", status="cancelled")
    assert (running["is_over"], first["is_over"]) == (False, False)


async def ends_with_a_failure(world, socket):
    """The first file fails, the others do not, and the socket has heard it all."""
    await socket.until("job_update", status="running")
    world.batch.start(0)
    await world.batch.end(0, DocumentStatus.FAILED, "corrupt")
    await world.batch.run([1, 2])
    await world.batch.close(BatchState.COMPLETED_WITH_FAILURES)
    await socket.until("job_update", status="completed")


async def test_a_retry_of_a_job_that_had_ended_is_told_on_the_same_socket(world):
    """The job comes back by itself."""
    world.batch.state(BatchState.RUNNING)
    async with world.open() as socket:
        await ends_with_a_failure(world, socket)
        await world.batch.reopen(0)
        await socket.until("job_update", status="retrying")
        await world.batch.run([0])
        await world.batch.close()
        last = await socket.until("job_update", status="completed")
    assert last["job"]["completed_files"] == 3


async def test_a_job_that_had_ended_before_the_socket_opened_is_told_from_its_retry(world):
    """Its first end is over: told again, it would be taken for the end of the retry."""
    world.batch.state(BatchState.RUNNING)
    async with world.open() as socket:
        await ends_with_a_failure(world, socket)
    async with world.open() as socket:
        await socket.next()
        await asyncio.sleep(1.5)  # it has looked, and found no job at work
        await world.batch.reopen(0)
        first = await socket.until("job_update")
        await world.batch.run([0])
        await world.batch.close()
        last = await socket.until("job_update", status="completed")
    assert first["job"]["status"] == "retrying"
    assert last["job"]["completed_files"] == 3


# Words


def progress_frame(seq, *files, **counts):
    total = sum(counts.values())
    data = {"status": "running", "counts": Counts(total=total, **counts).model_dump(), "files": list(files)}
    body = {"seq": seq, "type": "batch.progress", "time": "2026-11-28T12:00:00Z", "data": data}
    return Frame.of(LoggedEvent(seq, "batch.progress", orjson.dumps(body), "running"))


def file(stage, number=0):
    source = {"connection_id": "drive", "source_type": "google_drive", "file_id": f"id-{number}"}
    return {"document_id": f"d{number}", "ordinal": number, "filename": "a.pdf", "stage": stage, "source": source}


async def nothing():
    raise AssertionError


def said(wording, frame):
    return [(seq, orjson.loads(body)) for seq, body in lines_of(wording.frame(frame))]


def test_a_file_in_flight_is_told_when_its_step_changes():
    """With the step its worker told last, under the ids it was selected by; the same step again says nothing."""
    wording = SocketWording("j", None, nothing)
    [(_, update), (_, first)] = said(wording, progress_frame(5, file(Stage.PARSING.value), done=1, in_flight=1))
    assert update["job"]["progress_percentage"] == 50.0
    assert (first["connection_id"], first["source_type"], first["file"]["file_id"]) == ("drive", "google_drive", "id-0")
    assert (first["file"]["status"], first["file"]["current_step"], first["file"]["progress"]) == (
        "parsing",
        "parsing",
        40,
    )
    assert len(said(wording, progress_frame(6, file("parsing"), done=1, in_flight=1))) == 1
    [_, (_, later)] = said(wording, progress_frame(7, file("embedding"), done=1, in_flight=1))
    assert later["file"]["status"] == "embedding"


def test_several_messages_of_one_event_are_resumed_before_all_of_them_or_behind():
    """Only the last of them moves the cursor."""
    wording = SocketWording("j", None, nothing)
    frame = progress_frame(5, file("parsing", 0), file("storing", 1), in_flight=2)
    assert [seq for seq, _ in said(wording, frame)] == [4, 4, 5]


def test_a_frame_is_worded_once_for_all_who_have_come_as_far():
    """A second socket gets the very same bytes."""
    frame = progress_frame(5, file("parsing"), in_flight=1)
    assert SocketWording("j", None, nothing).frame(frame) is SocketWording("j", None, nothing).frame(frame)


def test_a_cursor_says_how_far_each_job_was_sent():
    """Text that a URL takes as it is; anything else is no cursor."""
    positions = Positions(by_job={str(uuid.uuid4()): 7, str(uuid.uuid4()): 123_456})
    found = Positions.of(positions.cursor())
    assert found is not None
    assert found.by_job == positions.by_job
    assert positions.cursor().replace("-", "").replace("_", "").isalnum()
    for wrong in ("", "x", "AAAA", positions.cursor()[:-3], "é"):
        assert Positions.of(wrong) is None


def test_a_cursor_of_more_jobs_than_it_holds_is_read_all_the_same():
    """Those that are left out are told again; none is lost."""
    positions = Positions(by_job={str(uuid.uuid4()): number for number in range(MAX_POSITIONS + 1)})
    found = Positions.of(positions.cursor())
    assert found is not None
    assert found.by_job.items() <= positions.by_job.items()
    assert len(found.by_job) == MAX_POSITIONS

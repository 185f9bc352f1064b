"""Large files that stand still: whose turns they hold, and for how long."""

import asyncio

import pytest
from starlette.requests import Request

from api.body import Pace, RequestBody
from api.uploads import LARGE_FILES_AT_ONCE
from ingather.models.errors import RequestError

BATCHES = "/v1/batches"
OTHER = "11111111-1111-7111-8111-111111111111"
LARGE = b"x" * (2 * 1024 * 1024)


def standing_still(let_go: asyncio.Event) -> dict[str, object]:
    """A form whose one large file begins, and goes on when it is let go."""

    async def chunks():
        yield b'--edge\r\nContent-Disposition: form-data; name="files"; filename="large.bin"\r\n\r\n'
        yield LARGE
        await let_go.wait()
        yield b"\r\n--edge--\r\n"

    return {"content": chunks(), "headers": {"content-type": "multipart/form-data; boundary=edge"}}


async def test_uploads_that_stand_still_keep_no_other_tenant_waiting(api):
    """However many a tenant has: the last turn is never its own."""
    await api.catalog.add_tenant(OTHER, "other")
    let_go = asyncio.Event()
    stalled = [
        asyncio.create_task(api.http.post(BATCHES, **standing_still(let_go))) for _ in range(2 * LARGE_FILES_AT_ONCE)
    ]
    await asyncio.sleep(0.1)

    files = [("files", ("large.bin", LARGE))]
    for _ in range(2):  # its turn is given back
        response = await asyncio.wait_for(api.http.post(BATCHES, files=files, headers={"X-Tenant-ID": OTHER}), 10)
        assert response.status_code == 202, response.text

    assert not any(task.done() for task in stalled)
    let_go.set()
    answers = await asyncio.gather(*stalled)
    assert [answer.status_code for answer in answers] == [202] * len(stalled)


async def test_whoever_gives_up_gives_the_turn_back(api):
    """A client that hangs up while it has a turn, or waits for one, is in nobody's way."""
    stalled = [
        asyncio.create_task(api.http.post(BATCHES, **standing_still(asyncio.Event())))
        for _ in range(2 * LARGE_FILES_AT_ONCE)
    ]
    await asyncio.sleep(0.1)
    for task in stalled:
        task.cancel()
    await asyncio.gather(*stalled, return_exceptions=True)

    response = await asyncio.wait_for(api.http.post(BATCHES, files=[("files", ("large.bin", LARGE))]), 10)
    assert response.status_code == 202, response.text


def body_of(pieces: list[bytes], *, pause_seconds: float, pace: Pace) -> RequestBody:
    """A body that arrives piece by piece, with a pause before each."""
    arriving = iter(pieces)

    async def receive():
        await asyncio.sleep(pause_seconds)
        piece = next(arriving, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    return RequestBody(Request({"type": "http", "headers": []}, receive), 1 << 40, "max_request_bytes", pace)


async def test_a_body_that_never_stops_and_never_ends_is_refused():
    """A byte at a time is never silence, and never the pace; what came quickly before lends it nothing."""
    body = body_of([LARGE, *[b"x"] * 1_000], pause_seconds=0.01, pace=Pace(behind_seconds=0.1, bytes_per_second=1_000))
    with pytest.raises(RequestError, match="more slowly than"):
        async for _ in body.chunks():
            pass
    assert len(LARGE) < body.received_bytes < len(LARGE) + 100


async def test_a_body_that_keeps_its_pace_is_received():
    """Pauses are made up for by what follows them."""
    body = body_of([b"x" * 1_000] * 30, pause_seconds=0.01, pace=Pace(behind_seconds=5, bytes_per_second=1_000))
    assert sum([len(chunk) async for chunk in body.chunks()]) == 30_000


def test_a_byte_a_minute_is_behind_after_a_minute():
    """And a line of 16 KiB a second is never."""
    pace = Pace()
    assert pace.behind(pace.behind(0, 59, 1), 59, 1) > pace.behind_seconds
    assert pace.behind(50, 1, 16 * 1024) == 50
    assert pace.behind(0, 1, 100_000_000) == 0

"""A file that goes over tus from the dashboard, slowly enough that something can happen meanwhile."""

import asyncio
import hashlib
from pathlib import Path

from playwright.async_api import CDPSession, Page, Request

from tests.support.running_stack import Visitor

LARGE_BYTES = 40_000_000
"""Over 32 MB, from which on the page sends a file by itself, in pieces of as much."""
SLOW_BYTES_A_SECOND = 8_000_000


def large_file(path: Path) -> Path:
    """No parser reads it, so that its batch is over at once."""
    pattern = bytes(range(256)) * 4_096
    with path.open("wb") as file:
        for number in range(LARGE_BYTES // len(pattern) + 1):
            file.write(number.to_bytes(4, "big") + pattern[4:])
    return path


async def slow_down(page: Page) -> CDPSession:
    """The page's requests go slowly until ``speed_up``."""
    session = await page.context.new_cdp_session(page)
    await _throttle(session, SLOW_BYTES_A_SECOND)
    return session


async def speed_up(session: CDPSession) -> None:
    """As fast as they can again."""
    await _throttle(session, -1)


async def _throttle(session: CDPSession, bytes_a_second: int) -> None:
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_a_second}
    await session.send("Network.enable")
    await session.send("Network.emulateNetworkConditions", conditions)


async def has_sent(page: Page, share: float) -> None:
    """Wait until this much of all that was chosen has left the page."""
    await page.wait_for_function("share => document.getElementById('total').value >= share", arg=share)


def offsets_of(page: Page) -> list[int]:
    """Where each piece of an upload begins, from now on."""
    found: list[int] = []

    def note(request: Request) -> None:
        if request.method == "PATCH" and "/v1/tus/" in request.url:
            found.append(int(request.headers["upload-offset"]))

    page.on("request", note)
    return found


async def assert_arrived_whole(visitor: Visitor, batch_id: str, path: Path) -> None:
    """The document of this name has the very bytes of the file."""
    await visitor.ended(batch_id)
    [document] = [each for each in await visitor.documents(batch_id) if each["filename"] == path.name]
    content = await asyncio.to_thread(path.read_bytes)
    assert (document["size_bytes"], document["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())

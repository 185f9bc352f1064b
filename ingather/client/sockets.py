"""WebSockets, with websockets: the one place that knows it. Imported when jobs are followed, not before."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Any, NoReturn

from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import connect

from ingather.client.errors import ClientError, ConnectionLostError
from ingather.client.jobs import MAX_MESSAGE_BYTES, JobFollowing, closed_with
from ingather.client.retries import CONNECT_TIMEOUT, problem_of

_TROUBLE = (ConnectionClosed, InvalidHandshake, InvalidURI, TimeoutError, OSError)


def messages(following: JobFollowing) -> Generator[str | bytes]:
    """What one connection brings; in its quiet moments it asks the server whether it is there.

    Raises:
        ApiError: the server refused it.
        ConnectionLostError: it ended.
    """
    try:
        with connect(following.url(), **_settings(following)) as socket:
            while True:
                try:
                    text = socket.recv(timeout=following.ping_after)
                except TimeoutError:
                    socket.send(following.quiet())
                else:
                    yield text
    except _TROUBLE as error:
        _raise_as_ours(error)


async def async_messages(following: JobFollowing) -> AsyncGenerator[str | bytes]:
    """The same for an event loop."""
    try:
        async with connect_async(following.url(), **_settings(following)) as socket:
            while True:
                try:
                    text = await asyncio.wait_for(socket.recv(), following.ping_after)
                except TimeoutError:
                    await socket.send(following.quiet())
                else:
                    yield text
    except _TROUBLE as error:
        _raise_as_ours(error)


def _settings(following: JobFollowing) -> dict[str, Any]:
    return {
        "additional_headers": following.headers,
        "user_agent_header": following.user_agent,
        "open_timeout": CONNECT_TIMEOUT,
        "close_timeout": 1,
        "max_size": MAX_MESSAGE_BYTES,
        "compression": None,
        "proxy": None if following.is_local else True,
    }


def _raise_as_ours(error: Exception) -> NoReturn:
    raise _our_error(error) from error


def _our_error(error: Exception) -> ClientError:
    match error:
        case InvalidStatus(response=response):
            headers = {name.lower(): value for name, value in response.headers.raw_items()}
            return problem_of(response.status_code, response.reason_phrase, headers, bytes(response.body or b""))
        case ConnectionClosed(rcvd=frame):
            return closed_with(frame.code if frame else None, frame.reason if frame else "")
    return ConnectionLostError(str(error) or type(error).__name__)

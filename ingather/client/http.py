"""Calls over HTTP, with httpx: the one place that knows it. Imported when a client is opened, not before."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from ingather.client.calls import Answer, Call, Download
from ingather.client.errors import AddressError, ApiError, ConnectionLostError, NotIngatherError, UnsendableError
from ingather.client.following import STREAM_SILENCE
from ingather.client.retries import CONNECT_TIMEOUT, Broken, Failure, Retrying, problem_of
from ingather.client.server import Server

WRITE_TIMEOUT = 120.0
"""Seconds in which the server has to take a piece of a body."""

T = TypeVar("T")
Frame = tuple[str, str]
"""An event's name and its data."""

# --- What both sessions need ----------------------------------------------------------------


def _settings(server: Server) -> dict[str, Any]:
    """Raises ``AddressError`` for what only looks like an address."""
    try:
        httpx.URL(server.base_url).host  # noqa: B018 - decodes the name
    except (httpx.InvalidURL, UnicodeError) as error:
        raise AddressError(server.base_url) from error
    return {"base_url": server.base_url, "headers": dict(server.headers), "trust_env": not server.is_local}


def _request(http: httpx.Client | httpx.AsyncClient, call: Call[Any], content: Any) -> httpx.Request:
    """Raises ``UnsendableError`` where its address would be too long."""
    write = WRITE_TIMEOUT if call.body is not None else call.timeout
    try:
        return http.build_request(
            call.method,
            call.path,
            params=dict(call.parameters) or None,
            json=call.json,
            # httpx reads an iterator once; a repeated attempt gets a fresh one.
            content=content,
            headers=dict(call.headers),
            timeout=httpx.Timeout(call.timeout, connect=CONNECT_TIMEOUT, write=write),
        )
    except httpx.InvalidURL as error:
        raise UnsendableError("request", f"Its address is none: {error}.") from error


def _stream_request(http: httpx.Client | httpx.AsyncClient, call: Call[None]) -> httpx.Request:
    return _request(http, replace(call, timeout=STREAM_SILENCE), None)


def _failure(error: httpx.TransportError) -> Failure:
    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return Failure(Broken.NO_CONNECTION, f"no connection within {CONNECT_TIMEOUT:.0f} seconds", error)
        case httpx.TimeoutException():
            return Failure(Broken.NO_ANSWER, "no answer", error)
        case httpx.ConnectError():
            return Failure(Broken.CONNECTION, _no_connection(error), error)
    return Failure(Broken.CONNECTION, _words(error), error)


def _no_connection(error: httpx.ConnectError) -> str:
    """Why none came about, which only what is behind the error says."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, socket.gaierror):
            return "there is no host of this name"
        if isinstance(behind, ssl.SSLError):
            return f"no TLS connection ({behind.reason or behind})"
        behind = behind.__cause__ or behind.__context__
    return "connection refused"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _is_refusal(response: httpx.Response) -> bool:
    return response.is_error or response.is_redirect


def _problem(response: httpx.Response) -> ApiError:
    return problem_of(response.status_code, response.reason_phrase, response.headers, response.content)


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.content, str(response.request.url))


def _frames(response: httpx.Response) -> Iterator[Frame]:
    return ((sse.event, sse.data) for sse in EventSource(response).iter_sse() if sse.data)


def _undecodable(error: httpx.DecodingError) -> NotIngatherError:
    return NotIngatherError(str(error.request.url), "a body that is not encoded as it says")


def _lost_in(download: Download, error: Exception) -> ConnectionLostError:
    return ConnectionLostError(
        f"The connection was lost in the middle of the {download.what}", detail=str(error), action="Ask for it again."
    )


# --- Waiting for each answer ----------------------------------------------------------------


class HttpSession:
    """A pool of connections, and the attempts of each call."""

    def __init__(self, server: Server, transport: httpx.BaseTransport | None, sleep: Callable[[float], None]) -> None:
        self._base_url = server.base_url
        self._sleep = sleep
        self._has_answered = False
        self._http = httpx.Client(transport=transport, **_settings(server))

    def close(self) -> None:
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """What a call is answered with, after as many attempts as it takes."""
        return call.taken(_answer(self._exchange(call, is_stream=False)))

    def pieces(self, download: Download) -> Iterator[bytes]:
        """An answer as it arrives."""
        response = self._exchange(download.call, is_stream=True)
        try:
            yield from response.iter_bytes()
        except httpx.DecodingError as error:
            raise _undecodable(error) from error
        except httpx.TransportError as error:
            raise _lost_in(download, error) from error
        finally:
            response.close()

    @contextmanager
    def frames(self, call: Call[None]) -> Iterator[Iterator[Frame] | None]:
        """One connection's events; None where there are no more (204).

        Raises:
            ConnectionLostError: it broke, or did not come about; connect again to go on.
            ApiError: the server refused the stream.
        """
        try:
            response = self._http.send(_stream_request(self._http, call), stream=True)
            with closing(response):
                if _is_refusal(response):
                    response.read()
                    raise _problem(response)
                yield None if response.status_code == httpx.codes.NO_CONTENT else _frames(response)
        except httpx.DecodingError as error:
            raise _undecodable(error) from error
        except (httpx.TransportError, SSEError) as error:
            raise ConnectionLostError(_words(error)) from error

    def _exchange(self, call: Call[Any], *, is_stream: bool) -> httpx.Response:
        """Send until there is an answer: through a refused or broken connection, and through "busy"."""
        retrying = Retrying(self._base_url, call, has_answered=self._has_answered)
        while True:
            body = iter(call.body) if call.body is not None else None
            try:
                response = self._http.send(_request(self._http, call, body), stream=is_stream)
                if _is_refusal(response):
                    response.read()
            except httpx.DecodingError as error:
                raise _undecodable(error) from error
            except httpx.TransportError as error:
                wait = retrying.failed(_failure(error))
            else:
                self._has_answered = True
                busy = retrying.answered(response.status_code, response.headers)
                if busy is None:
                    if _is_refusal(response) and not retrying.is_done(response.status_code):
                        raise _problem(response)
                    return response
                response.close()
                wait = busy
            self._sleep(wait)


# --- Letting others work meanwhile ----------------------------------------------------------


class AsyncHttpSession:
    """The same for an event loop. Files are read in threads, so that the loop is never held up."""

    def __init__(
        self, server: Server, transport: httpx.AsyncBaseTransport | None, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._base_url = server.base_url
        self._sleep = sleep
        self._has_answered = False
        self._http = httpx.AsyncClient(transport=transport, **_settings(server))

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """What a call is answered with, after as many attempts as it takes."""
        return call.taken(_answer(await self._exchange(call, is_stream=False)))

    async def pieces(self, download: Download) -> AsyncIterator[bytes]:
        """An answer as it arrives."""
        response = await self._exchange(download.call, is_stream=True)
        try:
            async for piece in response.aiter_bytes():
                yield piece
        except httpx.DecodingError as error:
            raise _undecodable(error) from error
        except httpx.TransportError as error:
            raise _lost_in(download, error) from error
        finally:
            await response.aclose()

    @asynccontextmanager
    async def frames(self, call: Call[None]) -> AsyncIterator[AsyncIterator[Frame] | None]:
        """One connection's events; None where there are no more (204).

        Raises:
            ConnectionLostError: it broke, or did not come about; connect again to go on.
            ApiError: the server refused the stream.
        """
        try:
            response = await self._http.send(_stream_request(self._http, call), stream=True)
            async with aclosing(response):
                if _is_refusal(response):
                    await response.aread()
                    raise _problem(response)
                yield None if response.status_code == httpx.codes.NO_CONTENT else _async_frames(response)
        except httpx.DecodingError as error:
            raise _undecodable(error) from error
        except (httpx.TransportError, SSEError) as error:
            raise ConnectionLostError(_words(error)) from error

    async def _exchange(self, call: Call[Any], *, is_stream: bool) -> httpx.Response:
        """Send until there is an answer: through a refused or broken connection, and through "busy"."""
        retrying = Retrying(self._base_url, call, has_answered=self._has_answered)
        while True:
            body = _from_a_thread(iter(call.body)) if call.body is not None else None
            try:
                response = await self._http.send(_request(self._http, call, body), stream=is_stream)
                if _is_refusal(response):
                    await response.aread()
            except httpx.DecodingError as error:
                raise _undecodable(error) from error
            except httpx.TransportError as error:
                wait = retrying.failed(_failure(error))
            else:
                self._has_answered = True
                busy = retrying.answered(response.status_code, response.headers)
                if busy is None:
                    if _is_refusal(response) and not retrying.is_done(response.status_code):
                        raise _problem(response)
                    return response
                await response.aclose()
                wait = busy
            await self._sleep(wait)


async def _from_a_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


async def _async_frames(response: httpx.Response) -> AsyncIterator[Frame]:
    async for sse in EventSource(response).aiter_sse():
        if sse.data:
            yield sse.event, sse.data

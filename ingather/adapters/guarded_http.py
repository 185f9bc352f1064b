"""HTTP to addresses that tenants name, without lending them this machine's place in its network.

http and https only; every address a name resolves to must be public, and one of those that were checked is the one
connected to, so that a name which changes its mind in between gains nothing. Redirects are not followed, proxies from
the environment are not used, and no cookie is kept.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpcore
import httpx
import structlog

from ingather.domain.addresses import is_public

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""Between two pieces of an answer."""
MAX_CONNECTIONS = 50
_LOOKUPS_AT_ONCE = 16
_HIGHEST_PORT = 65_535


class AddressRefusedError(Exception):
    """The address leads into a network that is not the public Internet, or is none at all. The message may be shown."""


class PrivateAddressError(AddressRefusedError):
    """It would be taken where private addresses are allowed."""


def check_url(url: str, *, allow_private: bool = False) -> httpx.URL:
    """The address, as far as it can be judged without asking anybody. Raises ``AddressRefusedError``."""
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # a name in Punycode is decoded, and judged, only here
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefusedError("It is not an address.") from error
    if parsed.scheme not in {"http", "https"} or not host:
        raise AddressRefusedError("An address begins with http:// or https:// and names a host.")
    if parsed.port is not None and not 0 < parsed.port <= _HIGHEST_PORT:
        raise AddressRefusedError(f"An address has a port from 1 to {_HIGHEST_PORT}.")
    if parsed.userinfo:
        raise AddressRefusedError("An address holds no user name and password.")
    try:
        is_refused = not allow_private and not is_public(host)
    except ValueError:
        is_refused = False  # a name: what it resolves to is checked when it is connected to
    if is_refused:
        raise PrivateAddressError(f"{host} is not an address of the public Internet.")
    return parsed


def guarded_client(
    *,
    allow_private: bool = False,
    timeout: httpx.Timeout | None = None,
    max_connections: int | None = MAX_CONNECTIONS,
) -> httpx.AsyncClient:
    """A client that connects to public addresses only, or to any with ``allow_private``.

    A request raises ``AddressRefusedError`` where it would leave the public Internet, and httpx's own errors. Beyond
    ``max_connections`` it waits for one that another request has done with; with None it never does.
    """
    return httpx.AsyncClient(
        transport=GuardedTransport(allow_private=allow_private, max_connections=max_connections),
        timeout=timeout or httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        follow_redirects=False,
        trust_env=False,
    )


class GuardedTransport(httpx.AsyncBaseTransport):
    """Connections of a client that may go anywhere public."""

    def __init__(self, *, allow_private: bool = False, max_connections: int | None = MAX_CONNECTIONS) -> None:
        self._allow_private = allow_private
        self._backend = _CheckingBackend(allow_private=allow_private)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=max_connections,
            keepalive_expiry=30.0,
            network_backend=self._backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        check_url(str(request.url), allow_private=self._allow_private)
        sent = httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            answer = await self._pool.handle_async_request(sent)
        except _TRANSPORT_ERRORS as error:
            raise _as_httpx(error) from error
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()
        self._backend.close()


_TRANSPORT_ERRORS = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


def _as_httpx(error: Exception) -> httpx.TransportError:
    if isinstance(error, httpcore.TimeoutException):
        return httpx.TimeoutException(str(error))
    if isinstance(error, httpcore.ProtocolError):
        return httpx.ProtocolError(str(error))
    return httpx.NetworkError(str(error))


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except _TRANSPORT_ERRORS as error:
            raise _as_httpx(error) from error

    async def aclose(self) -> None:
        await self._stream.aclose()


class _CheckingBackend(httpcore.AsyncNetworkBackend):
    """Resolves, checks, and connects to what was checked. TLS still asks for the name's own certificate."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._inner = httpcore.AnyIOBackend()
        # Of its own: nothing ends a look-up before its time, and a name whose servers hang is one that a tenant chose.
        self._lookups = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="lookup")

    def close(self) -> None:
        """Look nothing up any more."""
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolved(host, port, timeout)
        refusal: Exception | None = None
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                refusal = error
        raise refusal or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(self, *_args: Any, **_options: Any) -> httpcore.AsyncNetworkStream:
        raise AddressRefusedError("A socket of this machine is no address of the public Internet.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _resolved(self, host: str, port: int, timeout: float | None) -> list[str]:
        try:
            async with asyncio.timeout(timeout):
                look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
                found = await asyncio.get_running_loop().run_in_executor(self._lookups, look_up)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} could not be looked up in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} is no known name") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    # Which one is for those who run this: to others it would draw a map of the network.
                    log.warning("address.refused", host=host, address=address)
                    raise PrivateAddressError(f"{host} leads to an address that is not on the public Internet.")
        return addresses

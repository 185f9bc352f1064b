"""The public API, asked from within: the same routes, checks and limits as for everybody, without a socket between."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from fastapi import Depends, Request

Json = dict[str, Any]

CSRF_HEADER = "X-CSRF-Token"
_PASSED_ON = ("authorization", "cookie", "origin", "sec-fetch-site", "user-agent", "x-api-key", "x-tenant-id")
"""Of the browser's request: who asks, and from which page."""

_SECONDS = 60.0
"""The API keeps shorter times of its own."""


class ApiRefusal(Exception):  # noqa: N818 - it is no error of ours, it is what the API answered
    """A problem that ``/v1`` answered with.

    Args:
        status: of the answer.
        problem: its members (RFC 9457), ``title``, ``detail`` and ``action`` among them.
    """

    def __init__(self, status: int, problem: Json) -> None:
        super().__init__(str(problem.get("title", status)))
        self.status = status
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as JSON where it was that."""

    status: int
    body: Any
    headers: httpx.Headers


class PublicApi:
    """Requests on behalf of one request of the browser."""

    def __init__(self, request: Request) -> None:
        self._request = request
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        if token := request.headers.get(CSRF_HEADER):
            headers[CSRF_HEADER] = token
        if request_id := getattr(request.state, "request_id", None):
            headers["X-Request-ID"] = request_id
        self._headers = headers
        self._host = request.headers.get("host")

    def prove(self, csrf_token: str) -> None:
        """The token that a form of ours sent along: what it asks for is what the person meant."""
        if csrf_token:
            self._headers[CSRF_HEADER] = csrf_token

    def forget_session(self) -> None:
        """Ask as nobody, or with what a request itself shows."""
        self._headers.pop("cookie", None)

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET; query parameters that are None or empty are left out. Raises ``ApiRefusal``."""
        wanted = {name: value for name, value in query.items() if value not in (None, "", [], ())}
        return (await self.send("GET", path, query=wanted)).body

    async def get_or_none(self, path: str, **query: Any) -> Any:
        """The same where a page can do without: None for whatever it was refused with, but for a lack of credentials."""
        try:
            return await self.get(path, **query)
        except ApiRefusal as refusal:
            if refusal.status == 401:
                raise
            return None

    async def soon(self, path: str, seconds: float, **query: Any) -> Any:
        """The same where a page would rather be there at once: None too where it takes longer."""
        try:
            return await within(seconds, self.get_or_none(path, **query))
        except TimeoutError:
            return None

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Json | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Any request with a small answer. Raises ``ApiRefusal`` for one of 400 and more."""
        request = self._request
        transport = httpx.ASGITransport(
            request.app,
            raise_app_exceptions=False,
            client=(request.client.host, request.client.port) if request.client else ("", 0),
        )
        server = request.scope.get("server") or ("dashboard", None)
        netloc = self._host or server[0]
        async with httpx.AsyncClient(
            transport=transport, base_url=f"{request.url.scheme}://{netloc}", trust_env=False, timeout=_SECONDS
        ) as client:
            response = await client.request(
                method,
                path,
                params=query,
                json=body,
                headers={"Accept": "application/json", **self._headers, **(headers or {})},
            )
        kind = response.headers.get("content-type", "")
        content = response.json() if "json" in kind and "ndjson" not in kind and response.content else response.text
        if response.status_code >= 400:
            problem = content if isinstance(content, dict) else {"title": f"Answered {response.status_code}"}
            raise ApiRefusal(response.status_code, problem)
        return Answer(response.status_code, content, response.headers)


async def within(seconds: float, asked: Awaitable[Any]) -> Any:
    """An answer that comes in time. Raises ``TimeoutError`` else, and then waits for nothing.

    ``asyncio.wait_for`` would wait until the question has given up, and some cannot: what a thread or another process
    is asked is waited for to its end.
    """
    task = asyncio.ensure_future(asked)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        return task.result()
    _abandoned.add(task)
    task.add_done_callback(_forget)
    task.cancel()
    raise TimeoutError


_abandoned: set[asyncio.Future[Any]] = set()
"""Held on to until they end, as the event loop itself does not."""


def _forget(task: asyncio.Future[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # seen, since nobody asks for it any more


async def together(*asked: Awaitable[Any]) -> list[Any]:
    """Several answers at once. The first refusal is raised when all are there, so that none is left running."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return list(answers)


async def get_api(request: Request) -> PublicApi:
    return PublicApi(request)


Api = Annotated[PublicApi, Depends(get_api)]

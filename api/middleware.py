"""The layers around every request, outermost first: request id and access log, problems of last resort, the guard.

They are plain ASGI, so that bodies and streams pass through untouched.
"""

import ipaddress
import re
import time
import uuid
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from activities.failures import described
from api.metrics import ApiMetrics
from api.problems import problem_for_status, render_problem
from api.rates import rate_headers

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
_LOOPBACK_NAMES = {"localhost", "ip6-localhost"}


class RequestContextMiddleware:
    """Names the request (``X-Request-ID`` in and out), logs how it was answered, counts it."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id, **_trace(headers))
        started = time.perf_counter()
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        is_stream = False

        async def send_named(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                out["X-Request-ID"] = request_id
                out.update(rate_headers(scope["state"].get("rates", ())))
                is_stream = out.get("content-type", "").startswith("text/event-stream")
            await send(message)

        try:
            await self.app(scope, receive, send_named)
        finally:
            seconds = time.perf_counter() - started
            self._note(scope, status, seconds, is_stream=is_stream)

    def _note(self, scope: Scope, status: int, seconds: float, *, is_stream: bool) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.answered(scope["method"], route, status, None if is_stream else seconds)
        level = log.debug if route in {"/livez", "/readyz", "/metrics"} else log.info
        # The path alone: a query string may hold what nobody should find in a log.
        level(
            "request.answered",
            method=scope["method"],
            path=scope["path"][:500],
            status=status,
            duration_ms=round(seconds * 1_000, 1),
        )


class ProblemMiddleware:
    """Turns what escapes the handlers into problems.

    An unexpected exception becomes a 500 with the request id and nothing else; a plain-text
    error, such as Starlette's own 413 for a large Content-Length, gets the shape of all others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_started = False
        is_answered = False
        replaced: int | None = None

        async def send_shaped(message: Message) -> None:
            nonlocal has_started, is_answered, replaced
            if message["type"] == "http.response.start":
                content_type = Headers(raw=message["headers"]).get("content-type", "")
                if message["status"] >= 400 and content_type.startswith("text/plain"):
                    replaced = message["status"]
                    return
                has_started = True
            if replaced is not None:
                if not message.get("more_body"):
                    await problem_for_status(scope, replaced)(scope, receive, send)
                    has_started = is_answered = True
                return
            await send(message)

        try:
            await self.app(scope, receive, send_shaped)
        except Exception as error:
            # A traceback ends in the message, which may quote what a client sent.
            log.error("request.crashed", **described(error))  # noqa: TRY400
            if is_answered:
                return
            if has_started:
                raise  # the server must cut the connection, so that nobody takes half an answer for a whole one
            await problem_for_status(scope, 500, "The service could not answer")(scope, receive, send)


class LoopbackGuard:
    """Serves this machine alone, as long as nobody has to say who they are.

    Refuses connections that came in over another address, host names that are not this
    machine's (DNS rebinding), and pages of other origins that make a browser send requests.
    """

    def __init__(self, app: ASGIApp, public_hosts: Collection[str] = ()) -> None:
        self.app = app
        self.public_hosts = frozenset(public_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        reason = self._refusal(scope)
        if reason is None:
            await self.app(scope, receive, send)
            return
        log.warning("request.refused", reason=reason)
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
            return
        response = render_problem(
            scope,
            status=403,
            code="forbidden",
            title="Not allowed",
            detail=reason,
            action="Open the API under its own loopback address, or set INGATHER_API__PUBLIC_URL.",
        )
        await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        address = (scope.get("server") or ("", None))[0]
        if not _is_ip(address):
            return None  # a unix socket, or a test's transport
        if not ipaddress.ip_address(address).is_loopback:
            return "This deployment asks nobody who they are, so it serves loopback connections alone."
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(urlsplit(f"//{host}").hostname or ""):
            return "The Host header names another machine."
        origin = headers.get("origin")
        if origin and origin != "null" and urlsplit(origin).netloc == host:
            return None
        if origin and not self._is_public(origin):
            return "Requests from pages of another origin are refused."
        return None

    def _is_ours(self, host: str) -> bool:
        if _is_ip(host):
            return ipaddress.ip_address(host).is_loopback or host in self.public_hosts
        return host in _LOOPBACK_NAMES or host.endswith(".localhost") or host in self.public_hosts

    def _is_public(self, origin: str) -> bool:
        return (urlsplit(origin).hostname or "") in self.public_hosts


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())


def _trace(headers: Headers) -> dict[str, str]:
    match = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return {"trace_id": match.group(1)} if match else {}

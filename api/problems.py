"""Every error the API answers with, built in one place as RFC 9457 problem details.

Our own errors bring code, status and title with their class (``ingather.models.errors``);
the framework's are given theirs by status. A problem never holds an input value, a stack
trace or a secret: validation messages are Pydantic's, with the place and without the value.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from ingather.models.errors import IngatherError, InvalidStateError, RequestError, ValidationFailedError, error_classes

log = structlog.get_logger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
"""What a client that met a passing trouble should wait."""

MAX_LISTED_ERRORS = 50
_MOST_TOLD_APART = 1_000
"""Pydantic lists every error or none, each as large as a hundred of the values it is about."""

_BY_STATUS: dict[int, tuple[str, str, str]] = {
    400: ("bad_request", "Request cannot be read", "Correct the request as the detail says."),
    403: ("forbidden", "Not allowed", "Open the API under its own loopback address."),
    404: ("not_found", "Nothing here", "Check the path; all of them are listed at /docs."),
    405: ("method_not_allowed", "Method not allowed", "Use one of the methods named in Allow."),
    406: ("not_acceptable", "Not available in that form", "Ask for application/json."),
    413: ("payload_too_large", "Request is over a limit", "Send less; the limits are listed at GET /v1/limits."),
    415: ("unsupported_media_type", "Content type not accepted", "Send multipart/form-data or application/json."),
    422: ("validation_failed", "Request does not fit the schema", "Correct the fields listed in errors."),
    503: ("dependency_unavailable", "A part of the service is unavailable", "Try again in a moment."),
}
_INTERNAL = ("internal_error", "Internal error", "Look at the server log for this request id.")


class FieldProblem(BaseModel):
    """One place in the request that does not fit."""

    detail: str
    pointer: str
    """JSON pointer into the body (``#/options/chunk_size``), or ``query:limit``, ``header:…``, ``path:…``."""
    code: str


class Problem(BaseModel):
    """RFC 9457 problem details. ``code`` and ``type`` are stable; further members are facts of the code."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str | None = None
    action: str = ""
    """What to do about it."""
    errors: list[FieldProblem] = []


def problem_document() -> dict[str, Any]:
    """The OpenAPI response entry shared by all routes."""
    return {"model": Problem, "description": "Problem details", "content": {PROBLEM_MEDIA_TYPE: {}}}


def known_codes() -> dict[str, tuple[int, str, str]]:
    """Status, title and advice of every code the API can answer with."""
    codes = {code: (status, title, advice) for status, (code, title, advice) in _BY_STATUS.items()}
    codes |= {cls.code: (cls.http_status, cls.title, cls.advice) for cls in error_classes().values()}
    return codes


def render_problem(
    scope: Scope,
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    action: str = "",
    errors: Sequence[FieldProblem] = (),
    facts: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Write a problem as a response."""
    problem = Problem(
        type=f"/problems/{code}",
        title=title,
        status=status,
        detail=detail,
        instance=quote(scope.get("path", "/"))[:2_000],
        code=code,
        request_id=scope.get("state", {}).get("request_id"),
        action=action,
        errors=list(errors)[:MAX_LISTED_ERRORS],
    )
    members = {key: value for key, value in (facts or {}).items() if key not in Problem.model_fields}
    all_headers = dict(headers or {})
    if status in (429, 503):
        seconds = (facts or {}).get("retry_after_seconds", RETRY_AFTER_SECONDS)
        all_headers.setdefault("Retry-After", str(seconds))
    if status == 401:
        all_headers.setdefault("WWW-Authenticate", 'Bearer realm="ingather"')
    content = orjson.dumps(members | problem.model_dump(), default=str)
    return Response(content, status_code=status, headers=all_headers, media_type=PROBLEM_MEDIA_TYPE)


def problem_for_status(
    scope: Scope, status: int, detail: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The problem of a status that no error of ours stands behind."""
    code, title, action = _BY_STATUS.get(status, _BY_STATUS[400] if status < 500 else _INTERNAL)
    text = f"{detail or title}".rstrip(".") + "."
    return render_problem(scope, status=status, code=code, title=title, detail=text, action=action, headers=headers)


def problem_for_error(scope: Scope, error: IngatherError) -> Response:
    """The problem of one of our own errors."""
    return render_problem(
        scope,
        status=error.http_status,
        code=error.code,
        title=error.title,
        detail=error.message,
        action=error.action,
        errors=error.facts.get("errors", ()),
        facts=error.facts,
    )


def field_problems(error: RequestValidationError | ValidationError, root: str = "#") -> list[FieldProblem]:
    """Where a request does not fit, without the values that were sent."""
    if isinstance(error, ValidationError) and error.error_count() > _MOST_TOLD_APART:
        detail = f"It does not fit in {error.error_count():,} places."
        return [FieldProblem(detail=detail, pointer=root, code="too_many_errors")]
    is_request = isinstance(error, RequestValidationError)
    found = error.errors() if isinstance(error, RequestValidationError) else error.errors(include_input=False)
    # FastAPI says first which part of the request it is; a model of ours may have a field of that name.
    locations = [(() if is_request else ("body",)) + tuple(item.get("loc", ())) for item in found[:MAX_LISTED_ERRORS]]
    return [
        FieldProblem(detail=_without_values(item), pointer=_pointer(location, root), code=str(item["type"]))
        for item, location in zip(found, locations, strict=False)
    ]


def _without_values(item: Mapping[str, Any]) -> str:
    message = str(item.get("msg", "does not fit"))
    if item.get("type") == "json_invalid":
        return "The body is not valid JSON."
    # Parsers of dates, UUIDs and the like quote the character they stumbled over.
    return re.split(r", (?:invalid|input|found|unable)\b|: ", message, maxsplit=1)[0].removeprefix("Value error, ")


def _pointer(location: tuple[int | str, ...], root: str) -> str:
    match location:
        case ("body", *rest):
            steps, prefix = rest, root
        case ("query" | "header" | "path" | "cookie" as kind, *rest):
            return f"{kind}:" + ".".join(str(step) for step in rest)[:200]
        case _:
            steps, prefix = list(location), root
    return (prefix + "".join("/" + _escaped(step) for step in steps))[:300]


def _escaped(step: int | str) -> str:
    return str(step).encode("ascii", "backslashreplace").decode().replace("~", "~0").replace("/", "~1")


def error_from_code(code: str, message: str, facts: Mapping[str, Any]) -> IngatherError:
    """An error that travelled through Temporal, back in its class."""
    cls = error_classes().get(code, InvalidStateError)
    return cls(message, **dict(facts))


Envelope = Callable[[str, str, int, Mapping[str, str]], Response]
"""Writes an error in other words than a problem's: its code, message, status and headers."""


def install(app: FastAPI, envelopes: Mapping[str, Envelope] | None = None) -> None:
    """Route every exception of the application through this module.

    ``envelopes``, by path prefix, are for what no route answers below it.
    """

    async def on_own(request: Request, error: Exception) -> Response:
        assert isinstance(error, IngatherError)
        if error.http_status >= 500:
            log.warning("request.failed", code=error.code, detail=error.message, **_plain(error.facts))
        return problem_for_error(request.scope, error)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = {"Allow": _allowed(app, request.scope)} if error.status_code == 405 else error.headers
        return _unrouted(request.scope, error.status_code, headers, envelopes or {})

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = field_problems(error)
        if any(problem.code == "json_invalid" for problem in problems):
            return problem_for_error(request.scope, RequestError("The body is not valid JSON."))
        return problem_for_error(request.scope, request_invalid(_summary(problems), problems))

    async def on_disconnect(request: Request, _error: Exception) -> Response:
        # Nobody reads this answer; it keeps the access log honest.
        return problem_for_status(request.scope, 400, "The body stopped before its end")

    app.add_exception_handler(IngatherError, on_own)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(ClientDisconnect, on_disconnect)


def _unrouted(
    scope: Scope, status: int, headers: Mapping[str, str] | None, envelopes: Mapping[str, Envelope]
) -> Response:
    for prefix, envelope in envelopes.items():
        if f"{scope['path']}/".startswith(f"{prefix}/") and status in _BY_STATUS:
            code, title, _ = _BY_STATUS[status]
            return envelope(code, f"{title}.", status, headers or {})
    return problem_for_status(scope, status, headers=headers)


def _allowed(app: FastAPI, scope: Scope) -> str:
    """Every method of the path: routing itself names those of the first route alone."""
    methods: set[str] = set()
    for route in iter_route_contexts(app.routes):
        pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(route.path or ""))
        if re.fullmatch(pattern, scope["path"]):
            methods |= set(route.methods or ())
    return ", ".join(sorted(methods))


def _summary(problems: Sequence[FieldProblem]) -> str:
    places = f"{len(problems)} place" + ("s" if len(problems) != 1 else "")
    return f"The request does not fit the schema in {places}; see errors."


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key not in {"event", "code", "detail"}}


def request_invalid(message: str, errors: Sequence[FieldProblem]) -> ValidationFailedError:
    """A request that does not fit, with the places where."""
    return ValidationFailedError(message, errors=list(errors))


def invalid(pointer: str, detail: str, code: str = "invalid") -> ValidationFailedError:
    """A request that does not fit in one place."""
    return request_invalid(detail, [FieldProblem(detail=detail, pointer=pointer, code=code)])

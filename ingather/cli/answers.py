"""What the server answered: a resource, an event, or a problem."""

import json
from typing import Any

import httpx

from ingather.cli.errors import ApiProblemError, CliError
from ingather.cli.resources import StreamEvent

BUSY_WAIT = 2.0
"""Seconds to wait where a 429 or 503 names none."""
_BUSY = (429, 503)


def busy_wait(response: httpx.Response) -> float | None:
    """Seconds to wait before the same request is sent again; None when this is the answer."""
    if response.status_code not in _BUSY:
        return None
    try:
        return max(0.1, float(response.headers.get("Retry-After", BUSY_WAIT)))
    except ValueError:
        return BUSY_WAIT


def raise_for_problem(response: httpx.Response) -> None:
    if not response.is_error and not response.is_redirect:
        return
    response.read()
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": f"The server answered {response.status_code} {response.reason_phrase}"}
        if response.is_redirect:
            problem["detail"] = f"It points to {response.headers.get('Location')}: is INGATHER_URL complete?"
    raise ApiProblemError(response.status_code, problem, response.headers.get("X-Request-ID", ""))


def json_of(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise CliError(
            "This is not an Ingather server",
            detail=f"{response.request.url} answered with {response.headers.get('Content-Type', 'no content type')}",
            action="Check INGATHER_URL.",
        )
    return answer


def stream_event(name: str, data: str) -> StreamEvent:
    try:
        body = json.loads(data)
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    seq = body.get("seq")
    payload = body["data"] if isinstance(body.get("data"), dict) else body
    return StreamEvent(
        type=str(body.get("type") or name),
        seq=seq if isinstance(seq, int) else None,
        data=payload,
        raw=body if "type" in body else {"type": name, "data": body},
    )


def read_timeout(request: httpx.Request, usual: float) -> float:
    """Seconds this request was given for its answer."""
    return float(request.extensions.get("timeout", {}).get("read") or usual)


def reason_of(error: httpx.TransportError) -> str:
    """Why there was no answer, in a few words."""
    return "connection refused" if isinstance(error, httpx.ConnectError) else (str(error) or type(error).__name__)

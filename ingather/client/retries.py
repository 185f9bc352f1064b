"""When a request is sent again, and when its failure is the answer. Decides; whoever does the IO waits and sends."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ingather.client.calls import Call
from ingather.client.errors import AnswerTimeoutError, ApiError, ClientError, UnreachableError, api_error

CONNECT_TIMEOUT = 5.0
"""Seconds until a connection is there."""
CONNECT_WAITS = (0.2, 0.5, 1.0)
"""Seconds between attempts while nobody answers at all."""
RESTART_WAITS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
"""Seconds between attempts when a server that did answer is gone: it is probably being restarted."""
BUSY_WAIT = 2.0
"""Seconds to wait where a 429 or 503 names none."""
BUSY_PATIENCE = 60.0
"""Seconds of ``Retry-After`` (and our own waits) we sit out in total before a 429 or 503 is the answer."""
_BUSY = (429, 503)


class Broken(Enum):
    """How a request ended that got no answer."""

    NO_CONNECTION = "no connection"
    """None came about in time; that took long enough not to be tried again."""
    NO_ANSWER = "no answer"
    """The server may be at work on it still."""
    CONNECTION = "connection"
    """Refused, reset, or closed in the middle."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there was no answer."""

    kind: Broken
    reason: str
    """In a few words."""
    cause: Exception


class Retrying:
    """One call's attempts.

    Every call can be repeated: a POST carries an idempotency key. What can not is a body that is read once.

    Args:
        base_url: where the server is, for whoever reads the error.
        call: what is sent.
        has_answered: whether this server ever did.
    """

    def __init__(self, base_url: str, call: Call[Any], *, has_answered: bool) -> None:
        self._base_url = base_url
        self._call = call
        self._waits = RESTART_WAITS if has_answered else CONNECT_WAITS
        self._attempt = 0
        self._waited = 0.0

    def failed(self, failure: Failure) -> float:
        """Seconds until the next attempt after one without an answer.

        Raises:
            UnreachableError: there is none.
            AnswerTimeoutError: the server may be at work on it.
        """
        if failure.kind is Broken.NO_ANSWER:
            raise AnswerTimeoutError(self._base_url + self._call.path, self._call.timeout) from failure.cause
        if failure.kind is Broken.NO_CONNECTION or self._attempt >= len(self._waits) or not self._can_repeat:
            raise UnreachableError(self._base_url, failure.reason) from failure.cause
        self._attempt += 1
        return self._waits[self._attempt - 1]

    def answered(self, status: int, headers: Mapping[str, str]) -> float | None:
        """Seconds until the next attempt after an answer; None when this is the answer."""
        self._waits = RESTART_WAITS
        wait = retry_after(headers) or BUSY_WAIT
        if status not in _BUSY or not self._can_repeat or self._waited + wait > BUSY_PATIENCE:
            return None
        self._waited += wait
        return wait

    def is_done(self, status: int) -> bool:
        """Whether an error says that an earlier attempt has arrived: what was to be deleted is gone."""
        return status == 404 and self._call.method == "DELETE" and self._attempt > 0

    @property
    def _can_repeat(self) -> bool:
        body = self._call.body
        return body is None or body.is_repeatable or not body.has_begun


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that ``Retry-After`` names; None where it names none."""
    try:
        return max(0.1, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def problem_of(status: int, reason: str, headers: Mapping[str, str], content: bytes) -> ApiError:
    """The error that an answer is."""
    try:
        problem = json.loads(content)
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": f"The server answered {status} {reason}".rstrip()}
        if 300 <= status < 400:
            problem["location"] = headers.get("location", "")
            problem["detail"] = f"It points to {problem['location']}: is the address complete?"
    return api_error(status, problem, headers.get("x-request-id", ""), retry_after(headers))


def is_passing(error: ClientError) -> bool:
    """Whether a stream that was refused like this may be let in later."""
    return not isinstance(error, ApiError) or (error.status or 0) >= 500 or error.status == 429

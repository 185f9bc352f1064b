"""What can go wrong between a program and an Ingather server: one tree, each error with its facts."""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """The root of the tree.

    Attributes:
        title: what went wrong, in a few words.
        detail: where and with which facts.
        action: what to do about it; empty where nobody knows.
        code: a stable word, the server's own where it answered with a problem.
        status: the HTTP status of the answer; None where there was none.
        request_id: what whoever runs the server looks for in its log; empty without an answer.
        retry_after: seconds after which the server asked to be tried again; None where it named none.
    """

    code = "client_error"

    def __init__(
        self,
        title: str,
        *,
        detail: str = "",
        action: str = "",
        code: str = "",
        status: int | None = None,
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(title)
        self.title = title
        self.detail = detail
        self.action = action
        self.code = code or type(self).code
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        """One line for a log: the title, then what is known."""
        return ": ".join(part for part in (self.title, " · ".join(self.detail.splitlines())) if part)


class AddressError(ClientError):
    """The base URL is none."""

    code = "invalid_address"

    def __init__(self, url: str) -> None:
        super().__init__(
            "This is not the address of a server", detail=repr(url), action="Write it like http://127.0.0.1:8000."
        )


class UnsendableError(ClientError):
    """A credential, a tenant or an idempotency key that no header can carry, or an address that is too long."""

    code = "unsendable"

    def __init__(self, what: str, why: str = "It holds a line end, or a character that is not ASCII.") -> None:
        # Without what it holds: that may be a secret.
        super().__init__(f"The {what} cannot be sent", detail=why, action="Look where it comes from.")


class UnreachableError(ClientError):
    """Nobody answers at the address, after several attempts."""

    code = "server_unreachable"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__("No Ingather server answers", detail=f"{url}: {reason}", action="Start it, or ask another.")


class ConnectionLostError(ClientError):
    """The connection broke in the middle of an answer, and what was missing could not be asked for again."""

    code = "connection_lost"


class AnswerTimeoutError(ClientError):
    """The server took the request and did not answer in time."""

    code = "timeout"

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__(
            "The server took too long to answer",
            detail=f"{url}: no answer within {seconds:.0f} seconds",
            action="Try again with the same idempotency key: what was done already is not done twice.",
        )


class StreamLostError(ConnectionLostError):
    """A stream could not be opened again for as long as its reader was ready to wait."""

    def __init__(self, what: str, followed_id: str, seconds: float, reason: str) -> None:
        super().__init__(
            "Lost the server",
            detail=f"No connection for {seconds:.0f} seconds: {reason}. The {what} itself may well be running.",
            action="When the server is back, go on behind the last event.",
        )
        self.followed_id = followed_id


class NotIngatherError(ClientError):
    """Something answers at the address that does not speak this API.

    Args:
        url: what was asked.
        answered_with: what came back, in a few words: a content type, or what is wrong with it.
    """

    code = "not_ingather"

    def __init__(self, url: str, answered_with: str) -> None:
        super().__init__(
            "This is not an Ingather server",
            detail=f"{url} answered with {answered_with or 'no content type'}",
            action="Check the address.",
        )


class UploadError(ClientError):
    """What should be sent could not be read; nothing was submitted."""

    code = "upload_unreadable"


class StillRunningError(ClientError):
    """A batch did not end in the time that was given to it; it goes on."""

    code = "still_running"

    def __init__(self, batch_id: str, status: str, seconds: float) -> None:
        super().__init__(
            "The batch has not ended yet",
            detail=f"Batch {batch_id} is {status} after {seconds:.0f} seconds.",
            action="Wait for it again.",
        )
        self.batch_id = batch_id


class ApiError(ClientError):
    """The server answered with a problem (RFC 9457), or with an error that is none.

    Attributes:
        problem: the whole answer.
    """

    code = "http_error"

    def __init__(
        self, status: int, problem: Mapping[str, Any], request_id: str = "", retry_after: float | None = None
    ) -> None:
        # Where fields are named, the detail only says that they are, or says it twice.
        named = problem.get("errors")
        details = [_violation(item) for item in named if isinstance(item, Mapping)] if isinstance(named, list) else []
        details = details or [str(problem.get("detail") or "")]
        title = problem.get("title")
        if not title and any(details):
            # An error of a contract that has a detail and nothing else.
            title, *details = details
        super().__init__(
            str(title or f"The server answered {status}"),
            detail="\n".join(line for line in details if line),
            action=str(problem.get("action") or ""),
            code=str(problem.get("code") or ""),
            status=status,
            request_id=str(problem.get("request_id") or request_id),
            retry_after=retry_after,
        )
        self.problem = problem


class UnauthorizedError(ApiError):
    """401: no credential, or one that is not accepted."""


class ForbiddenError(ApiError):
    """403: the credential may not do this."""


class NotFoundError(ApiError):
    """404: there is no such thing, or it is another tenant's."""


class ConflictError(ApiError):
    """409: the state does not allow it; ``problem["current_status"]`` says which it is."""


class TooLargeError(ApiError):
    """413: over a limit that the problem names."""


class InvalidRequestError(ApiError):
    """400, 415 or 422: the request itself is wrong, or its idempotency key was used for another."""


class BusyError(ApiError):
    """429 or 503, also after ``Retry-After`` was waited out as long as the client is patient."""


class ServerFaultError(ApiError):
    """500 and above: the server's own fault; its request id is in its log."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: BusyError,
    503: BusyError,
}


def api_error(
    status: int, problem: Mapping[str, Any], request_id: str = "", retry_after: float | None = None
) -> ApiError:
    """The error of the tree that an HTTP status is."""
    kind = _BY_STATUS.get(status, ServerFaultError if status >= 500 else ApiError)
    return kind(status, problem, request_id, retry_after)


def _violation(item: Mapping[str, Any]) -> str:
    pointer, detail = item.get("pointer"), item.get("detail")
    return f"{pointer}: {detail}" if pointer else str(detail or "")

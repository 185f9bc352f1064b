"""Errors as the command line tells them: what, why, what to do, and the request id for whoever runs the server."""

import os
from typing import Any

from ingather.cli.exit_codes import ExitCode, exit_code_for_http
from ingather.client.errors import (
    AddressError,
    AnswerTimeoutError,
    ApiError,
    ClientError,
    NotIngatherError,
    StreamLostError,
    UnreachableError,
)


class CliError(Exception):
    """Ends the command with ``exit_code`` and a few words instead of a stack trace.

    Args:
        title: what went wrong, in a few words.
        detail: where and with which facts.
        action: what the reader should do.
    """

    def __init__(
        self,
        title: str,
        *,
        detail: str = "",
        action: str = "",
        exit_code: ExitCode = ExitCode.ERROR,
        code: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(title)
        self.title = title
        self.detail = detail
        self.action = action
        self.exit_code = exit_code
        self.code = code
        self.request_id = request_id

    def to_json(self) -> dict[str, Any]:
        """For ``--json``: the fields that are known."""
        fields = {
            "title": self.title,
            "detail": self.detail,
            "action": self.action,
            "code": self.code,
            "request_id": self.request_id,
        }
        return {"error": {name: value for name, value in fields.items() if value}, "exit_code": int(self.exit_code)}


_ACTIONS = {
    UnreachableError.code: "Start one with `ingather up`, or point INGATHER_URL at a running server.",
    AnswerTimeoutError.code: "Look at the server with `ingather doctor`, and with `ingather list` "
    "whether a submission arrived; repeated with the same --idempotency-key it does not run twice.",
    NotIngatherError.code: "Check INGATHER_URL.",
    "unauthorized": "Give a key that is valid here: export INGATHER_API_KEY=ing_live_…",
}
"""What to do at a command line, by code."""


def in_our_words(error: ClientError) -> CliError:
    """What went wrong with the server, with the exit code it is and what to do at a command line."""
    return CliError(
        "INGATHER_URL is not an address" if isinstance(error, AddressError) else error.title,
        detail=_detail(error),
        action=_action(error),
        exit_code=_exit_code(error),
        code=error.code,
        request_id=error.request_id,
    )


def _detail(error: ClientError) -> str:
    if isinstance(error, ApiError) and error.problem.get("location"):
        return f"It points to {error.problem['location']}: is INGATHER_URL complete?"
    return error.detail


def _action(error: ClientError) -> str:
    """What to do here, where the client can only say what a program may do."""
    if isinstance(error, StreamLostError):
        return f"When the server is back: ingather watch {error.followed_id}"
    if error.code == "tenant_not_found" and os.environ.get("INGATHER_TENANT"):
        return "INGATHER_TENANT takes a tenant's name or id (`ingather tenants list`): export another, or unset it."
    return _ACTIONS.get(error.code, error.action)


def _exit_code(error: ClientError) -> ExitCode:
    if error.status is not None:
        return exit_code_for_http(error.status)
    return ExitCode.LIMIT if isinstance(error, AnswerTimeoutError | StreamLostError) else ExitCode.ERROR

"""Errors as the command line tells them: what, why, what to do, and the request id for whoever runs the server."""

import os
from typing import Any

from ingather.cli.exit_codes import ExitCode, exit_code_for_http


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


class ServerUnreachableError(CliError):
    """Nobody answers at the address."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            "No Ingather server answers",
            detail=f"{url}: {reason}",
            action="Start one with `ingather up`, or point INGATHER_URL at a running server.",
            code="server_unreachable",
        )


class ServerTimeoutError(CliError):
    """The server took the request and did not answer in time."""

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__(
            "The server took too long to answer",
            detail=f"{url}: no answer within {seconds:.0f} seconds",
            action="Look at the server with `ingather doctor`, then try again; a repeated submit does not run twice.",
            exit_code=ExitCode.LIMIT,
            code="timeout",
        )


class ApiProblemError(CliError):
    """The server answered with a problem (RFC 9457), or with an error that is none."""

    def __init__(self, status: int, problem: dict[str, Any], request_id: str = "") -> None:
        # Where fields are named, the detail only says that they are, or says it twice.
        details = [_violation(item) for item in problem.get("errors") or [] if isinstance(item, dict)]
        details = details or [str(problem.get("detail") or "")]
        super().__init__(
            str(problem.get("title") or f"The server answered {status}"),
            detail="\n".join(line for line in details if line),
            action=_action(problem),
            exit_code=exit_code_for_http(status),
            code=str(problem.get("code") or ""),
            request_id=str(problem.get("request_id") or request_id),
        )
        self.status = status
        self.problem = problem


def _action(problem: dict[str, Any]) -> str:
    """What to do here, where the server can only say what to do over HTTP."""
    if problem.get("code") == "unauthorized":
        return "Give a key that is valid here: export INGATHER_API_KEY=ing_live_…"
    if problem.get("code") == "tenant_not_found" and os.environ.get("INGATHER_TENANT"):
        return "INGATHER_TENANT takes a tenant's name or id (`ingather tenants list`): export another, or unset it."
    return str(problem.get("action") or "")


def _violation(item: dict[str, Any]) -> str:
    pointer, detail = item.get("pointer"), item.get("detail")
    return f"{pointer}: {detail}" if pointer else str(detail or "")

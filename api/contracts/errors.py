"""Errors in the shape of a contract.

Each contract's router has a route class of its own, made by ``answering_with``. What goes wrong becomes one of our
errors first, so a contract translates one kind of thing, and status and headers come from where problems are made.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from activities.failures import described
from api.access import GuardedRoute
from api.problems import field_problems, problem_for_error, request_invalid
from ingather.models.errors import IngatherError, RequestError

log = structlog.get_logger(__name__)

Answer = Callable[[IngatherError, int, Mapping[str, str]], Response]
"""Writes an error with the status and headers it has as a problem."""

_OF_THE_BODY = frozenset({"content-type", "content-length"})


def answering_with(answer: Answer) -> type[APIRoute]:
    """A route class whose errors are written by ``answer``."""

    class ContractRoute(GuardedRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_and_translate(request: Request) -> Response:
                try:
                    return await handle(request)
                except ClientDisconnect:
                    raise  # nobody is left to read an answer
                except Exception as error:  # noqa: BLE001  # every one of them has an answer
                    ours = _as_ours(error)
                problem = problem_for_error(request.scope, ours)
                headers = {name: value for name, value in problem.headers.items() if name not in _OF_THE_BODY}
                return answer(ours, problem.status_code, headers)

            return handle_and_translate

    return ContractRoute


def places_of(error: IngatherError) -> list[dict[str, Any]]:
    """What does not fit and where, as FastAPI's clients know it: a list of ``{loc, msg, type}``."""
    found = [(each.pointer, each.detail, each.code) for each in error.facts.get("errors", ())]
    places = found or [("#", error.message, error.code)]
    return [{"loc": _location(pointer), "msg": message, "type": code} for pointer, message, code in places]


def _location(pointer: str) -> list[str | int]:
    """Where in the request: ``#/documents/0/filename`` is ``["body", "documents", 0, "filename"]``."""
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.removeprefix("#").split("/")[1:]]
    return ["body", *(int(step) if step.isdecimal() else step for step in steps)]


def _as_ours(error: Exception) -> IngatherError:
    match error:
        case IngatherError():
            if error.http_status >= 500:
                log.warning("request.failed", code=error.code, reason=error.message)
            return error
        case RequestValidationError():
            problems = field_problems(error)
            where = ", ".join(problem.pointer for problem in problems[:3])
            return request_invalid(f"The request does not fit the schema; see {where}.", problems)
        case HTTPException() | StarletteHTTPException() if error.status_code < 500:
            return RequestError("The request cannot be read.")
    # A traceback ends in the message, which may quote what a client sent.
    log.error("request.crashed", **described(error))
    return IngatherError("The service could not answer; the log has more under this request's id.")

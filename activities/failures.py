"""Our errors as Temporal's: the only place that knows both trees.

What leaves an activity is read by many: history, the Temporal UI, logs. So an error leaves
alone, without the vendor's own error behind it, and an exception nobody foresaw leaves
without its message: both may quote the document that caused them.
"""

import asyncio
import functools
import math
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from ingather.models.content import Stage
from ingather.models.document import DocumentFailure
from ingather.models.errors import IngatherError

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger(__name__)

MAX_UNEXPECTED_ATTEMPTS = 10
"""How often an activity that may give up is tried with a bug of our own in its way: a deploy may cure it meanwhile."""

LONGEST_DELAY = timedelta(hours=1)
"""A service that asks for more is tried again all the same."""

HANDED_BACK = "worker_stopped"
"""Type of the failure that ends an attempt because its worker does. Another attempt follows at once."""

_FRAMES = 5


def to_application_error(error: IngatherError) -> ApplicationError:
    """``type`` is the stable code, the first detail the facts; a retry follows only where it may cure."""
    return ApplicationError(
        error.message,
        {"action": error.action, **error.facts},
        type=error.code,
        non_retryable=not error.retryable,
        next_retry_delay=_asked_delay(error),
    )


def _asked_delay(error: IngatherError) -> timedelta | None:
    """How long a service asked to be left alone. The next attempt waits for it, and people can read until when."""
    seconds = error.facts.get("retry_after_seconds")
    if not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        return None
    return min(timedelta(seconds=seconds), LONGEST_DELAY)


def to_document_failure(error: IngatherError, stage: Stage | None) -> DocumentFailure:
    """The same error as a document's outcome, for the catalog. A stage the error names goes before ``stage``."""
    facts = {name: value for name, value in error.facts.items() if name != "stage"}
    reported = error.facts.get("stage")
    with suppress(ValueError):  # a parser may die before its first stage, and then says so in a word of its own
        stage = Stage(reported) if reported else stage
    return DocumentFailure(
        code=error.code,
        message=error.message[:2_000],
        stage=stage,
        action=error.action[:1_000],
        facts=facts,
    )


def described(error: BaseException) -> dict[str, Any]:
    """An unforeseen exception for the log: its type and where it was raised, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return {
        "error_type": type(error).__name__,
        "raised_at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def translate_errors(method: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Let an activity raise our errors; Temporal sees its own, with type, facts and retryability."""
    return _translated(method, unexpected_attempts=None)


def translate_errors_and_give_up(method: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """The same for an activity whose batch can end without it: a bug of our own is not tried for ever."""
    return _translated(method, unexpected_attempts=MAX_UNEXPECTED_ATTEMPTS)


def _is_handed_back() -> bool:
    """Whether this attempt was stopped by its worker's end, and not because somebody cancelled it."""
    why = activity.cancellation_details()
    return why is not None and why.worker_shutdown and not why.cancel_requested


def _handed_back() -> ApplicationError:
    return ApplicationError(
        "The worker stopped before this was done; another attempt goes on from here.",
        type=HANDED_BACK,
        next_retry_delay=timedelta(milliseconds=1),
        category=ApplicationErrorCategory.BENIGN,
    )


def _translated(method: Callable[P, Awaitable[R]], *, unexpected_attempts: int | None) -> Callable[P, Awaitable[R]]:
    @functools.wraps(method)
    async def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except IngatherError as error:
            if error.__cause__ is not None:
                log.info("activity.error_caused", code=error.code, **described(error.__cause__))
            raise to_application_error(error) from None
        except ApplicationError:
            raise
        except asyncio.CancelledError:
            if not _is_handed_back():
                raise
            raise _handed_back() from None
        except Exception as error:  # noqa: BLE001  # it goes on as Temporal's error
            name, attempt = activity.info().activity_type, activity.info().attempt
            facts = {"activity": name, "attempt": attempt, **described(error)}
            log.error("activity.unexpected_error", **facts)  # noqa: TRY400  # a traceback ends in the message
            raise ApplicationError(
                f"An unexpected {type(error).__name__} stopped {name}.",
                {"action": IngatherError.advice},
                type=IngatherError.code,
                non_retryable=unexpected_attempts is not None and attempt >= unexpected_attempts,
            ) from None

    return translated

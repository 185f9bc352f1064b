"""Our errors as Temporal's: the only place that knows both trees."""

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from temporalio.exceptions import ApplicationError

from ingather.models.content import Stage
from ingather.models.document import DocumentFailure
from ingather.models.errors import IngatherError

P = ParamSpec("P")
R = TypeVar("R")


def to_application_error(error: IngatherError) -> ApplicationError:
    """``type`` is the stable code, the first detail the facts; a retry follows only where it may cure."""
    return ApplicationError(
        error.message,
        {"action": error.action, **error.facts},
        type=error.code,
        non_retryable=not error.retryable,
    )


def to_document_failure(error: IngatherError, stage: Stage | None) -> DocumentFailure:
    """The same error as a document's outcome, for the catalog."""
    facts = {name: value for name, value in error.facts.items() if name != "stage"}
    reported = error.facts.get("stage")
    return DocumentFailure(
        code=error.code,
        message=error.message[:2_000],
        stage=Stage(reported) if reported else stage,
        action=error.action,
        facts=facts,
    )


def translate_errors(method: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Let an activity raise our errors; Temporal sees its own, with type, facts and retryability."""

    @functools.wraps(method)
    async def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except IngatherError as error:
            raise to_application_error(error) from error

    return translated

"""Answers from any service that speaks OpenAI's ``POST /v1/chat/completions``, through the official client.

One call is one attempt: what may pass is raised, and tried again by whoever asked. An answer in another shape than
was asked for is sent back once, to be put right. What the service says of itself never leaves here: bodies of errors
quote keys and texts.
"""

import asyncio
import importlib
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError

from ingather.adapters.retry_after import seconds_asked
from ingather.adapters.text_prompts import (
    PROMPTS_VERSION,
    REPAIR,
    SHAPES,
    answer_of,
    messages_for,
    prose_of,
    schema_of,
    shaped,
)
from ingather.domain.metadata_pairs import well_formed
from ingather.models.errors import (
    ConfigurationError,
    ModelAnswerInvalidError,
    ModelRefusedError,
    ModelRequestRefusedError,
    ModelUnavailableError,
)
from ingather.models.text import TextAnswer, TextTask

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletion

log = structlog.get_logger(__name__)

PROVIDER = "openai"
StructuredOutputs = Literal["json_schema", "json_object", "off"]

_PASSING_STATUSES = frozenset({408, 409, 425, 429, 529})
"""Beside all from 500 on."""
_TO_THE_SENDER = frozenset({400, 413, 422})


class OpenAiTexts:
    """A ``TextProcessor`` over HTTP. Use an instance in one event loop only.

    Args:
        base_url: up to and including the version, such as ``https://api.openai.com/v1``.
        model: the service's name of the model.
        api_key: sent as a bearer token, and never part of an error or a log line.
        timeout: for one request.
        structured_outputs: how JSON is asked for, beside the instructions: by its schema, as any JSON, or not at all.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        timeout: timedelta = timedelta(seconds=60),
        structured_outputs: StructuredOutputs = "json_schema",
    ) -> None:
        self._base_url = base_url
        self._host = urlsplit(base_url).hostname or base_url
        self._model = model
        self._api_key = _checked_key(api_key)
        self._timeout = timeout
        self._structured_outputs = structured_outputs
        self._client: AsyncOpenAI | None = None
        self._importing = asyncio.Lock()

    @property
    def provider(self) -> str:
        return PROVIDER

    @property
    def model(self) -> str:
        return self._model

    @property
    def identity(self) -> str:
        return f"{PROVIDER}/{self._base_url}/{self._model}/{PROMPTS_VERSION}"

    async def process(self, task: TextTask) -> TextAnswer:
        messages: list[dict[str, Any]] = [*messages_for(task)]
        if task.operation not in SHAPES:
            content, usage = await self.complete(messages)
            return prose_of(content, task).model_copy(update={"details": usage})
        for is_last in (False, True):
            content, usage = await self.complete(messages, self._response_format(task))
            try:
                shape = shaped(content, task.operation)
            except ValidationError:
                log.info("model.answer_misshapen", host=self._host, operation=task.operation.value, is_last=is_last)
                messages += [{"role": "assistant", "content": content}, {"role": "user", "content": REPAIR}]
            else:
                return answer_of(shape, task).model_copy(update={"details": usage})
        raise ModelAnswerInvalidError(
            f"The model's answer for {task.operation.value} has not the shape it was asked for, also when asked again."
        )

    async def complete(
        self, messages: Sequence[dict[str, Any]], response_format: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """What the model says next, with the tokens it took. Raises what ``process`` does."""
        client = await self._open_client()
        import openai  # noqa: PLC0415  # it is loaded by now

        create: Any = client.chat.completions.create  # messages are plain objects here, as the protocol has them
        wanted = {"response_format": response_format} if response_format else {}
        try:
            # The client's own time-out is for each piece of an answer: one that trickles in would outlast it.
            async with asyncio.timeout(self._timeout.total_seconds()):
                completion: ChatCompletion = await create(model=self._model, messages=list(messages), **wanted)
        except openai.APIStatusError as error:
            raise self._refused(error.status_code, error.response.headers.get("Retry-After")) from None
        except (openai.APITimeoutError, TimeoutError):
            raise self._unavailable("no answer in time") from None
        except openai.APIConnectionError:
            raise self._unavailable("no connection") from None
        except (openai.APIError, ValueError):
            raise self._unavailable("an answer that cannot be read") from None
        return self._content(completion)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _content(self, completion: "ChatCompletion") -> tuple[str, dict[str, Any]]:
        try:
            [choice, *_] = completion.choices
            message, reason = choice.message, choice.finish_reason
            content, refusal = message.content, message.refusal
        except (AttributeError, TypeError, ValueError):
            # The client hands on what it could not read.
            raise self._unavailable("an answer that cannot be read") from None
        if refusal or reason == "content_filter":
            raise ModelRefusedError("The model declined to process this text.")
        if reason == "length":
            raise ModelAnswerInvalidError("The model's answer was cut off: it is longer than the service allows.")
        if not isinstance(content, str) or not content.strip():
            raise self._unavailable("an empty answer")
        return well_formed(content), _usage_of(completion)

    async def _open_client(self) -> "AsyncOpenAI":
        async with self._importing:
            if self._client is None:
                # A second or more, in which others go on.
                openai = await asyncio.to_thread(importlib.import_module, "openai")
                self._client = openai.AsyncOpenAI(
                    # A key always, or the client would send one that lies in the environment for another service.
                    api_key=self._api_key or "none",
                    base_url=self._base_url,
                    timeout=self._timeout.total_seconds(),
                    max_retries=0,
                )
                # The same goes for whom it would say to act for.
                self._client.organization = self._client.project = None
            return self._client

    def _response_format(self, task: TextTask) -> dict[str, Any] | None:
        match self._structured_outputs:
            case "json_schema":
                schema = {"name": task.operation.value, "schema": schema_of(task.operation), "strict": True}
                return {"type": "json_schema", "json_schema": schema}
            case "json_object":
                return {"type": "json_object"}
            case "off":
                return None

    def _refused(self, status: int, asked_wait: str | None) -> Exception:
        if status >= 500 or status in _PASSING_STATUSES:
            return self._unavailable(f"status {status}", seconds_asked(asked_wait))
        advice = None
        if status in _TO_THE_SENDER:
            advice = (
                "The text may be too long for the model, or its service may not know structured outputs: see"
                " INGATHER_LLM__STRUCTURED_OUTPUTS."
            )
        return ModelRequestRefusedError(
            f"The language model's service refused the request with status {status}.", action=advice, status=status
        )

    def _unavailable(self, reason: str, retry_after_seconds: float | None = None) -> ModelUnavailableError:
        log.info("model.unavailable", host=self._host, reason=reason)
        return ModelUnavailableError(
            f"The language model did not answer ({reason}).", reason=reason, retry_after_seconds=retry_after_seconds
        )


def _usage_of(completion: "ChatCompletion") -> dict[str, Any]:
    """Tokens, where they are told as numbers."""
    told = {name: getattr(completion.usage, name, None) for name in ("prompt_tokens", "completion_tokens")}
    counts = {name: count for name, count in told.items() if isinstance(count, int)}
    return {"usage": counts} if counts else {}


def _checked_key(api_key: str | None) -> str | None:
    """The key without blanks around it; refused here where it could end up in an error about a bad header."""
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            "The language model's API key has characters that no key has.", action="Set INGATHER_LLM__API_KEY again."
        )
    return key or None

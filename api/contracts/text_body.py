"""What contract E's clients send: short texts, each with what is to be done with it."""

from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from api.feeds import take_bytes
from api.problems import field_problems, request_invalid
from api.reception import Reception, SubmissionSpec
from api.service.texts import OPERATION, USER_METADATA
from ingather.models.errors import TooManyTextsError
from ingather.models.text import TextOptions, TextTask
from ingather.models.webhook import WebhookSecret, WebhookUrl
from workflows.pipelines import TEXT

CONTRACT = "texts"
CLIENT_BATCH_ID = "client_batch_id"
"""Key in the batch's own metadata."""

ClientBatchId = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f/]+$")
]


def _said(options: object) -> object:
    """What is null was not said."""
    if options is None:
        return {}
    return (
        {name: value for name, value in options.items() if value is not None} if isinstance(options, dict) else options
    )


class TextRequest(TextTask):
    """One text of a request."""

    options: Annotated[TextOptions, BeforeValidator(_said)] = TextOptions()
    user_metadata: dict[str, Any] | None = None
    """The client's own, given back with the result."""

    @property
    def task(self) -> TextTask:
        """What is processed."""
        return TextTask(operation=self.operation, text=self.text, question=self.question, options=self.options)


class NewTextBatch(BaseModel):
    """A batch as it is asked for."""

    model_config = ConfigDict(frozen=True)

    requests: list[TextRequest] = Field(min_length=1)
    batch_id: ClientBatchId | None = None
    """Makes a repeated request the same batch."""
    webhook_url: WebhookUrl | None = None
    """Hears of this batch alone, beside the tenant's webhooks."""
    webhook_secret: WebhookSecret | None = Field(default=None, repr=False)
    """Signs what is sent there, `whsec_…`; made, and shown once in a header, when left out."""


class SentBatch(BaseModel):
    """The same before its texts are looked at: too many of them is said before what is wrong with each."""

    model_config = ConfigDict(frozen=True)

    requests: list[Any] = Field(min_length=1, repr=False)
    batch_id: ClientBatchId | None = None
    webhook_url: WebhookUrl | None = None
    webhook_secret: WebhookSecret | None = Field(default=None, repr=False)

    def checked(self, max_requests: int) -> NewTextBatch:
        """Raises ``TooManyTextsError``, and ``ValidationFailedError`` for texts that do not fit."""
        if len(self.requests) > max_requests:
            raise TooManyTextsError(
                f"Batch size exceeds maximum limit of {max_requests} requests.", limit="max_batch_requests"
            )
        try:
            requests = _REQUESTS.validate_python(self.requests)
        except ValidationError as error:
            problems = field_problems(error, "#/requests")
            raise request_invalid("The request does not fit the schema; see errors.", problems) from None
        return NewTextBatch.model_construct(
            requests=requests,
            batch_id=self.batch_id,
            webhook_url=self.webhook_url,
            webhook_secret=self.webhook_secret,
        )


_REQUESTS = TypeAdapter(list[TextRequest])


class TextFeed:
    """Brings a batch's texts into a reception, a document each."""

    def __init__(self, batch: NewTextBatch) -> None:
        self._batch = batch

    async def read(self, reception: Reception) -> SubmissionSpec:
        """Texts go where documents' bytes go; names and metadata say nothing of what is in them."""
        for number, request in enumerate(self._batch.requests, 1):
            content = orjson.dumps(request.task.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
            metadata: dict[str, Any] = {OPERATION: request.operation.value}
            if request.user_metadata is not None:
                metadata[USER_METADATA] = request.user_metadata
            await take_bytes(f"{number:03}-{request.operation}.json", content, metadata, reception)
        own = {} if self._batch.batch_id is None else {CLIENT_BATCH_ID: self._batch.batch_id}
        count = len(self._batch.requests)
        return SubmissionSpec(
            name=f"{count} text{'s' if count != 1 else ''}",
            pipeline=TEXT,
            metadata=own,
            webhook_url=self._batch.webhook_url,
            webhook_secret=self._batch.webhook_secret,
        )

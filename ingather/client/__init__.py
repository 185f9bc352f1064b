"""A client of Ingather's API: synchronous and for an event loop, typed, safe to repeat.

    with IngatherClient("http://127.0.0.1:8000") as client:
        batch = client.submit(["report.pdf"], collection="papers")
        for event in client.events(batch.id, after=0):
            print(event.type)

It needs httpx, httpx-sse and websockets, each from the moment it is used.
"""

from typing import TYPE_CHECKING, Any

from ingather.client.bodies import NewDocument, Selection, UploadBytes, UploadFile, UploadStream
from ingather.client.errors import (
    AddressError,
    AnswerTimeoutError,
    ApiError,
    BusyError,
    ClientError,
    ConflictError,
    ConnectionLostError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    NotIngatherError,
    ServerFaultError,
    StillRunningError,
    StreamLostError,
    TooLargeError,
    UnauthorizedError,
    UnreachableError,
    UnsendableError,
    UploadError,
)
from ingather.client.models import (
    Addition,
    ApiKey,
    AuditEvent,
    Batch,
    Connection,
    ConnectionTest,
    Delivery,
    Document,
    DocumentCounts,
    EventPage,
    Failure,
    Hit,
    Job,
    JobFile,
    JobMessage,
    JobStatistics,
    Limits,
    Preview,
    SelectionProgress,
    SourceFile,
    StreamEvent,
    StreamTicket,
    Tenant,
    TextBatch,
    TextOutcome,
    Token,
    User,
    Webhook,
    WebhookTest,
)
from ingather.client.sync import IngatherClient

if TYPE_CHECKING:
    from ingather.client.aio import AsyncIngatherClient

__all__ = [
    "Addition",
    "AddressError",
    "AnswerTimeoutError",
    "ApiError",
    "ApiKey",
    "AsyncIngatherClient",
    "AuditEvent",
    "Batch",
    "BusyError",
    "ClientError",
    "ConflictError",
    "Connection",
    "ConnectionLostError",
    "ConnectionTest",
    "Delivery",
    "Document",
    "DocumentCounts",
    "EventPage",
    "Failure",
    "ForbiddenError",
    "Hit",
    "IngatherClient",
    "InvalidRequestError",
    "Job",
    "JobFile",
    "JobMessage",
    "JobStatistics",
    "Limits",
    "NewDocument",
    "NotFoundError",
    "NotIngatherError",
    "Preview",
    "Selection",
    "SelectionProgress",
    "ServerFaultError",
    "SourceFile",
    "StillRunningError",
    "StreamEvent",
    "StreamLostError",
    "StreamTicket",
    "Tenant",
    "TextBatch",
    "TextOutcome",
    "Token",
    "TooLargeError",
    "UnauthorizedError",
    "UnreachableError",
    "UnsendableError",
    "UploadBytes",
    "UploadError",
    "UploadFile",
    "UploadStream",
    "User",
    "Webhook",
    "WebhookTest",
]


def __getattr__(name: str) -> Any:
    """The client for an event loop, and asyncio with it, for those who ask for it."""
    if name == "AsyncIngatherClient":
        from ingather.client.aio import AsyncIngatherClient  # noqa: PLC0415  # as above

        return AsyncIngatherClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

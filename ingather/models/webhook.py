"""Webhooks: where events of a tenant's batches are sent, and what became of each one that was."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ingather.models.identity import BatchId, TenantId

MAX_URL_CHARACTERS = 2_048

WebhookUrl = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARACTERS)]

_FOUR, _THREE, _TWO = (f"[A-Za-z0-9+/]{{{count}}}" for count in (4, 3, 2))
WebhookSecret = Annotated[
    str,
    StringConstraints(pattern=f"^whsec_(?:(?:{_FOUR}){{8,20}}(?:{_THREE}=)?|(?:{_FOUR}){{8,21}}(?:{_TWO}==)?)$"),
]
"""As Standard Webhooks writes it: 24 to 64 random bytes in base64, with its padding: nothing can be signed without."""

TEST_EVENT = "webhook.test"
"""Sent on demand alone; every endpoint takes it."""


class WebhookEventType(StrEnum):
    """What an endpoint can hear of. Open to additions; the words are those of the event streams."""

    BATCH_STARTED = "batch.started"
    """It got its place and runs."""
    BATCH_PAUSED = "batch.paused"
    """Nothing is in flight any more."""
    BATCH_RESUMED = "batch.resumed"
    BATCH_RETRYING = "batch.retrying"
    """Documents run again."""
    BATCH_COMPLETED = "batch.completed"
    """Every document ended; ``status`` says whether some failed."""
    BATCH_FAILED = "batch.failed"
    """Every document failed, or the batch could not run at all."""
    BATCH_CANCELLED = "batch.cancelled"


class DisabledReason(StrEnum):
    """Why nothing is sent to an endpoint. Open to additions."""

    REQUESTED = "requested"
    """Somebody switched it off."""
    GONE = "gone"
    """It answered 410."""


class Webhook(BaseModel):
    """An endpoint of a tenant's. The catalog keeps it without a readable secret."""

    model_config = ConfigDict(frozen=True)

    webhook_id: str
    tenant_id: TenantId
    url: WebhookUrl
    description: str = Field(default="", max_length=255)
    event_types: tuple[WebhookEventType, ...] = ()
    """What it hears of; empty for everything."""
    batch_id: BatchId | None = None
    """The one batch whose events it gets; None for those of all batches."""
    sealed: str = Field(repr=False)
    """Its signing secrets, encrypted: ``secret``, and those of before with the time until which each signs, ``earlier``."""
    previous_until: datetime | None = None
    """The secret before the last rotation signs too until then."""
    disabled_reason: DisabledReason | None = None
    """None while it is sent to."""
    version: int = 1
    """Grows with every change, so that two changes at a time do not undo each other."""
    created_by: str = "anonymous"
    created_at: datetime

    @property
    def owner(self) -> str:
        """Whom its secrets are sealed for: under another endpoint's name they are useless."""
        return f"webhook/{self.tenant_id}/{self.webhook_id}"

    @property
    def is_enabled(self) -> bool:
        return self.disabled_reason is None

    def hears(self, event_type: str, batch_id: str) -> bool:
        """Whether an event of this batch is for it."""
        is_wanted = not self.event_types or event_type in self.event_types
        return self.is_enabled and is_wanted and self.batch_id in {None, batch_id}


class DeliveryStatus(StrEnum):
    """How far a delivery is. Open to additions."""

    PENDING = "pending"
    """It is tried, or will be at ``next_attempt_at``."""
    SUCCEEDED = "succeeded"
    """An attempt was answered with 2xx."""
    FAILED = "failed"
    """It is not tried any more."""


class DeliveryAttempt(BaseModel):
    """One request to an endpoint. What the receiver answered beside the status is not kept."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(ge=1)
    at: datetime
    status_code: int | None = None
    """None where there was no answer."""
    error: str | None = None
    """Why it did not succeed, in words; None where it did."""
    took_ms: float = 0.0

    @property
    def is_success(self) -> bool:
        return self.error is None


class WebhookDelivery(BaseModel):
    """One event on its way to one endpoint."""

    model_config = ConfigDict(frozen=True)

    delivery_id: str
    tenant_id: TenantId
    webhook_id: str
    event_id: str
    """The ``webhook-id`` header: the same in every attempt and redelivery, so receivers can drop repeats."""
    event_type: str
    """A ``WebhookEventType``, or ``webhook.test``."""
    batch_id: BatchId | None = None
    payload: dict[str, Any]
    """What is sent: ids, counts and links."""
    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: tuple[DeliveryAttempt, ...] = ()
    next_attempt_at: datetime | None = None
    redelivery_of: str | None = None
    """The delivery that somebody had sent again."""
    created_at: datetime
    ended_at: datetime | None = None

"""What happened and who did it: events that are written once and never changed."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ingather.models.identity import TenantId

SYSTEM_NAME = "system"


class AuditType(StrEnum):
    """Kinds of events. Open to additions."""

    DOCUMENT_INGESTED = "DOCUMENT_INGESTED"
    """A document was taken in, or handed on: once for each, however often it was tried."""
    BATCH_SUBMITTED = "BATCH_SUBMITTED"
    BATCH_EXTENDED = "BATCH_EXTENDED"
    """Documents were added to an open batch."""
    BATCH_SEALED = "BATCH_SEALED"
    BATCH_STARTED = "BATCH_STARTED"
    """By whoever let a held batch run; by the system when it took a batch up that nobody held."""
    BATCH_PAUSED = "BATCH_PAUSED"
    BATCH_RESUMED = "BATCH_RESUMED"
    BATCH_RETRIED = "BATCH_RETRIED"
    BATCH_CANCELLED = "BATCH_CANCELLED"
    """Somebody asked for it; ``BATCH_ENDED`` tells when it was done."""
    BATCH_PRIORITY_CHANGED = "BATCH_PRIORITY_CHANGED"
    BATCH_RENAMED = "BATCH_RENAMED"
    BATCH_ENDED = "BATCH_ENDED"
    """Once for each time it ended: a retry opens it again."""
    BATCH_PUSHED_AGAIN = "BATCH_PUSHED_AGAIN"
    """Documents that were handed on before were pushed to the next stage's list again."""
    TENANT_CREATED = "TENANT_CREATED"
    TENANT_CHANGED = "TENANT_CHANGED"
    TENANT_DELETED = "TENANT_DELETED"
    USER_CREATED = "USER_CREATED"
    USER_CHANGED = "USER_CHANGED"
    USER_DELETED = "USER_DELETED"
    API_KEY_CREATED = "API_KEY_CREATED"
    API_KEY_ROTATED = "API_KEY_ROTATED"
    API_KEY_REVOKED = "API_KEY_REVOKED"

    CONNECTION_CREATED = "CONNECTION_CREATED"
    CONNECTION_DELETED = "CONNECTION_DELETED"
    WEBHOOK_CREATED = "WEBHOOK_CREATED"
    WEBHOOK_CHANGED = "WEBHOOK_CHANGED"
    WEBHOOK_ROTATED = "WEBHOOK_ROTATED"
    """It has a new secret."""
    WEBHOOK_DISABLED = "WEBHOOK_DISABLED"
    """By the system: it answered 410."""
    WEBHOOK_DELETED = "WEBHOOK_DELETED"
    WEBHOOK_REDELIVERED = "WEBHOOK_REDELIVERED"
    """Somebody had an event sent to it again."""


class ResourceType(StrEnum):
    """What an event is about. Open to additions."""

    DOCUMENT = "document"
    BATCH = "batch"
    TENANT = "tenant"
    USER = "user"
    API_KEY = "api_key"
    CONNECTION = "connection"
    WEBHOOK = "webhook"


class Actor(BaseModel):
    """Who did it."""

    model_config = ConfigDict(frozen=True)

    name: str = SYSTEM_NAME
    """The user, or the key where it acts as none; ``system`` for what nobody asked for."""
    credential: str | None = None
    """``key:<id>`` or ``token:<user id>``: names may change hands, ids do not."""


SYSTEM = Actor()

THROUGH_TEMPORAL = Actor(name="temporal")
"""Somebody who sent a message through Temporal itself, its UI or its command line: who that was, Temporal does not say."""


class AuditEvent(BaseModel):
    """One line of the record: these fields and no others, since programs elsewhere read them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_id: str
    """A UUID that follows from what happened where it may be told twice, so that it is recorded once."""
    tenant_id: TenantId
    """Whose record it is in."""
    event_type: str
    """An ``AuditType``."""
    resource_type: str
    """A ``ResourceType``."""
    resource_id: str
    details: dict[str, Any] = Field(default_factory=dict)
    """Small facts. Never a secret, never a document's text."""
    actor: str
    timestamp: datetime

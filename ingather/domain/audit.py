"""Audit events from what happened. The same happening makes the same event, however often it is told."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from ingather.models.accounts import ApiKey, Tenant, User
from ingather.models.audit import SYSTEM, SYSTEM_NAME, Actor, AuditEvent, AuditType, ResourceType
from ingather.models.batch import BatchRecord, BatchSummary
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.messages import RetryRequest, SealRequest
from ingather.models.source import Connection
from ingather.models.webhook import Webhook


def document_event_id(batch_id: str, ordinal: int) -> str:
    """The id of the event that this document was ingested: a UUID of version 8.

    Ids of one batch follow each other, so a database adds them side by side: scattered ones cost it three times as much.
    """
    return f"{_document_events(batch_id)}{ordinal:05x}"


@lru_cache(maxsize=256)
def _document_events(batch_id: str) -> str:
    """All but the last five digits, which hold any ordinal: a million documents are the most there are."""
    digits = str(uuid.uuid5(uuid.UUID(batch_id), AuditType.DOCUMENT_INGESTED))
    return f"{digits[:14]}8{digits[15:-5]}"


def documents_ingested(records: Iterable[DocumentRecord], actor: str = SYSTEM_NAME) -> list[AuditEvent]:
    """An event for each of these that is done; what was skipped had been ingested before, under another id."""
    return [
        AuditEvent(
            event_id=document_event_id(record.batch_id, record.ordinal),
            tenant_id=record.tenant_id,
            event_type=AuditType.DOCUMENT_INGESTED,
            resource_type=ResourceType.DOCUMENT,
            resource_id=record.file_id,
            details={"filename": record.filename},
            actor=actor,
            timestamp=record.ended_at or datetime.now(UTC),
        )
        for record in records
        if record.status is DocumentStatus.DONE
    ]


def batch_event_id(kind: AuditType, batch_id: str, which: str = "") -> str:
    """The id of the event that ``batch_event`` makes of the same."""
    return str(uuid.uuid5(uuid.UUID(batch_id), f"{kind}\n{which}"))


def batch_event(
    kind: AuditType,
    tenant_id: str,
    batch_id: str,
    by: Actor,
    at: datetime,
    *,
    which: str = "",
    details: dict[str, Any] | None = None,
) -> AuditEvent:
    """Something happened to a batch; ``which`` tells it from others of its kind."""
    return AuditEvent(
        event_id=batch_event_id(kind, batch_id, which),
        tenant_id=tenant_id,
        event_type=kind,
        resource_type=ResourceType.BATCH,
        resource_id=batch_id,
        details={**(details or {}), **_credential(by)},
        actor=by.name,
        timestamp=at,
    )


def retry_details(request: RetryRequest) -> dict[str, Any]:
    """What a retry was limited to; a long list of numbers as its length."""
    given: dict[str, Any] = {"codes": list(request.codes)} if request.codes else {}
    if request.ordinals:
        given["selected_count"] = len(request.ordinals)
    flags = ("include_cancelled", "include_done")
    return given | {name: True for name in flags if getattr(request, name)}


def seal_details(request: SealRequest) -> dict[str, Any]:
    """All that an open batch was given."""
    return {"submitted_count": request.document_count, "submitted_bytes": request.size_bytes}


def batch_submitted(record: BatchRecord, by: Actor) -> AuditEvent:
    spec = record.spec
    facts = spec.model_dump(include={"name", "contract", "pipeline", "collection", "priority", "hold", "open"})
    details = {**facts, "submitted_count": spec.submitted_count, "submitted_bytes": spec.submitted_bytes}
    return batch_event(
        AuditType.BATCH_SUBMITTED, record.tenant_id, record.batch_id, by, record.created_at, details=details
    )


def batch_ended(tenant_id: str, summary: BatchSummary, at: datetime) -> AuditEvent:
    """Told once for each version of a batch that ended."""
    details: dict[str, Any] = {"state": summary.state.value, "counts": summary.counts.model_dump()}
    if summary.problem is not None:
        details["problem"] = summary.problem.code
    return batch_event(
        AuditType.BATCH_ENDED,
        tenant_id,
        summary.batch_id,
        SYSTEM,
        summary.ended_at or at,
        which=str(summary.version),
        details=details,
    )


def account_event(
    kind: AuditType, thing: Tenant | User | ApiKey | Connection | Webhook, by: Actor, at: datetime, **details: Any
) -> AuditEvent:
    """Something happened to a tenant, user, key, connection or webhook. It is written with the change itself, so its id may be any."""
    resource_type, resource_id, name = _named(thing)
    return AuditEvent(
        event_id=str(uuid.uuid4()),
        tenant_id=thing.tenant_id,
        event_type=kind,
        resource_type=resource_type,
        resource_id=resource_id,
        details={"name": name, **details, **_credential(by)},
        actor=by.name,
        timestamp=at,
    )


def _named(thing: Tenant | User | ApiKey | Connection | Webhook) -> tuple[ResourceType, str, str]:
    if isinstance(thing, Tenant):
        return ResourceType.TENANT, thing.tenant_id, thing.name
    if isinstance(thing, User):
        return ResourceType.USER, thing.user_id, thing.username
    if isinstance(thing, Connection):
        return ResourceType.CONNECTION, thing.connection_id, thing.connection_id
    if isinstance(thing, Webhook):
        # Its address may hold a word that lets one in there.
        return ResourceType.WEBHOOK, thing.webhook_id, urlsplit(thing.url).hostname or ""
    return ResourceType.API_KEY, thing.key_id, thing.name


def _credential(by: Actor) -> dict[str, str]:
    return {"credential": by.credential} if by.credential else {}

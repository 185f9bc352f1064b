"""What is sent to webhooks, under which ids, and when it is tried again."""

import base64
import secrets
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random
from typing import Any

import orjson

from ingather.domain.event_stream import state_event
from ingather.models.batch import BatchProblem, BatchState, BatchSummary, Counts
from ingather.models.messages import BatchNews
from ingather.models.webhook import (
    TEST_EVENT,
    DeliveryAttempt,
    DeliveryStatus,
    Webhook,
    WebhookDelivery,
    WebhookEventType,
)

_MINUTE, _HOUR = 60, 3_600

PAUSES = tuple(
    timedelta(seconds=seconds)
    for seconds in (
        0,
        5,
        5 * _MINUTE,
        30 * _MINUTE,
        2 * _HOUR,
        5 * _HOUR,
        10 * _HOUR,
        14 * _HOUR,
        20 * _HOUR,
        24 * _HOUR,
    )
)
"""Before each attempt, counted from the end of the one before: ten attempts in three days."""
JITTER = 0.1
"""A pause is longer by up to this part of it, so that receivers that come back are not met by all at once."""
LONGEST_PAUSE = timedelta(hours=24)
"""A receiver that asks for more is tried again all the same."""

_NEWS = frozenset(kind.value for kind in WebhookEventType)
_SECRET_BYTES = 32


def new_secret() -> str:
    """A signing secret nobody had before, as Standard Webhooks writes it."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def news_of(previous: BatchState | None, state: BatchState) -> WebhookEventType | None:
    """The event that endpoints hear of a change of state; None for states that are only passed through."""
    event = state_event(previous, state)
    return WebhookEventType(event.value) if event is not None and event.value in _NEWS else None


def end_news(summary: BatchSummary) -> BatchNews:
    """How a batch ended; told once for each version that did."""
    kind = news_of(None, summary.state)
    assert kind is not None  # every final state has its event
    return BatchNews(
        kind=kind,
        which=f"v{summary.version}",
        at=summary.ended_at,
        state=summary.state,
        version=summary.version,
        counts=summary.counts,
        failures_by_code=summary.failures_by_code,
        retry_round=summary.retry_round,
        problem=summary.problem,
    )


def webhook_id_for_batch(batch_id: str) -> str:
    """Id of the endpoint that was named with one batch."""
    return str(uuid.uuid5(uuid.UUID(batch_id), "webhook"))


def event_id_for(batch_id: str, news: BatchNews) -> str:
    """The same happening has the same id, however often it is told, and at whichever endpoint."""
    name = f"news\n{news.kind.value}\n{news.which}"
    return f"evt_{uuid.uuid5(uuid.UUID(batch_id), name).hex}"


def event_id_of_test(webhook_id: str, key: str | None) -> str:
    """Of an event that happens to no batch: the same under the same key, another each time without one."""
    chosen = uuid.uuid4() if key is None else uuid.uuid5(uuid.UUID(webhook_id), f"test\n{key}")
    return f"evt_{chosen.hex}"


def delivery_id_for(webhook_id: str, event_id: str, again: str = "") -> str:
    """One event is delivered to one endpoint once; ``again`` tells the times apart that somebody asked for."""
    return str(uuid.uuid5(uuid.UUID(webhook_id), f"{event_id}\n{again}"))


def payload_of(tenant_id: str, batch_id: str, event_id: str, news: BatchNews, base_url: str) -> dict[str, Any]:
    """The envelope of a batch's event: ids, counts and links, never a name or a text that came with documents."""
    counts = news.counts
    data = {
        "tenant_id": tenant_id,
        "status": news.state.value,
        "version": news.version,
        "retry_round": news.retry_round,
        "counts": counts.model_dump(),
        "progress": _share(counts, news.state),
        "failures_by_code": news.failures_by_code,
        "problem": _problem(news.problem),
        "links": _links(batch_id, base_url),
    }
    return {"id": event_id, "type": news.kind.value, "time": _moment(news.at), "batch_id": batch_id, "data": data}


def payload_of_test(webhook: Webhook, event_id: str, at: datetime) -> dict[str, Any]:
    """What a test sends."""
    data = {"tenant_id": webhook.tenant_id, "webhook_id": webhook.webhook_id}
    return {"id": event_id, "type": TEST_EVENT, "time": _moment(at), "batch_id": None, "data": data}


def body_of(delivery: WebhookDelivery) -> bytes:
    """The bytes that are signed and sent."""
    return orjson.dumps(delivery.payload)


def deliveries_of(
    batch_id: str, news: BatchNews, listeners: Iterable[Webhook], base_url: str, at: datetime
) -> list[WebhookDelivery]:
    """One for each endpoint that the event is for."""
    event_id = event_id_for(batch_id, news)
    return [
        WebhookDelivery(
            delivery_id=delivery_id_for(webhook.webhook_id, event_id),
            tenant_id=webhook.tenant_id,
            webhook_id=webhook.webhook_id,
            event_id=event_id,
            event_type=news.kind.value,
            batch_id=batch_id,
            payload=payload_of(webhook.tenant_id, batch_id, event_id, news, base_url),
            next_attempt_at=at,
            created_at=at,
        )
        for webhook in listeners
        if webhook.hears(news.kind, batch_id)
    ]


def with_attempt(
    delivery: WebhookDelivery,
    attempt: DeliveryAttempt | None,
    status: DeliveryStatus,
    next_attempt_at: datetime | None,
    at: datetime,
) -> WebhookDelivery:
    """A delivery after an attempt, or after it was given up; what was known of it already stays."""
    is_known = attempt is not None and any(each.number == attempt.number for each in delivery.attempts)
    if is_known or delivery.status is not DeliveryStatus.PENDING:
        return delivery
    is_over = status is not DeliveryStatus.PENDING
    return delivery.model_copy(
        update={
            "attempts": (*delivery.attempts, attempt) if attempt else delivery.attempts,
            "status": status,
            "next_attempt_at": None if is_over else next_attempt_at,
            "ended_at": at if is_over else None,
        }
    )


def pause_before(attempt: int, random: Random) -> timedelta | None:
    """How long to wait before an attempt, the first being 1; None where there is no such attempt."""
    if attempt > len(PAUSES):
        return None
    return PAUSES[attempt - 1] * (1 + JITTER * random.random())


def asked_pause(pause: timedelta, retry_after_seconds: float | None) -> timedelta:
    """The schedule's pause, or the longer one that the receiver asked for."""
    if retry_after_seconds is None:
        return pause
    # Compared as numbers: what a receiver writes there may be longer than a timedelta can be.
    return max(pause, timedelta(seconds=min(retry_after_seconds, LONGEST_PAUSE.total_seconds())))


def _share(counts: Counts, state: BatchState) -> float:
    if not counts.total:
        return 1.0 if state.is_final else 0.0
    return round(counts.ended / counts.total, 4)


def _problem(problem: BatchProblem | None) -> dict[str, str] | None:
    """Its message may quote a name out of an archive."""
    return None if problem is None else {"code": problem.code, "action": problem.action}


def _links(batch_id: str, base_url: str) -> dict[str, str]:
    batch = f"{base_url.rstrip('/')}/v1/batches/{batch_id}"
    return {"batch": batch, "documents": f"{batch}/documents", "report": f"{batch}/report", "events": f"{batch}/events"}


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Webhooks in the catalog's database: endpoints, and the log of what was sent to them."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Select, delete, func, literal, or_, select, tuple_, update

from ingather.adapters.sql.accounts import tenant_exists
from ingather.adapters.sql.audit import noting
from ingather.adapters.sql.statements import Run, insert_into
from ingather.adapters.sql.tables import webhook_deliveries, webhooks
from ingather.domain.webhooks import with_attempt
from ingather.models.audit import AuditEvent
from ingather.models.errors import TenantNotFoundError, TooManyWebhooksError
from ingather.models.webhook import DeliveryAttempt, DeliveryStatus, Webhook, WebhookDelivery
from ingather.ports.webhooks import DeliveryFilter

_columns: Final = webhooks.c
_deliveries: Final = webhook_deliveries.c


class SqlWebhooks:
    """Shares the catalog's connections, threads and transactions."""

    def __init__(self, read: Run, write: Run) -> None:
        self._read = read
        self._write = write

    async def add_webhook(
        self, webhook: Webhook, events: Sequence[AuditEvent] = (), *, most: int | None = None
    ) -> tuple[Webhook, bool]:
        return await self._write("add a webhook", noting(events, partial(_add, webhook, most), lambda it: it[1]))

    async def get_webhook(self, tenant_id: str, webhook_id: str) -> Webhook | None:
        return await self._read("look a webhook up", partial(_get, tenant_id, webhook_id))

    async def list_webhooks(
        self, tenant_id: str, limit: int, *, batch_id: str | None = None, before: tuple[datetime, str] | None = None
    ) -> list[Webhook]:
        return await self._read("list webhooks", partial(_list, tenant_id, limit, batch_id, before))

    async def list_listeners(self, tenant_id: str, batch_id: str) -> list[Webhook]:
        return await self._read("list who hears of a batch", partial(_list_listeners, tenant_id, batch_id))

    async def has_listeners(self, tenant_id: str) -> bool:
        return await self._read("see whether anybody listens", partial(_has_listeners, tenant_id))

    async def replace_webhook(self, before: Webhook, after: Webhook, events: Sequence[AuditEvent] = ()) -> bool:
        return await self._write("change a webhook", noting(events, partial(_replace, before, after), bool))

    async def delete_webhook(self, tenant_id: str, webhook_id: str, events: Sequence[AuditEvent] = ()) -> bool:
        return await self._write("delete a webhook", noting(events, partial(_delete, tenant_id, webhook_id), bool))

    async def list_all(self, limit: int, *, after: tuple[str, str] | None = None) -> list[Webhook]:
        return await self._read("list all webhooks", partial(_list_all, limit, after))

    async def add_deliveries(self, deliveries: Sequence[WebhookDelivery]) -> None:
        if deliveries:
            await self._write("note what is to be sent", partial(_add_deliveries, deliveries))

    async def get_delivery(self, tenant_id: str, delivery_id: str) -> WebhookDelivery | None:
        return await self._read("look a delivery up", partial(_get_delivery, tenant_id, delivery_id))

    async def list_deliveries(self, where: DeliveryFilter, limit: int) -> list[WebhookDelivery]:
        return await self._read("list deliveries", partial(_list_deliveries, where, limit))

    async def note_attempt(
        self,
        delivery: WebhookDelivery,
        attempt: DeliveryAttempt | None,
        status: DeliveryStatus,
        *,
        next_attempt_at: datetime | None = None,
        at: datetime,
    ) -> WebhookDelivery:
        def noted(there: WebhookDelivery) -> WebhookDelivery:
            return with_attempt(there, attempt, status, next_attempt_at, at)

        return await self._write("note how sending went", partial(_note_attempt, delivery, noted))

    async def remove_deliveries(self, tenant_id: str, webhook_id: str, before: datetime, limit: int) -> int:
        return await self._write(
            "remove old deliveries", partial(_remove_deliveries, tenant_id, webhook_id, before, limit)
        )


def _add(webhook: Webhook, most: int | None, connection: Connection) -> tuple[Webhook, bool]:
    if not tenant_exists(webhook.tenant_id, connection):
        raise TenantNotFoundError(f"There is no tenant {webhook.tenant_id}.")
    found = _get(webhook.tenant_id, webhook.webhook_id, connection)
    if found is not None:
        return found, False
    if most is not None and webhook.batch_id is None and _count(webhook.tenant_id, connection) >= most:
        raise TooManyWebhooksError(f"The tenant has {most} webhooks, and no more are kept.", limit="max_webhooks")
    statement = insert_into(connection.dialect.name, webhooks)
    statement = statement.on_conflict_do_nothing().returning(_columns.webhook_id)
    if connection.scalar(statement, _row_of(webhook)) is not None:
        return webhook, True
    found = _get(webhook.tenant_id, webhook.webhook_id, connection)
    assert found is not None  # it stood in the way just now, in this transaction
    return found, False


def _row_of(webhook: Webhook) -> dict[str, Any]:
    moments = {"created_at": webhook.created_at, "previous_until": webhook.previous_until}
    return webhook.model_dump(mode="json") | moments


def _count(tenant_id: str, connection: Connection) -> int:
    query = select(func.count()).select_from(webhooks).where(_columns.tenant_id == tenant_id)
    return connection.scalar(query.where(_columns.batch_id.is_(None))) or 0


def _get(tenant_id: str, webhook_id: str, connection: Connection) -> Webhook | None:
    query = select(webhooks).where(_columns.tenant_id == tenant_id, _columns.webhook_id == webhook_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else _webhook(row)


def _list(
    tenant_id: str, limit: int, batch_id: str | None, before: tuple[datetime, str] | None, connection: Connection
) -> list[Webhook]:
    query = select(webhooks).where(_columns.tenant_id == tenant_id, _columns.batch_id.is_not_distinct_from(batch_id))
    if before is not None:
        at, webhook_id = before
        place = tuple_(literal(at, _columns.created_at.type), webhook_id)
        query = query.where(tuple_(_columns.created_at, _columns.webhook_id) < place)
    query = query.order_by(_columns.created_at.desc(), _columns.webhook_id.desc()).limit(limit)
    return [_webhook(row) for row in connection.execute(query).mappings()]


def _list_listeners(tenant_id: str, batch_id: str, connection: Connection) -> list[Webhook]:
    is_for_it = or_(_columns.batch_id.is_(None), _columns.batch_id == batch_id)
    query = _enabled(tenant_id).where(is_for_it).order_by(_columns.created_at, _columns.webhook_id)
    return [_webhook(row) for row in connection.execute(query).mappings()]


def _has_listeners(tenant_id: str, connection: Connection) -> bool:
    query = _enabled(tenant_id).where(_columns.batch_id.is_(None)).limit(1)
    return connection.execute(query).first() is not None


def _enabled(tenant_id: str) -> Select[Any]:
    return select(webhooks).where(_columns.tenant_id == tenant_id, _columns.disabled_reason.is_(None))


def _replace(before: Webhook, after: Webhook, connection: Connection) -> bool:
    statement = (
        update(webhooks)
        .where(
            _columns.webhook_id == before.webhook_id,
            _columns.tenant_id == before.tenant_id,
            _columns.version == before.version,
        )
        .values({**_row_of(after), "version": before.version + 1})
    )
    return bool(connection.execute(statement).rowcount)


def _delete(tenant_id: str, webhook_id: str, connection: Connection) -> bool:
    found = connection.execute(
        delete(webhooks).where(_columns.tenant_id == tenant_id, _columns.webhook_id == webhook_id)
    )
    if not found.rowcount:
        return False
    connection.execute(delete(webhook_deliveries).where(_deliveries.webhook_id == webhook_id))
    return True


def _list_all(limit: int, after: tuple[str, str] | None, connection: Connection) -> list[Webhook]:
    query = select(webhooks)
    if after is not None:
        place = tuple_(literal(after[0]), literal(after[1]))
        query = query.where(tuple_(_columns.tenant_id, _columns.webhook_id) > place)
    query = query.order_by(_columns.tenant_id, _columns.webhook_id).limit(limit)
    return [_webhook(row) for row in connection.execute(query).mappings()]


def _add_deliveries(deliveries: Sequence[WebhookDelivery], connection: Connection) -> None:
    wanted = {delivery.webhook_id for delivery in deliveries}
    there = set(connection.scalars(select(_columns.webhook_id).where(_columns.webhook_id.in_(wanted))))
    rows = [_delivery_row(delivery) for delivery in deliveries if delivery.webhook_id in there]
    if rows:
        connection.execute(insert_into(connection.dialect.name, webhook_deliveries).on_conflict_do_nothing(), rows)


def _delivery_row(delivery: WebhookDelivery) -> dict[str, Any]:
    moments = ("created_at", "ended_at", "next_attempt_at")
    return delivery.model_dump(mode="json") | {name: getattr(delivery, name) for name in moments}


def _get_delivery(tenant_id: str, delivery_id: str, connection: Connection) -> WebhookDelivery | None:
    row = connection.execute(_one_delivery(tenant_id, delivery_id)).mappings().first()
    return None if row is None else _delivery(row)


def _one_delivery(tenant_id: str, delivery_id: str) -> Select[Any]:
    return select(webhook_deliveries).where(_deliveries.tenant_id == tenant_id, _deliveries.delivery_id == delivery_id)


def _list_deliveries(where: DeliveryFilter, limit: int, connection: Connection) -> list[WebhookDelivery]:
    query = select(webhook_deliveries).where(
        _deliveries.tenant_id == where.tenant_id, _deliveries.webhook_id == where.webhook_id
    )
    if where.status is not None:
        query = query.where(_deliveries.status == where.status.value)
    if where.event_type is not None:
        query = query.where(_deliveries.event_type == where.event_type)
    if where.before is not None:
        at, delivery_id = where.before
        place = tuple_(literal(at, _deliveries.created_at.type), delivery_id)
        query = query.where(tuple_(_deliveries.created_at, _deliveries.delivery_id) < place)
    query = query.order_by(_deliveries.created_at.desc(), _deliveries.delivery_id.desc()).limit(limit)
    return [_delivery(row) for row in connection.execute(query).mappings()]


def _note_attempt(
    delivery: WebhookDelivery, noted: Callable[[WebhookDelivery], WebhookDelivery], connection: Connection
) -> WebhookDelivery:
    # Locked, where a database has locks of rows: two attempts of one number must not both be written.
    row = (
        connection.execute(_one_delivery(delivery.tenant_id, delivery.delivery_id).with_for_update()).mappings().first()
    )
    there = delivery if row is None else _delivery(row)
    after = noted(there)
    if row is not None and after is not there:
        changed = _delivery_row(after)
        columns = ("status", "attempts", "next_attempt_at", "ended_at")
        connection.execute(
            update(webhook_deliveries)
            .where(_deliveries.delivery_id == delivery.delivery_id)
            .values({name: changed[name] for name in columns})
        )
    return after


def _remove_deliveries(tenant_id: str, webhook_id: str, before: datetime, limit: int, connection: Connection) -> int:
    old = (
        select(_deliveries.delivery_id)
        .where(
            _deliveries.tenant_id == tenant_id,
            _deliveries.webhook_id == webhook_id,
            _deliveries.created_at < before,
            _deliveries.ended_at < before,
        )
        .limit(limit)
    )
    return connection.execute(delete(webhook_deliveries).where(_deliveries.delivery_id.in_(old))).rowcount


def _webhook(row: RowMapping) -> Webhook:
    return Webhook.model_validate(dict(row))


def _delivery(row: RowMapping) -> WebhookDelivery:
    return WebhookDelivery.model_validate(dict(row))

"""The audit log in a dictionary."""

from collections.abc import Sequence

from ingather.models.audit import AuditEvent
from ingather.ports.audit import AuditFilter


class InMemoryAuditLog:
    """By event id: the first word stays."""

    def __init__(self) -> None:
        self._events: dict[str, AuditEvent] = {}

    async def record(self, events: Sequence[AuditEvent]) -> None:
        for event in events:
            self._events.setdefault(event.event_id, event)

    async def recorded(self, event_ids: Sequence[str]) -> set[str]:
        return self._events.keys() & set(event_ids)

    async def list_events(self, where: AuditFilter, limit: int) -> list[AuditEvent]:
        found = [event for event in self._events.values() if _matches(event, where)]
        found.sort(key=_position, reverse=True)
        return found[:limit]


def _matches(event: AuditEvent, where: AuditFilter) -> bool:
    return (
        event.tenant_id == where.tenant_id
        and where.event_type in {None, event.event_type}
        and where.resource_type in {None, event.resource_type}
        and where.resource_id in {None, event.resource_id}
        and where.actor in {None, event.actor}
        and (where.since is None or event.timestamp >= where.since)
        and (where.until is None or event.timestamp < where.until)
        and (where.before is None or _position(event) < where.before)
    )


def _position(event: AuditEvent) -> tuple[object, str]:
    return event.timestamp, event.event_id

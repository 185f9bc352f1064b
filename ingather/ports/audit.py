"""The record of who did what, as the catalog keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ingather.models.audit import AuditEvent


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events of a tenant to list, all conditions together."""

    tenant_id: str
    event_type: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    actor: str | None = None
    since: datetime | None = None
    """From then on."""
    until: datetime | None = None
    """Before then."""
    before: tuple[datetime, str] | None = None
    """Keyset cursor: timestamp and event id of the last one seen; newest first."""


class AuditLog(Protocol):
    """Part of the catalog; what it records is never changed and never removed.

    Methods raise ``CatalogUnavailableError``; none blocks the event loop.
    """

    async def record(self, events: Sequence[AuditEvent]) -> None:
        """Add events, all or none; one that is there already stays as it was."""
        ...

    async def recorded(self, event_ids: Sequence[str]) -> set[str]:
        """Which of these are there."""
        ...

    async def list_events(self, where: AuditFilter, limit: int) -> list[AuditEvent]:
        """Newest first; those of one moment in the order of their ids, backwards."""
        ...

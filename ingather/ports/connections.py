"""Connections to sources, as the catalog keeps them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from ingather.models.audit import AuditEvent
from ingather.models.source import Connection


class Connections(Protocol):
    """Part of the catalog. Methods raise ``CatalogUnavailableError``; none blocks the event loop.

    Secrets come here encrypted. A deleted tenant's connections are gone with it. ``events`` are recorded in the same
    step as a change, and not where nothing changed.
    """

    async def add_connection(
        self, connection: Connection, events: Sequence[AuditEvent] = ()
    ) -> tuple[Connection, bool]:
        """Register a connection; where its tenant has one of this id, answer that one and False.

        Raises ``TenantNotFoundError``.
        """
        ...

    async def get_connection(self, tenant_id: str, connection_id: str) -> Connection | None:
        """None when unknown, or another tenant's."""
        ...

    async def list_connections(
        self, tenant_id: str, limit: int, *, before: tuple[datetime, str] | None = None
    ) -> list[Connection]:
        """A tenant's, newest first; ``before`` is creation and id of the last one seen."""
        ...

    async def delete_connection(self, tenant_id: str, connection_id: str, events: Sequence[AuditEvent] = ()) -> bool:
        """Forget it and its credentials. False when there was none."""
        ...

    async def list_sealed(self, limit: int, *, after: tuple[str, str] | None = None) -> list[Connection]:
        """All tenants' connections with credentials, by tenant and id; ``after`` is both of the last one seen."""
        ...

    async def replace_sealed(self, connection: Connection, sealed: str) -> bool:
        """Keep the same credentials under another key; False where they changed since ``connection`` was read."""
        ...

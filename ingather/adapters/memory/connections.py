"""Connections in a dictionary."""

from collections.abc import Sequence
from datetime import datetime

from ingather.adapters.memory.accounts import InMemoryAccounts
from ingather.adapters.memory.audit import InMemoryAuditLog
from ingather.models.audit import AuditEvent
from ingather.models.errors import TenantNotFoundError
from ingather.models.source import Connection


class InMemoryConnections:
    """Those of tenants that ``accounts`` knows."""

    def __init__(self, accounts: InMemoryAccounts, audit: InMemoryAuditLog) -> None:
        self._accounts = accounts
        self._audit = audit
        self._connections: dict[tuple[str, str], Connection] = {}

    async def add_connection(
        self, connection: Connection, events: Sequence[AuditEvent] = ()
    ) -> tuple[Connection, bool]:
        if await self._accounts.get_tenant(connection.tenant_id) is None:
            raise TenantNotFoundError(f"There is no tenant {connection.tenant_id}.")
        key = connection.tenant_id, connection.connection_id
        if key in self._connections:
            return self._connections[key], False
        self._connections[key] = connection
        await self._audit.record(events)
        return connection, True

    async def get_connection(self, tenant_id: str, connection_id: str) -> Connection | None:
        found = self._connections.get((tenant_id, connection_id))
        return found if found is not None and await self._is_there(found) else None

    async def list_connections(
        self, tenant_id: str, limit: int, *, before: tuple[datetime, str] | None = None
    ) -> list[Connection]:
        found = [
            connection
            for connection in self._connections.values()
            if connection.tenant_id == tenant_id
            and (before is None or (connection.created_at, connection.connection_id) < before)
            and await self._is_there(connection)
        ]
        found.sort(key=lambda connection: (connection.created_at, connection.connection_id), reverse=True)
        return found[:limit]

    async def delete_connection(self, tenant_id: str, connection_id: str, events: Sequence[AuditEvent] = ()) -> bool:
        if await self.get_connection(tenant_id, connection_id) is None:
            return False
        del self._connections[tenant_id, connection_id]
        await self._audit.record(events)
        return True

    async def list_sealed(self, limit: int, *, after: tuple[str, str] | None = None) -> list[Connection]:
        found = [
            connection
            for key, connection in sorted(self._connections.items())
            if connection.sealed is not None and (after is None or key > after) and await self._is_there(connection)
        ]
        return found[:limit]

    async def replace_sealed(self, connection: Connection, sealed: str) -> bool:
        found = await self.get_connection(connection.tenant_id, connection.connection_id)
        if found is None or found.sealed != connection.sealed:
            return False
        key = connection.tenant_id, connection.connection_id
        self._connections[key] = found.model_copy(update={"sealed": sealed})
        return True

    async def _is_there(self, connection: Connection) -> bool:
        return await self._accounts.get_tenant(connection.tenant_id) is not None

"""Connections to sources in the catalog's database."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection as DatabaseConnection
from sqlalchemy import RowMapping, delete, literal, select, tuple_, update

from ingather.adapters.sql.accounts import tenant_exists
from ingather.adapters.sql.audit import noting
from ingather.adapters.sql.statements import Run, insert_into
from ingather.adapters.sql.tables import connections
from ingather.models.audit import AuditEvent
from ingather.models.errors import TenantNotFoundError
from ingather.models.source import Connection

_columns = connections.c


class SqlConnections:
    """Shares the catalog's connections, threads and transactions."""

    def __init__(self, read: Run, write: Run) -> None:
        self._read = read
        self._write = write

    async def add_connection(
        self, connection: Connection, events: Sequence[AuditEvent] = ()
    ) -> tuple[Connection, bool]:
        return await self._write("add a connection", noting(events, partial(_add, connection), lambda it: it[1]))

    async def get_connection(self, tenant_id: str, connection_id: str) -> Connection | None:
        return await self._read("look a connection up", partial(_get, tenant_id, connection_id))

    async def list_connections(
        self, tenant_id: str, limit: int, *, before: tuple[datetime, str] | None = None
    ) -> list[Connection]:
        return await self._read("list connections", partial(_list, tenant_id, limit, before))

    async def delete_connection(self, tenant_id: str, connection_id: str, events: Sequence[AuditEvent] = ()) -> bool:
        return await self._write(
            "delete a connection", noting(events, partial(_delete, tenant_id, connection_id), bool)
        )

    async def list_sealed(self, limit: int, *, after: tuple[str, str] | None = None) -> list[Connection]:
        return await self._read("list connections with credentials", partial(_list_sealed, limit, after))

    async def replace_sealed(self, connection: Connection, sealed: str) -> bool:
        return await self._write("encrypt credentials anew", partial(_replace_sealed, connection, sealed))


def _add(connection: Connection, database: DatabaseConnection) -> tuple[Connection, bool]:
    if not tenant_exists(connection.tenant_id, database):
        raise TenantNotFoundError(f"There is no tenant {connection.tenant_id}.")
    statement = insert_into(database.dialect.name, connections)
    statement = statement.on_conflict_do_nothing().returning(_columns.connection_id)
    row = connection.model_dump(mode="json", exclude={"created_at"}) | {"created_at": connection.created_at}
    if database.scalar(statement, row) is not None:
        return connection, True
    found = _get(connection.tenant_id, connection.connection_id, database)
    assert found is not None  # it stood in the way just now, in this transaction
    return found, False


def _get(tenant_id: str, connection_id: str, database: DatabaseConnection) -> Connection | None:
    query = select(connections).where(_columns.tenant_id == tenant_id, _columns.connection_id == connection_id)
    row = database.execute(query).mappings().first()
    return None if row is None else _connection(row)


def _list(
    tenant_id: str, limit: int, before: tuple[datetime, str] | None, database: DatabaseConnection
) -> list[Connection]:
    query = select(connections).where(_columns.tenant_id == tenant_id)
    if before is not None:
        at, connection_id = before
        place = tuple_(literal(at, _columns.created_at.type), connection_id)
        query = query.where(tuple_(_columns.created_at, _columns.connection_id) < place)
    query = query.order_by(_columns.created_at.desc(), _columns.connection_id.desc()).limit(limit)
    return [_connection(row) for row in database.execute(query).mappings()]


def _delete(tenant_id: str, connection_id: str, database: DatabaseConnection) -> bool:
    statement = delete(connections).where(_columns.tenant_id == tenant_id, _columns.connection_id == connection_id)
    return bool(database.execute(statement).rowcount)


def _list_sealed(limit: int, after: tuple[str, str] | None, database: DatabaseConnection) -> list[Connection]:
    query = select(connections).where(_columns.sealed.is_not(None))
    if after is not None:
        query = query.where(
            tuple_(_columns.tenant_id, _columns.connection_id) > tuple_(literal(after[0]), literal(after[1]))
        )
    query = query.order_by(_columns.tenant_id, _columns.connection_id).limit(limit)
    return [_connection(row) for row in database.execute(query).mappings()]


def _replace_sealed(connection: Connection, sealed: str, database: DatabaseConnection) -> bool:
    statement = (
        update(connections)
        .where(
            _columns.tenant_id == connection.tenant_id,
            _columns.connection_id == connection.connection_id,
            _columns.sealed == connection.sealed,
        )
        .values(sealed=sealed)
    )
    return bool(database.execute(statement).rowcount)


def _connection(row: RowMapping) -> Connection:
    return Connection.model_validate(dict(row))

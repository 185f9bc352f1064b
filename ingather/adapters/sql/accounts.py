"""Tenants, users, API keys and sessions in the catalog's database."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Column, Connection, RowMapping, Select, and_, delete, or_, select, update

from ingather.adapters.sql.audit import noting
from ingather.adapters.sql.statements import Run, insert_into
from ingather.adapters.sql.tables import (
    api_keys,
    connections,
    opened_tickets,
    sessions,
    tenants,
    users,
    webhook_deliveries,
    webhooks,
)
from ingather.models.accounts import ApiKey, Session, Tenant, User
from ingather.models.audit import AuditEvent
from ingather.models.errors import (
    AlreadyExistsError,
    ApiKeyNotFoundError,
    InvalidStateError,
    TenantNotFoundError,
)
from ingather.ports.accounts import DELETED_TENANT, NO_KEY, ROTATED_KEY, ROTATED_KEY_ADVICE, TAKEN_NAME, Position


class SqlAccounts:
    """Shares the catalog's connections, threads and transactions."""

    def __init__(self, read: Run, write: Run) -> None:
        self._read = read
        self._write = write

    async def add_tenant(self, tenant: Tenant, events: Sequence[AuditEvent] = ()) -> tuple[Tenant, bool]:
        return await self._write("add a tenant", noting(events, partial(_add_tenant, tenant), _is_new))

    async def get_tenant(self, tenant_id: str) -> Tenant | None:
        return await self._read("look a tenant up", partial(_get_tenant, tenant_id))

    async def list_tenants(
        self, *, name: str | None = None, limit: int | None = None, before: Position | None = None
    ) -> list[Tenant]:
        return await self._read("list tenants", partial(_list_tenants, name, limit, before))

    async def edit_tenant(
        self, tenant_id: str, changes: Mapping[str, Any], events: Sequence[AuditEvent] = ()
    ) -> Tenant | None:
        return await self._write("edit a tenant", noting(events, partial(_edit_tenant, tenant_id, changes), _is_there))

    async def delete_tenant(self, tenant_id: str, at: datetime, events: Sequence[AuditEvent] = ()) -> bool:
        return await self._write("delete a tenant", noting(events, partial(_delete_tenant, tenant_id, at), bool))

    async def add_user(self, user: User, password_hash: str, events: Sequence[AuditEvent] = ()) -> tuple[User, bool]:
        return await self._write("add a user", noting(events, partial(_add_user, user, password_hash), _is_new))

    async def get_user(self, user_id: str) -> User | None:
        return await self._read("look a user up", partial(_get_user, user_id))

    async def find_user(self, username: str) -> tuple[User, str] | None:
        return await self._read("look a user up", partial(_find_user, username))

    async def list_users(
        self, tenant_id: str | None = None, *, limit: int | None = None, before: Position | None = None
    ) -> list[User]:
        return await self._read("list users", partial(_list_users, tenant_id, limit, before))

    async def edit_user(
        self,
        user_id: str,
        changes: Mapping[str, Any],
        events: Sequence[AuditEvent] = (),
        *,
        password_hash: str | None = None,
    ) -> User | None:
        edit = partial(_edit_user, user_id, changes, password_hash)
        return await self._write("edit a user", noting(events, edit, _is_there))

    async def delete_user(self, user_id: str, at: datetime, events: Sequence[AuditEvent] = ()) -> bool:
        return await self._write("delete a user", noting(events, partial(_delete_user, user_id, at), bool))

    async def add_key(self, key: ApiKey, key_hash: str, events: Sequence[AuditEvent] = ()) -> tuple[ApiKey, bool]:
        return await self._write("add a key", noting(events, partial(_add_key, key, key_hash), _is_new))

    async def get_key(self, key_id: str) -> tuple[ApiKey, str] | None:
        return await self._read("look a key up", partial(_get_key, key_id))

    async def list_keys(
        self, tenant_id: str | None = None, *, limit: int | None = None, before: Position | None = None
    ) -> list[ApiKey]:
        return await self._read("list keys", partial(_list_keys, tenant_id, limit, before))

    async def rotate_key(
        self,
        key: ApiKey,
        key_hash: str,
        *,
        at: datetime,
        old_until: datetime,
        events: Sequence[AuditEvent] = (),
        ended_events: Sequence[AuditEvent] = (),
    ) -> tuple[ApiKey, bool]:
        rotate = partial(_rotate_key, key, key_hash, ended_events, at=at, old_until=old_until)
        return await self._write("rotate a key", noting(events, rotate, _is_new))

    async def revoke_key(self, key_id: str, at: datetime, events: Sequence[AuditEvent] = ()) -> bool:
        return await self._write("revoke a key", noting(events, partial(_revoke_key, key_id, at), bool))

    async def note_key_used(self, key_id: str, at: datetime) -> None:
        await self._write("note a key's use", partial(_note_key_used, key_id, at))

    async def note_ticket_opened(self, ticket_id: str, expires_at: datetime, at: datetime) -> None:
        await self._write("note an opened ticket", partial(_note_ticket_opened, ticket_id, expires_at, at))

    async def was_ticket_opened(self, ticket_id: str) -> bool:
        return await self._read("look a ticket up", partial(_was_ticket_opened, ticket_id))

    async def add_session(self, session: Session, secret_hash: str) -> None:
        await self._write("add a session", partial(_add_session, session, secret_hash))

    async def get_session(self, secret_hash: str) -> Session | None:
        return await self._read("look a session up", partial(_get_session, secret_hash))

    async def delete_session(self, secret_hash: str) -> bool:
        return await self._write("delete a session", partial(_delete_session, secret_hash))


def _is_new(answer: tuple[object, bool]) -> bool:
    return answer[1]


def _is_there(answer: object) -> bool:
    return answer is not None


def tenant_exists(tenant_id: str, connection: Connection) -> bool:
    return connection.scalar(select(tenants.c.tenant_id).where(_live(tenant_id))) is not None


def _live(tenant_id: str) -> Any:
    return (tenants.c.tenant_id == tenant_id) & tenants.c.deleted_at.is_(None)


def _add_tenant(tenant: Tenant, connection: Connection) -> tuple[Tenant, bool]:
    statement = insert_into(connection.dialect.name, tenants).on_conflict_do_nothing().returning(tenants.c.tenant_id)
    row = tenant.model_dump(mode="json", exclude={"created_at"}) | {"created_at": tenant.created_at}
    if connection.scalar(statement, row) is not None:
        return tenant, True
    found = connection.execute(select(tenants).where(tenants.c.tenant_id == tenant.tenant_id)).mappings().one()
    if found["deleted_at"] is not None:
        raise AlreadyExistsError(DELETED_TENANT, field="tenant_id")
    return _tenant(found), False


def _get_tenant(tenant_id: str, connection: Connection) -> Tenant | None:
    row = connection.execute(select(tenants).where(_live(tenant_id))).mappings().first()
    return None if row is None else _tenant(row)


def _excerpt(
    query: Select[Any], created_at: Column[Any], its_id: Column[Any], limit: int | None, before: Position | None
) -> Select[Any]:
    """Newest first, behind the position, as many as wanted."""
    query = query.order_by(created_at.desc(), its_id.desc()).limit(limit)
    if before is None:
        return query
    at, last_id = before
    return query.where(or_(created_at < at, and_(created_at == at, its_id < last_id)))


def _list_tenants(name: str | None, limit: int | None, before: Position | None, connection: Connection) -> list[Tenant]:
    query = select(tenants).where(tenants.c.deleted_at.is_(None))
    if name is not None:
        query = query.where(tenants.c.name == name)
    query = _excerpt(query, tenants.c.created_at, tenants.c.tenant_id, limit, before)
    return [_tenant(row) for row in connection.execute(query).mappings()]


def _edit_tenant(tenant_id: str, changes: Mapping[str, Any], connection: Connection) -> Tenant | None:
    if changes:
        connection.execute(update(tenants).where(_live(tenant_id)).values(dict(changes)))
    return _get_tenant(tenant_id, connection)


def _delete_tenant(tenant_id: str, at: datetime, connection: Connection) -> bool:
    found = connection.execute(update(tenants).where(_live(tenant_id)).values(deleted_at=at))
    if not found.rowcount:
        return False
    _revoke_where(api_keys.c.tenant_id == tenant_id, at, connection)
    connection.execute(delete(users).where(users.c.tenant_id == tenant_id))
    connection.execute(delete(connections).where(connections.c.tenant_id == tenant_id))
    connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.tenant_id == tenant_id))
    connection.execute(delete(webhooks).where(webhooks.c.tenant_id == tenant_id))
    return True


def _add_user(user: User, password_hash: str, connection: Connection) -> tuple[User, bool]:
    if not tenant_exists(user.tenant_id, connection):
        raise TenantNotFoundError(f"There is no tenant {user.tenant_id}.")
    statement = insert_into(connection.dialect.name, users).on_conflict_do_nothing().returning(users.c.user_id)
    row = user.model_dump(exclude={"scopes"}) | {"scopes": sorted(user.scopes), "password_hash": password_hash}
    if connection.scalar(statement, row) is not None:
        return user, True
    found = _get_user(user.user_id, connection)
    if found is None:
        raise AlreadyExistsError(TAKEN_NAME, field="username")
    return found, False


def _get_user(user_id: str, connection: Connection) -> User | None:
    row = connection.execute(select(users).where(users.c.user_id == user_id)).mappings().first()
    return None if row is None else _user(row)


def _find_user(username: str, connection: Connection) -> tuple[User, str] | None:
    row = connection.execute(select(users).where(users.c.username == username)).mappings().first()
    return None if row is None else (_user(row), row["password_hash"])


def _list_users(
    tenant_id: str | None, limit: int | None, before: Position | None, connection: Connection
) -> list[User]:
    query = _excerpt(select(users), users.c.created_at, users.c.user_id, limit, before)
    if tenant_id is not None:
        query = query.where(users.c.tenant_id == tenant_id)
    return [_user(row) for row in connection.execute(query).mappings()]


def _edit_user(
    user_id: str, changes: Mapping[str, Any], password_hash: str | None, connection: Connection
) -> User | None:
    values = dict(changes)
    if "scopes" in values:
        values["scopes"] = sorted(values["scopes"])
    if password_hash is not None:
        values["password_hash"] = password_hash
    if values:
        connection.execute(update(users).where(users.c.user_id == user_id).values(values))
    return _get_user(user_id, connection)


def _delete_user(user_id: str, at: datetime, connection: Connection) -> bool:
    user = _get_user(user_id, connection)
    if user is None:
        return False
    _revoke_where((api_keys.c.tenant_id == user.tenant_id) & (api_keys.c.username == user.username), at, connection)
    connection.execute(delete(users).where(users.c.user_id == user_id))
    return True


def _add_key(key: ApiKey, key_hash: str, connection: Connection) -> tuple[ApiKey, bool]:
    if not tenant_exists(key.tenant_id, connection):
        raise TenantNotFoundError(f"There is no tenant {key.tenant_id}.")
    statement = insert_into(connection.dialect.name, api_keys).on_conflict_do_nothing().returning(api_keys.c.key_id)
    row = key.model_dump(exclude={"scopes"}) | {"scopes": sorted(key.scopes), "key_hash": key_hash}
    if connection.scalar(statement, row) is not None:
        return key, True
    found = _get_key(key.key_id, connection)
    assert found is not None
    return found[0], False


def _get_key(key_id: str, connection: Connection) -> tuple[ApiKey, str] | None:
    row = connection.execute(select(api_keys).where(api_keys.c.key_id == key_id)).mappings().first()
    return None if row is None else (_key(row), row["key_hash"])


def _list_keys(
    tenant_id: str | None, limit: int | None, before: Position | None, connection: Connection
) -> list[ApiKey]:
    query = select(api_keys).where(api_keys.c.revoked_at.is_(None))
    query = _excerpt(query, api_keys.c.created_at, api_keys.c.key_id, limit, before)
    if tenant_id is not None:
        query = query.where(api_keys.c.tenant_id == tenant_id)
    return [_key(row) for row in connection.execute(query).mappings()]


def _rotate_key(
    key: ApiKey,
    key_hash: str,
    ended_events: Sequence[AuditEvent],
    connection: Connection,
    *,
    at: datetime,
    old_until: datetime,
) -> tuple[ApiKey, bool]:
    is_old = api_keys.c.key_id == key.rotated_from
    # Locked: of two rotations at once, the second sees what the first has made.
    old = connection.execute(select(api_keys).where(is_old).with_for_update()).mappings().first()
    there = _get_key(key.key_id, connection)
    if there is not None:
        return there[0], False
    if old is None or old["revoked_at"] is not None:
        raise ApiKeyNotFoundError(NO_KEY)
    if connection.scalar(select(api_keys.c.key_id).where(api_keys.c.rotated_from == key.rotated_from)) is not None:
        raise InvalidStateError(ROTATED_KEY, action=ROTATED_KEY_ADVICE)
    made = _add_key(key, key_hash, connection)
    later = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > old_until)
    connection.execute(update(api_keys).where(is_old, later).values(expires_at=old_until))
    if old["rotated_from"] is not None:
        noting(ended_events, partial(_revoke_key, old["rotated_from"], at), bool)(connection)
    return made


def _revoke_key(key_id: str, at: datetime, connection: Connection) -> bool:
    return _revoke_where(api_keys.c.key_id == key_id, at, connection)


def _revoke_where(which: Any, at: datetime, connection: Connection) -> bool:
    found = connection.execute(update(api_keys).where(which, api_keys.c.revoked_at.is_(None)).values(revoked_at=at))
    return bool(found.rowcount)


def _note_key_used(key_id: str, at: datetime, connection: Connection) -> None:
    connection.execute(update(api_keys).where(api_keys.c.key_id == key_id).values(last_used_at=at.astimezone(UTC)))


def _note_ticket_opened(ticket_id: str, expires_at: datetime, at: datetime, connection: Connection) -> None:
    connection.execute(delete(opened_tickets).where(opened_tickets.c.expires_at <= at))
    statement = insert_into(connection.dialect.name, opened_tickets).on_conflict_do_nothing()
    connection.execute(statement, {"ticket_id": ticket_id, "expires_at": expires_at})


def _was_ticket_opened(ticket_id: str, connection: Connection) -> bool:
    query = select(opened_tickets.c.ticket_id).where(opened_tickets.c.ticket_id == ticket_id)
    return connection.scalar(query) is not None


def _add_session(session: Session, secret_hash: str, connection: Connection) -> None:
    connection.execute(delete(sessions).where(sessions.c.expires_at <= session.created_at))
    statement = insert_into(connection.dialect.name, sessions).on_conflict_do_nothing()
    connection.execute(statement, session.model_dump() | {"kind": session.kind.value, "secret_hash": secret_hash})


def _get_session(secret_hash: str, connection: Connection) -> Session | None:
    row = connection.execute(select(sessions).where(sessions.c.secret_hash == secret_hash)).mappings().first()
    return None if row is None else Session.model_validate({name: row[name] for name in Session.model_fields})


def _delete_session(secret_hash: str, connection: Connection) -> bool:
    return bool(connection.execute(delete(sessions).where(sessions.c.secret_hash == secret_hash)).rowcount)


def _tenant(row: RowMapping) -> Tenant:
    return Tenant.model_validate({name: row[name] for name in Tenant.model_fields})


def _user(row: RowMapping) -> User:
    return User.model_validate({name: row[name] for name in User.model_fields})


def _key(row: RowMapping) -> ApiKey:
    return ApiKey.model_validate({name: row[name] for name in ApiKey.model_fields})

"""Tenants, users and API keys in dictionaries."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from ingather.adapters.memory.audit import InMemoryAuditLog
from ingather.models.accounts import ApiKey, Session, Tenant, User
from ingather.models.audit import AuditEvent
from ingather.models.errors import (
    AlreadyExistsError,
    ApiKeyNotFoundError,
    InvalidStateError,
    TenantNotFoundError,
)
from ingather.models.identity import DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME
from ingather.ports.accounts import DELETED_TENANT, NO_KEY, ROTATED_KEY, ROTATED_KEY_ADVICE, TAKEN_NAME, Position

_Thing = TypeVar("_Thing")


class InMemoryAccounts:
    """Knows the default tenant from the start."""

    def __init__(self, audit: InMemoryAuditLog | None = None) -> None:
        self._audit = audit or InMemoryAuditLog()
        default = Tenant(
            tenant_id=DEFAULT_TENANT_ID, name=DEFAULT_TENANT_NAME, created_at=datetime(2026, 1, 1, tzinfo=UTC)
        )
        self._tenants = {default.tenant_id: default}
        self._deleted: set[str] = set()
        self._users: dict[str, tuple[User, str]] = {}
        self._keys: dict[str, tuple[ApiKey, str]] = {}
        self._tickets: dict[str, datetime] = {}
        self._sessions: dict[str, Session] = {}

    async def add_tenant(self, tenant: Tenant, events: Sequence[AuditEvent] = ()) -> tuple[Tenant, bool]:
        if tenant.tenant_id in self._deleted:
            raise AlreadyExistsError(DELETED_TENANT, field="tenant_id")
        if tenant.tenant_id in self._tenants:
            return self._tenants[tenant.tenant_id], False
        self._tenants[tenant.tenant_id] = tenant
        await self._audit.record(events)
        return tenant, True

    async def get_tenant(self, tenant_id: str) -> Tenant | None:
        return None if tenant_id in self._deleted else self._tenants.get(tenant_id)

    async def list_tenants(
        self, *, name: str | None = None, limit: int | None = None, before: Position | None = None
    ) -> list[Tenant]:
        live = [tenant for tenant in self._tenants.values() if tenant.tenant_id not in self._deleted]
        found = [tenant for tenant in live if name in {None, tenant.name}]
        return _excerpt(found, lambda tenant: (tenant.created_at, tenant.tenant_id), limit, before)

    async def edit_tenant(
        self, tenant_id: str, changes: Mapping[str, Any], events: Sequence[AuditEvent] = ()
    ) -> Tenant | None:
        found = await self.get_tenant(tenant_id)
        if found is None:
            return None
        self._tenants[tenant_id] = Tenant.model_validate(found.model_dump() | dict(changes))
        await self._audit.record(events)
        return self._tenants[tenant_id]

    async def delete_tenant(self, tenant_id: str, at: datetime, events: Sequence[AuditEvent] = ()) -> bool:
        if await self.get_tenant(tenant_id) is None:
            return False
        self._deleted.add(tenant_id)
        await self._audit.record(events)
        for key in await self.list_keys(tenant_id):
            await self.revoke_key(key.key_id, at)
        for user in await self.list_users(tenant_id):
            del self._users[user.user_id]
        return True

    async def add_user(self, user: User, password_hash: str, events: Sequence[AuditEvent] = ()) -> tuple[User, bool]:
        await self._must_have_tenant(user.tenant_id)
        if user.user_id in self._users:
            return self._users[user.user_id][0], False
        if await self.find_user(user.username) is not None:
            raise AlreadyExistsError(TAKEN_NAME, field="username")
        self._users[user.user_id] = user, password_hash
        await self._audit.record(events)
        return user, True

    async def get_user(self, user_id: str) -> User | None:
        found = self._users.get(user_id)
        return None if found is None else found[0]

    async def find_user(self, username: str) -> tuple[User, str] | None:
        return next((found for found in self._users.values() if found[0].username == username), None)

    async def list_users(
        self, tenant_id: str | None = None, *, limit: int | None = None, before: Position | None = None
    ) -> list[User]:
        found = [user for user, _ in self._users.values() if tenant_id in {None, user.tenant_id}]
        return _excerpt(found, lambda user: (user.created_at, user.user_id), limit, before)

    async def edit_user(
        self,
        user_id: str,
        changes: Mapping[str, Any],
        events: Sequence[AuditEvent] = (),
        *,
        password_hash: str | None = None,
    ) -> User | None:
        if user_id not in self._users:
            return None
        user, known_hash = self._users[user_id]
        user = User.model_validate(user.model_dump() | dict(changes))
        self._users[user_id] = user, password_hash or known_hash
        await self._audit.record(events)
        return user

    async def delete_user(self, user_id: str, at: datetime, events: Sequence[AuditEvent] = ()) -> bool:
        if user_id not in self._users:
            return False
        user, _ = self._users.pop(user_id)
        await self._audit.record(events)
        for key in await self.list_keys(user.tenant_id):
            if key.username == user.username:
                await self.revoke_key(key.key_id, at)
        return True

    async def add_key(self, key: ApiKey, key_hash: str, events: Sequence[AuditEvent] = ()) -> tuple[ApiKey, bool]:
        await self._must_have_tenant(key.tenant_id)
        if key.key_id in self._keys:
            return self._keys[key.key_id][0], False
        self._keys[key.key_id] = key, key_hash
        await self._audit.record(events)
        return key, True

    async def get_key(self, key_id: str) -> tuple[ApiKey, str] | None:
        return self._keys.get(key_id)

    async def list_keys(
        self, tenant_id: str | None = None, *, limit: int | None = None, before: Position | None = None
    ) -> list[ApiKey]:
        found = [key for key, _ in self._keys.values() if key.revoked_at is None and tenant_id in {None, key.tenant_id}]
        return _excerpt(found, lambda key: (key.created_at, key.key_id), limit, before)

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
        if key.key_id in self._keys:
            return self._keys[key.key_id][0], False
        old, _ = self._keys.get(key.rotated_from or "", (None, ""))
        if old is None or old.revoked_at is not None:
            raise ApiKeyNotFoundError(NO_KEY)
        if any(other.rotated_from == old.key_id for other, _ in self._keys.values()):
            raise InvalidStateError(ROTATED_KEY, action=ROTATED_KEY_ADVICE)
        made = await self.add_key(key, key_hash, events)
        if old.expires_at is None or old.expires_at > old_until:
            self._edit_key(old.key_id, {"expires_at": old_until})
        if old.rotated_from is not None:
            await self.revoke_key(old.rotated_from, at, ended_events)
        return made

    async def revoke_key(self, key_id: str, at: datetime, events: Sequence[AuditEvent] = ()) -> bool:
        found = self._keys.get(key_id)
        if found is None or found[0].revoked_at is not None:
            return False
        self._edit_key(key_id, {"revoked_at": at})
        await self._audit.record(events)
        return True

    async def note_key_used(self, key_id: str, at: datetime) -> None:
        if key_id in self._keys:
            self._edit_key(key_id, {"last_used_at": at})

    async def note_ticket_opened(self, ticket_id: str, expires_at: datetime, at: datetime) -> None:
        self._tickets = {each: until for each, until in self._tickets.items() if until > at}
        self._tickets.setdefault(ticket_id, expires_at)

    async def was_ticket_opened(self, ticket_id: str) -> bool:
        return ticket_id in self._tickets

    async def add_session(self, session: Session, secret_hash: str) -> None:
        live = {each: known for each, known in self._sessions.items() if known.expires_at > session.created_at}
        self._sessions = {**live, secret_hash: session}

    async def get_session(self, secret_hash: str) -> Session | None:
        return self._sessions.get(secret_hash)

    async def delete_session(self, secret_hash: str) -> bool:
        return self._sessions.pop(secret_hash, None) is not None

    def _edit_key(self, key_id: str, changes: dict[str, Any]) -> None:
        key, key_hash = self._keys[key_id]
        self._keys[key_id] = key.model_copy(update=changes), key_hash

    async def _must_have_tenant(self, tenant_id: str) -> None:
        if await self.get_tenant(tenant_id) is None:
            raise TenantNotFoundError(f"There is no tenant {tenant_id}.")


def _excerpt(
    found: Sequence[_Thing], position: Callable[[_Thing], Position], limit: int | None, before: Position | None
) -> list[_Thing]:
    """Newest first, behind the position, as many as wanted."""
    newest_first = sorted(found, key=position, reverse=True)
    return [each for each in newest_first if before is None or position(each) < before][:limit]

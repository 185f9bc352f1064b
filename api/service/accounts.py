"""Administration: tenants, users, API keys, tokens.

Without the scope ``admin`` a caller sees what is its own tenant's and changes nothing; what is another tenant's is
not there, as if the id were made up.
"""

import hashlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import orjson
import structlog
import uuid_utils

from api.access import Caller, Gate
from api.credentials import Authenticator
from api.idempotency import check_key
from api.passwords import Passwords
from api.rates import Rate
from api.service.tenants import TenantBook
from api.sessions import new_session, session_hash
from api.tokens import IssuedToken
from ingather.domain.api_keys import key_hash, key_id_from, new_key
from ingather.domain.audit import account_event
from ingather.domain.identifiers import as_uuid
from ingather.models.accounts import ApiKey, CredentialKind, Scope, Session, Tenant, User
from ingather.models.audit import SYSTEM, AuditEvent, AuditType
from ingather.models.errors import (
    ApiKeyNotFoundError,
    IdempotencyKeyReusedError,
    InvalidStateError,
    ScopeMissingError,
    TenantNotFoundError,
    UnauthorizedError,
    UserNotFoundError,
)
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.source import Connection
from ingather.ports.accounts import NO_KEY, Accounts, Position
from ingather.ports.connections import Connections

log = structlog.get_logger(__name__)

ROTATION_GRACE = timedelta(hours=24)
"""How long the old key of a rotated pair is still accepted."""
_READ_AT_ONCE = 100
_Thing = TypeVar("_Thing")
_OTHER_REQUEST = "This Idempotency-Key was used with another request."


@dataclass(frozen=True, slots=True)
class Made:
    """Something that was registered, or had been by the same request before."""

    thing: Any
    was_replayed: bool = False
    secret: str | None = None
    """Shown once."""


@dataclass(frozen=True, slots=True)
class Listed(Generic[_Thing]):
    """Part of a list."""

    found: Sequence[_Thing]
    has_more: bool


@dataclass(slots=True)
class AccountService:
    """Registers, shows and deletes."""

    accounts: Accounts
    connections: Connections
    tenants: TenantBook
    authenticator: Authenticator
    passwords: Passwords
    gate: Gate
    session_lifetime: timedelta = timedelta(hours=12)

    # Sessions

    async def open_session(self, caller: Caller) -> tuple[Session, str]:
        """For whoever showed a key or a token; the secret is for the cookie. Raises ``UnauthorizedError`` for nobody."""
        principal, now = caller.principal, datetime.now(UTC)
        if principal.is_anonymous or principal.tenant_id is None:
            raise UnauthorizedError("A session is opened with a key, or an access token.")
        secret = new_session()
        session = Session(
            tenant_id=principal.tenant_id,
            kind=principal.kind,
            credential_id=principal.credential_id,
            created_at=now,
            expires_at=now + self.session_lifetime,
        )
        await self.accounts.add_session(session, session_hash(secret))
        log.info("session.opened", kind=session.kind.value, expires_at=session.expires_at.isoformat())
        return session, secret

    async def close_session(self, secret: str) -> None:
        """Nobody gets in with it any more: at once here, within two seconds everywhere. Repeating is harmless."""
        secret_hash = session_hash(secret)
        was_open = await self.accounts.delete_session(secret_hash)
        self.authenticator.forget_session(secret_hash)
        if was_open:
            log.info("session.closed")

    # Tenants

    async def create_tenant(self, caller: Caller, wanted: Tenant) -> Made:
        _require_admin(caller)
        event = _event(AuditType.TENANT_CREATED, wanted, caller, pipeline=wanted.pipeline)
        tenant, is_new = await self.accounts.add_tenant(wanted, [event])
        self.tenants.forget(tenant.tenant_id)
        if is_new:
            log.info("tenant.created", subject_tenant_id=tenant.tenant_id, pipeline=tenant.pipeline)
        return Made(tenant, was_replayed=not is_new)

    async def tenant(self, caller: Caller, tenant_id: str) -> Tenant:
        """One the caller can see. Raises ``TenantNotFoundError``."""
        wanted = as_uuid(tenant_id)
        is_visible = wanted is not None and (caller.may(Scope.ADMIN) or wanted == caller.tenant_id)
        found = await self.accounts.get_tenant(wanted) if is_visible and wanted else None
        if found is None:
            raise TenantNotFoundError("There is no such tenant.")
        return found

    async def list_tenants(
        self, caller: Caller, name: str | None, limit: int, before: Position | None
    ) -> Listed[Tenant]:
        """All of them, or of this name, for an administrator; else the caller's own."""
        if caller.may(Scope.ADMIN):
            found = await self.accounts.list_tenants(name=name, limit=limit + 1, before=before)
            return Listed(found[:limit], len(found) > limit)
        own = await self.tenants.get(caller.tenant_id)
        return Listed([own] if name in {None, own.name} else [], has_more=False)

    async def edit_tenant(self, caller: Caller, tenant_id: str, changes: dict[str, Any]) -> Tenant:
        tenant = await self.tenant(caller, tenant_id)
        _require_admin(caller)
        event = _event(AuditType.TENANT_CHANGED, tenant, caller, fields=sorted(changes))
        edited = await self.accounts.edit_tenant(tenant.tenant_id, changes, [event])
        self.tenants.forget(tenant.tenant_id)
        if edited is None:
            raise TenantNotFoundError("There is no such tenant.")
        log.info("tenant.edited", subject_tenant_id=tenant.tenant_id, fields=sorted(changes))
        return edited

    async def delete_tenant(self, caller: Caller, tenant_id: str) -> None:
        """Its batches stay on record; nobody can reach them any more."""
        tenant = await self.tenant(caller, tenant_id)
        _require_admin(caller)
        if tenant.tenant_id == DEFAULT_TENANT_ID:
            raise InvalidStateError(
                "The default tenant cannot be deleted.", action="Delete its keys and users instead."
            )
        users, keys = await self.accounts.list_users(tenant.tenant_id), await self.accounts.list_keys(tenant.tenant_id)
        reason = f"tenant {tenant.tenant_id} deleted"
        events = [
            _event(AuditType.TENANT_DELETED, tenant, caller),
            *(_event(AuditType.USER_DELETED, user, caller, reason=reason) for user in users),
            *(_event(AuditType.API_KEY_REVOKED, key, caller, reason=reason) for key in keys),
            *[
                _event(AuditType.CONNECTION_DELETED, each, caller, reason=reason)
                async for each in self._connections(tenant)
            ],
        ]
        await self.accounts.delete_tenant(tenant.tenant_id, datetime.now(UTC), events)
        self.tenants.forget(tenant.tenant_id)
        self.authenticator.forget_users()
        log.info("tenant.deleted", subject_tenant_id=tenant.tenant_id)

    async def _connections(self, tenant: Tenant) -> AsyncIterator[Connection]:
        before: Position | None = None
        while found := await self.connections.list_connections(tenant.tenant_id, _READ_AT_ONCE, before=before):
            for connection in found:
                yield connection
            before = found[-1].created_at, found[-1].connection_id

    # Users

    async def create_user(
        self,
        caller: Caller,
        username: str,
        password: str,
        tenant_id: str | None,
        *,
        scopes: frozenset[Scope],
        key: str | None,
    ) -> Made:
        """Raises ``AlreadyExistsError`` where another user has the name."""
        tenant = await self._tenant_for(caller, tenant_id)
        user = User(
            user_id=_derived("users", caller, key) or str(uuid_utils.uuid7()),
            tenant_id=tenant.tenant_id,
            username=username,
            scopes=scopes,
            created_at=datetime.now(UTC),
        )
        event = _event(AuditType.USER_CREATED, user, caller, scopes=sorted(scopes))
        there, is_new = await self.accounts.add_user(user, await self.passwords.hash(password), [event])
        if is_new:
            log.info("user.created", subject_tenant_id=tenant.tenant_id, user_id=user.user_id)
            return Made(there)
        is_same = there.model_copy(update={"created_at": user.created_at}) == user
        known = await self.accounts.find_user(there.username)
        if not is_same or known is None or not await self.passwords.is_right(password, known[1]):
            raise IdempotencyKeyReusedError(_OTHER_REQUEST)
        return Made(there, was_replayed=True)

    async def user(self, caller: Caller, user_id: str) -> User:
        found = await self.accounts.get_user(user_id.lower())
        if found is None or not (caller.may(Scope.ADMIN) or found.tenant_id == caller.tenant_id):
            raise UserNotFoundError("There is no such user.")
        return found

    async def list_users(self, tenant_id: str | None, limit: int, before: Position | None) -> Listed[User]:
        """Of what ``listed_tenant`` answered."""
        found = await self.accounts.list_users(tenant_id, limit=limit + 1, before=before)
        return Listed(found[:limit], len(found) > limit)

    async def edit_user(
        self,
        caller: Caller,
        user_id: str,
        *,
        scopes: frozenset[Scope] | None = None,
        password: str | None = None,
        is_disabled: bool | None = None,
    ) -> User:
        """Change what is not None. Raises ``InvalidStateError`` for an administrator that would lock itself out."""
        user = await self.user(caller, user_id)
        _require_admin(caller)
        is_own = caller.principal.credential_id == user.user_id or caller.principal.user == user.username
        loses = is_disabled is True or (scopes is not None and Scope.ADMIN not in scopes)
        if is_own and not caller.is_open and loses:
            raise InvalidStateError(
                "An administrator cannot take its own access away.", action="Have another administrator do it."
            )
        now = datetime.now(UTC)
        changes: dict[str, Any] = {}
        if scopes is not None:
            changes["scopes"] = scopes
        if is_disabled is not None and is_disabled != user.is_disabled:
            changes["disabled_at"] = now if is_disabled else None
        password_hash = None
        if password is not None:
            password_hash = await self.passwords.hash(password)
            changes["password_changed_at"] = now
        event = _event(AuditType.USER_CHANGED, user, caller, **_told_of(changes))
        edited = await self.accounts.edit_user(user.user_id, changes, [event], password_hash=password_hash)
        self.authenticator.forget_users()
        if edited is None:
            raise UserNotFoundError("There is no such user.")
        log.info("user.edited", subject_tenant_id=user.tenant_id, user_id=user.user_id, fields=sorted(changes))
        return edited

    async def delete_user(self, caller: Caller, user_id: str) -> None:
        """Its keys are revoked with it."""
        user = await self.user(caller, user_id)
        _require_admin(caller)
        reason = f"user {user.user_id} deleted"
        keys = [key for key in await self.accounts.list_keys(user.tenant_id) if key.username == user.username]
        events = [_event(AuditType.API_KEY_REVOKED, key, caller, reason=reason) for key in keys]
        events.insert(0, _event(AuditType.USER_DELETED, user, caller))
        await self.accounts.delete_user(user.user_id, datetime.now(UTC), events)
        self.authenticator.forget_users()
        log.info("user.deleted", subject_tenant_id=user.tenant_id, user_id=user.user_id)

    async def log_in(self, username: str, password: str, address: str) -> IssuedToken:
        """A token for the right password. Raises ``UnauthorizedError``, ``RateLimitedError``, ``CapacityExceededError``.

        Counted by name and address together: whoever guesses a user's password does not lock the user out.
        """
        rates = self.gate.rates
        rates.check_address(address)
        await rates.count(Rate.LOGINS, f"{username}\n{address}")
        found = await self.accounts.find_user(username)
        if not await self.passwords.is_right(password, found[1] if found else None) or found is None:
            await rates.count_failure(address)
            raise UnauthorizedError("User name or password is wrong.", action="Check both and try again.")
        if found[0].is_disabled:
            raise UnauthorizedError("The user is disabled.", action="Ask an administrator to let it in again.")
        return self.authenticator.tokens.issue(found[0])

    # API keys

    async def create_key(
        self,
        caller: Caller,
        name: str,
        tenant_id: str | None,
        scopes: frozenset[Scope],
        *,
        user: str | None = None,
        expires_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> Made:
        """The key itself is in the answer and nowhere else."""
        tenant = await self._tenant_for(caller, tenant_id)
        username = await self._username(tenant, user) if user else None
        key_id, secret = new_key(_derived_key_id(caller, "create", idempotency_key))
        key = ApiKey(
            key_id=key_id,
            tenant_id=tenant.tenant_id,
            name=name,
            username=username,
            scopes=scopes,
            created_at=datetime.now(UTC),
            expires_at=expires_at,
            fingerprint=_fingerprint(tenant.tenant_id, name, username, sorted(scopes), expires_at),
        )
        event = _event(AuditType.API_KEY_CREATED, key, caller, scopes=sorted(scopes), user=username)
        there, is_new = await self.accounts.add_key(key, key_hash(secret), [event])
        if is_new:
            log.info("api_key.created", key_id=key_id, subject_tenant_id=tenant.tenant_id, scopes=sorted(scopes))
        return _made_key(key, there, secret, is_new=is_new)

    async def key(self, caller: Caller, key_id: str) -> ApiKey:
        """A live or expired one the caller can see. Raises ``ApiKeyNotFoundError``."""
        found = await self.accounts.get_key(key_id)
        key = found[0] if found else None
        is_visible = key is not None and (caller.may(Scope.ADMIN) or key.tenant_id == caller.tenant_id)
        if key is None or not is_visible or key.revoked_at is not None:
            raise ApiKeyNotFoundError(NO_KEY)
        return key

    async def list_keys(self, tenant_id: str | None, limit: int, before: Position | None) -> Listed[ApiKey]:
        """Of what ``listed_tenant`` answered."""
        found = await self.accounts.list_keys(tenant_id, limit=limit + 1, before=before)
        return Listed(found[:limit], len(found) > limit)

    async def rotate_key(
        self, caller: Caller, key_id: str, grace: timedelta = ROTATION_GRACE, *, idempotency_key: str | None = None
    ) -> Made:
        """A new key of the same kind; the old one is accepted for the grace, and a still older one no more.

        Also the key's own holder may do it. A key is rotated once: whoever has taken hold of one that was rotated
        cannot renew it. Raises ``InvalidStateError`` for the second time.
        """
        old = await self.key(caller, key_id)
        principal = caller.principal
        is_own = principal.kind is CredentialKind.KEY and principal.credential_id == key_id
        if not is_own:
            _require_admin(caller)
        now = datetime.now(UTC)
        new_id, secret = new_key(_derived_key_id(caller, f"rotate {old.key_id}", idempotency_key))
        key = old.model_copy(
            update={
                "key_id": new_id,
                "created_at": now,
                "expires_at": None if old.expires_at is None else now + (old.expires_at - old.created_at),
                "last_used_at": None,
                "rotated_from": old.key_id,
                "fingerprint": _fingerprint(old.key_id, grace.total_seconds()),
            }
        )
        until = (now + grace).isoformat()
        event = _event(AuditType.API_KEY_ROTATED, key, caller, rotated_from=old.key_id, old_accepted_until=until)
        eldest = key.model_copy(update={"key_id": old.rotated_from or ""})
        ended = _event(AuditType.API_KEY_REVOKED, eldest, caller, reason=f"key {new_id} made")
        there, is_new = await self.accounts.rotate_key(
            key, key_hash(secret), at=now, old_until=now + grace, events=[event], ended_events=[ended]
        )
        for ended_id in filter(None, (old.key_id, old.rotated_from)):
            self.authenticator.forget_key(ended_id)
        if is_new:
            log.info("api_key.rotated", key_id=new_id, old_key_id=old.key_id, subject_tenant_id=key.tenant_id)
        return _made_key(key, there, secret, is_new=is_new)

    async def delete_key(self, caller: Caller, key_id: str) -> None:
        """Revoked at once here, and within two seconds everywhere."""
        key = await self.key(caller, key_id)
        _require_admin(caller)
        await self.accounts.revoke_key(key.key_id, datetime.now(UTC), [_event(AuditType.API_KEY_REVOKED, key, caller)])
        self.authenticator.forget_key(key.key_id)
        log.info("api_key.revoked", key_id=key.key_id, subject_tenant_id=key.tenant_id)

    async def register_first_key(self, first_key: str) -> None:
        """An administrator's key of the default tenant, known by its hash. One that was revoked stays so."""
        key_id, _, known_hash = first_key.partition(".")
        key = ApiKey(
            key_id=key_id,
            tenant_id=DEFAULT_TENANT_ID,
            name="first key",
            scopes=frozenset(Scope),
            created_at=datetime.now(UTC),
        )
        event = account_event(AuditType.API_KEY_CREATED, key, SYSTEM, key.created_at, scopes=sorted(key.scopes))
        _, is_new = await self.accounts.add_key(key, known_hash, [event])
        if is_new:
            log.info("api_key.created", key_id=key_id, subject_tenant_id=DEFAULT_TENANT_ID, scopes=sorted(key.scopes))

    async def _tenant_for(self, caller: Caller, tenant_id: str | None) -> Tenant:
        """Where something is to be made: an administrator may name any tenant."""
        tenant = await self.tenant(caller, tenant_id or caller.tenant_id)
        _require_admin(caller)
        return tenant

    async def listed_tenant(self, caller: Caller, tenant_id: str | None) -> str | None:
        """The tenant whose users and keys the caller may list; None for those of all. Raises ``TenantNotFoundError``."""
        if tenant_id is not None:
            return (await self.tenant(caller, tenant_id)).tenant_id
        return None if caller.may(Scope.ADMIN) and not (caller.is_open and caller.is_narrowed) else caller.tenant_id

    async def _username(self, tenant: Tenant, user: str) -> str:
        """A user of the tenant, by name or id."""
        by_name = await self.accounts.find_user(user)
        found = by_name[0] if by_name else await self.accounts.get_user(user)
        if found is None or found.tenant_id != tenant.tenant_id:
            raise UserNotFoundError("This tenant has no such user.")
        return found.username


def tenant_id_for(caller: Caller, key: str | None) -> str:
    """A new tenant's id: the same one for the same ``Idempotency-Key`` of the caller's tenant."""
    return _derived("tenants", caller, key) or str(uuid_utils.uuid7())


def _derived(kind: str, caller: Caller, key: str | None) -> str | None:
    key = check_key(key)
    return None if key is None else str(uuid.uuid5(uuid.UUID(caller.tenant_id), f"{kind}\n{key}"))


def _derived_key_id(caller: Caller, action: str, key: str | None) -> str | None:
    key = check_key(key)
    return None if key is None else key_id_from(f"{caller.tenant_id}\n{action}\n{key}")


def _fingerprint(*facts: object) -> str:
    return hashlib.sha256(orjson.dumps(facts)).hexdigest()


def _made_key(wanted: ApiKey, there: ApiKey, secret: str, *, is_new: bool) -> Made:
    """Raises ``IdempotencyKeyReusedError`` where the key that is there was made by another request."""
    if is_new:
        return Made(there, secret=secret)
    if there.fingerprint != wanted.fingerprint:
        raise IdempotencyKeyReusedError(_OTHER_REQUEST)
    return Made(there, was_replayed=True)


def _event(kind: AuditType, thing: Tenant | User | ApiKey | Connection, caller: Caller, **details: Any) -> AuditEvent:
    return account_event(kind, thing, caller.actor, datetime.now(UTC), **details)


def _told_of(changes: dict[str, Any]) -> dict[str, Any]:
    """What an audit event says of a user's changes; of a password that it was changed."""
    told: dict[str, Any] = {}
    if "scopes" in changes:
        told["scopes"] = sorted(changes["scopes"])
    if "disabled_at" in changes:
        told["disabled"] = changes["disabled_at"] is not None
    if "password_changed_at" in changes:
        told["password_changed"] = True
    return told


def _require_admin(caller: Caller) -> None:
    if not caller.may(Scope.ADMIN):
        raise ScopeMissingError("The credential lacks the scope admin.", scope=Scope.ADMIN.value)

"""Tenants, users, API keys, sessions and opened stream tickets, as the catalog keeps them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from ingather.models.accounts import ApiKey, Session, Tenant, User
from ingather.models.audit import AuditEvent

Position = tuple[datetime, str]
"""Of one in a list."""

DELETED_TENANT: Final = "A tenant with this id was deleted; its id is not used again."
TAKEN_NAME: Final = "Another user has this name."
NO_KEY: Final = "There is no such API key."
ROTATED_KEY: Final = "This key was rotated before: another one follows it."
ROTATED_KEY_ADVICE: Final = "Rotate the key that follows it; if that one is lost, revoke it and make a new key."


class Accounts(Protocol):
    """Part of the catalog. Methods raise ``CatalogUnavailableError``; none blocks the event loop.

    Secrets never come here: of keys and sessions their SHA-256 in hex, of passwords their argon2 hash.
    Lists are in the order of creation, newest first: up to ``limit``, all without one, behind the position ``before``, which
    is when the last one seen was created, and its id. ``events`` are recorded in the same step as a change, and not where
    nothing changed.
    """

    async def add_tenant(self, tenant: Tenant, events: Sequence[AuditEvent] = ()) -> tuple[Tenant, bool]:
        """Register a tenant; with an id already there, answer the one there and False.

        Raises ``AlreadyExistsError`` where the id was a tenant's that is deleted.
        """
        ...

    async def get_tenant(self, tenant_id: str) -> Tenant | None:
        """None when unknown or deleted."""
        ...

    async def list_tenants(
        self, *, name: str | None = None, limit: int | None = None, before: Position | None = None
    ) -> list[Tenant]:
        """Of this name, or all."""
        ...

    async def edit_tenant(
        self, tenant_id: str, changes: Mapping[str, Any], events: Sequence[AuditEvent] = ()
    ) -> Tenant | None:
        """Replace fields by name, in their JSON form; the tenant as it is now, None when unknown. Repeating is harmless."""
        ...

    async def delete_tenant(self, tenant_id: str, at: datetime, events: Sequence[AuditEvent] = ()) -> bool:
        """Nobody finds the tenant any more, its keys, users and connections are gone; its batches stay on record.

        False when there was none. Its id is never used again.
        """
        ...

    async def add_user(self, user: User, password_hash: str, events: Sequence[AuditEvent] = ()) -> tuple[User, bool]:
        """Register a user; with an id already there, answer that one and False.

        Raises ``TenantNotFoundError``, and ``AlreadyExistsError`` where another user has the name.
        """
        ...

    async def get_user(self, user_id: str) -> User | None: ...

    async def find_user(self, username: str) -> tuple[User, str] | None:
        """By name, with the password's hash."""
        ...

    async def list_users(
        self, tenant_id: str | None = None, *, limit: int | None = None, before: Position | None = None
    ) -> list[User]:
        """Of one tenant, or of all."""
        ...

    async def edit_user(
        self,
        user_id: str,
        changes: Mapping[str, Any],
        events: Sequence[AuditEvent] = (),
        *,
        password_hash: str | None = None,
    ) -> User | None:
        """Replace fields by name, and the password where one is given; the user as it is now, None when unknown.

        Repeating is harmless.
        """
        ...

    async def delete_user(self, user_id: str, at: datetime, events: Sequence[AuditEvent] = ()) -> bool:
        """Gone, and its keys revoked. False when there was none."""
        ...

    async def add_key(self, key: ApiKey, key_hash: str, events: Sequence[AuditEvent] = ()) -> tuple[ApiKey, bool]:
        """Register a key; with an id already there, answer that one and False. Raises ``TenantNotFoundError``."""
        ...

    async def get_key(self, key_id: str) -> tuple[ApiKey, str] | None:
        """With the key's hash; expired and revoked ones too. None when unknown."""
        ...

    async def list_keys(
        self, tenant_id: str | None = None, *, limit: int | None = None, before: Position | None = None
    ) -> list[ApiKey]:
        """Of one tenant, or of all; revoked ones are left out."""
        ...

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
        """Register the key that follows ``key.rotated_from``; with an id already there, answer that one and False.

        In the same step the old key's end is brought forward to ``old_until`` (an earlier one stays), and the key the
        old one had followed is revoked, recorded by ``ended_events`` where it still was accepted.
        Raises ``ApiKeyNotFoundError`` where the old key is unknown or revoked, ``InvalidStateError`` where another
        key follows it already: a line never forks.
        """
        ...

    async def revoke_key(self, key_id: str, at: datetime, events: Sequence[AuditEvent] = ()) -> bool:
        """Accept it no more, for good. False when unknown or revoked before."""
        ...

    async def note_key_used(self, key_id: str, at: datetime) -> None: ...

    async def note_ticket_opened(self, ticket_id: str, expires_at: datetime, at: datetime) -> None:
        """A stream ticket was used. Repeating is harmless. Those that have expired by ``at`` are forgotten."""
        ...

    async def was_ticket_opened(self, ticket_id: str) -> bool:
        """Whether it was used before; False once it was forgotten."""
        ...

    async def add_session(self, session: Session, secret_hash: str) -> None:
        """Somebody signed in. Repeating is harmless. Those that have expired by its creation are forgotten."""
        ...

    async def get_session(self, secret_hash: str) -> Session | None:
        """An expired one too, while it is known. None when unknown, or signed out."""
        ...

    async def delete_session(self, secret_hash: str) -> bool:
        """Signed out. False when there was none."""
        ...

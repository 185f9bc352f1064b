"""Keys for tests, made without the API."""

from datetime import UTC, datetime
from typing import Any

from ingather.domain.api_keys import key_hash, new_key
from ingather.models.accounts import ApiKey, Scope, Tenant
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.accounts import Accounts

READ, WRITE, ADMIN = Scope.READ, Scope.WRITE, Scope.ADMIN


async def new_tenant(accounts: Accounts, tenant_id: str, **settings: Any) -> Tenant:
    """A registered tenant."""
    given = {"name": "a tenant", "created_at": datetime.now(UTC)} | settings
    tenant, _ = await accounts.add_tenant(Tenant(tenant_id=tenant_id, **given))
    return tenant


async def key_of(
    accounts: Accounts, *scopes: Scope, tenant_id: str = DEFAULT_TENANT_ID, **facts: Any
) -> dict[str, str]:
    """Headers with a fresh key; ``read`` and ``write`` unless other scopes are named."""
    key_id, key = new_key()
    given = {"name": "a key", "created_at": datetime.now(UTC)} | facts
    wanted = frozenset(scopes or (READ, WRITE))
    await accounts.add_key(ApiKey(key_id=key_id, tenant_id=tenant_id, scopes=wanted, **given), key_hash(key))
    return {"X-API-Key": key}

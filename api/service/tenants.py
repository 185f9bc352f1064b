"""Tenants as they are set now, remembered for a moment: every request asks for one."""

import time
from dataclasses import dataclass

from ingather.models.accounts import Tenant
from ingather.models.errors import TenantNotFoundError
from ingather.ports.accounts import Accounts

REMEMBERED_SECONDS = 2.0
"""A change made through another process is seen this much later."""
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class _Seen:
    tenant: Tenant | None
    until: float


class TenantBook:
    """What the catalog says of each tenant, asked for at most once in two seconds."""

    def __init__(self, accounts: Accounts, *, seconds: float = REMEMBERED_SECONDS) -> None:
        self._accounts = accounts
        self._seconds = seconds
        self._seen: dict[str, _Seen] = {}

    async def find(self, tenant_id: str) -> Tenant | None:
        """None when unknown or deleted."""
        seen = self._seen.get(tenant_id)
        if seen is not None and time.monotonic() < seen.until:
            return seen.tenant
        tenant = await self._accounts.get_tenant(tenant_id)
        if tenant is not None:  # made-up ids must not fill the memory
            if len(self._seen) >= _MOST:
                self._seen.clear()
            self._seen[tenant_id] = _Seen(tenant, time.monotonic() + self._seconds)
        else:
            self._seen.pop(tenant_id, None)
        return tenant

    async def get(self, tenant_id: str) -> Tenant:
        """Raises ``TenantNotFoundError``."""
        tenant = await self.find(tenant_id)
        if tenant is None:
            raise TenantNotFoundError("There is no such tenant.")
        return tenant

    def forget(self, tenant_id: str) -> None:
        """It was changed just now."""
        self._seen.pop(tenant_id, None)

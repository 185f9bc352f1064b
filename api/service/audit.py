"""The audit log: what callers do is noted before they are answered, and each tenant reads its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from api.access import Caller
from ingather.domain.audit import batch_event, batch_event_id
from ingather.domain.identifiers import as_uuid
from ingather.models.accounts import Scope
from ingather.models.audit import Actor, AuditEvent, AuditType
from ingather.models.errors import TenantNotFoundError
from ingather.ports.audit import AuditFilter, AuditLog


@dataclass(frozen=True, slots=True)
class AuditService:
    """Notes and lists."""

    log: AuditLog

    async def note_batch(
        self,
        kind: AuditType,
        tenant_id: str,
        batch_id: str,
        by: Actor,
        *,
        which: str,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Somebody did something with a batch. The same ``which`` again, in a request that is repeated, adds nothing."""
        now = datetime.now(UTC)
        event = batch_event(kind, tenant_id, batch_id, by, now, which=which, details=details)
        await self.log.record([event])

    async def has_batch(self, kind: AuditType, batch_id: str, *, which: str) -> bool:
        """Whether what ``note_batch`` notes of the same is there, whichever process noted it."""
        return bool(await self.log.recorded([batch_event_id(kind, batch_id, which)]))

    async def page(self, where: AuditFilter, limit: int) -> tuple[Sequence[AuditEvent], bool]:
        """Events newest first, and whether there are more."""
        found = await self.log.list_events(where, limit + 1)
        return found[:limit], len(found) > limit


def audited_tenant(caller: Caller, tenant_id: str | None) -> str:
    """Whose events a caller may list: its own tenant's, an administrator any, also one that was deleted."""
    if tenant_id is None:
        return caller.tenant_id
    wanted = as_uuid(tenant_id)
    if wanted is None or not (caller.may(Scope.ADMIN) or wanted == caller.tenant_id):
        raise TenantNotFoundError("There is no such tenant.")
    return wanted

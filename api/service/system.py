"""The whole deployment at a glance: parts, workers, queues, and how the tenants share them. Nothing here waits long."""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from api.engine_overview import EngineOverview, TenantWork
from api.problems import known_codes
from api.readiness import Readiness
from api.service.tenants import TenantBook
from ingather.models.engine import ROLES
from ingather.models.errors import EngineUnavailableError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool | None
    """None where it could not be looked at."""
    detail: str
    action: str = ""
    """What to do; empty where all is well."""


@dataclass(frozen=True, slots=True)
class TenantShare:
    """A tenant with open batches, and the part of the workers it has."""

    tenant_id: str
    name: str
    weight: float
    share: float
    """Of the workers, 0 to 1, while all tenants with documents to go compete for them; 0 for one that has none."""
    work: TenantWork


@dataclass(frozen=True, slots=True)
class SystemReport:
    """What is known right now."""

    overview: EngineOverview | None
    """None while Temporal is away."""
    checks: tuple[Check, ...]
    tenants: tuple[TenantShare, ...]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SystemService:
    """Looks at everything at once; whatever does not answer is reported as such within about two seconds."""

    readiness: Readiness
    tenants: TenantBook
    overview: Callable[[], Awaitable[EngineOverview]]

    async def report(self) -> SystemReport:
        """Never raises for a part that is away."""
        parts, overview = await asyncio.gather(self.readiness.report(), self._overview())
        checks = [_part(name, result) for name, result in parts.items()]
        checks += _engine_checks(overview)
        shares = await self._shares(overview.work) if overview else ()
        versions = {
            "ingather": version("ingather"),
            "python": platform.python_version(),
            "temporalio": version("temporalio"),
        }
        if overview is not None:
            versions["temporal server"] = overview.server_version
        return SystemReport(overview, tuple(checks), shares, versions)

    async def _overview(self) -> EngineOverview | None:
        try:
            return await self.overview()
        except EngineUnavailableError:
            return None

    async def _shares(self, work: Mapping[str, TenantWork]) -> tuple[TenantShare, ...]:
        known = {tenant_id: await self.tenants.find(tenant_id) for tenant_id in work}
        weights = {tenant_id: tenant.fairness_weight if tenant else 1.0 for tenant_id, tenant in known.items()}
        parts = shares_of({tenant_id: weights[tenant_id] for tenant_id, each in work.items() if _has_work(each)})
        found = [
            TenantShare(
                tenant_id=tenant_id,
                name=tenant.name if (tenant := known[tenant_id]) else "",
                weight=weights[tenant_id],
                share=parts.get(tenant_id, 0.0),
                work=each,
            )
            for tenant_id, each in work.items()
        ]
        return tuple(sorted(found, key=lambda each: (-each.share, each.name, each.tenant_id)))


def shares_of(weights: Mapping[str, float]) -> dict[str, float]:
    """Each one's part of what all compete for."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()} if total else {}


def _has_work(work: TenantWork) -> bool:
    return bool(work.batches_running and work.documents_in_flight + work.documents_pending)


def _part(name: str, result: str) -> Check:
    if result == "ok":
        return Check(name, ok=True, detail="It answers.")
    _, title, action = known_codes().get(result, (503, "It does not answer", ""))
    return Check(name, ok=False, detail=f"{title}.", action=action)


def _engine_checks(overview: EngineOverview | None) -> list[Check]:
    roles = {queue: role for role, queues in ROLES.items() for queue in queues}
    if overview is None:
        return [Check(f"queue {queue}", ok=None, detail="Temporal does not answer.") for queue in roles]
    checks = []
    for queue in overview.queues:
        count = len(queue.pollers)
        if count:
            checks.append(
                Check(f"queue {queue.name}", ok=True, detail=f"{count} {'worker' if count == 1 else 'workers'}")
            )
        else:
            action = f"Start one: python worker.py --roles {roles[queue.name]}"
            checks.append(Check(f"queue {queue.name}", ok=False, detail="No worker asks it for work.", action=action))
    if overview.missing_attributes is None:
        checks.append(Check("search attributes", ok=None, detail="The namespace does not let us look."))
    elif overview.missing_attributes:
        names = ", ".join(overview.missing_attributes)
        detail = f"The namespace lacks {names}."
        checks.append(
            Check("search attributes", ok=False, detail=detail, action="`ingather doctor` says how to add them.")
        )
    else:
        checks.append(Check("search attributes", ok=True, detail="All are registered."))
    return checks

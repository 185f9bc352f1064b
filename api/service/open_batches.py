"""Which batches of a door have not ended: looked up once a second for everybody who waits for news of them.

A connection that follows all batches of a user must hear of new ones. Each asking for itself would cost the catalog as
many questions as there are connections; here it is one a tenant, and none where nobody waits.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from activities.failures import described
from api.service.batches import BatchService
from ingather.models.batch import BatchState, Counts
from ingather.models.errors import DependencyError, EngineUnavailableError
from ingather.ports.catalog import BatchFilter, Catalog

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
HEARD_SECONDS = 3.0
"""What the engine lists of a batch is so old at most."""
JUST_ENDED = timedelta(seconds=10)
"""A batch that began and ended between two looks is seen all the same."""


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A batch that has not ended, or has just, as it is now."""

    batch_id: str
    created_by: str
    state: BatchState
    counts: Counts
    version: int = 0


@dataclass(slots=True, eq=False)
class Interest:
    """One connection's view of its user's open batches."""

    user: str
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is another batch than before, or one in another state."""
    jobs: dict[str, OpenJob] | None = None
    """By id, newest first; None until they could be looked up."""

    def note(self, jobs: dict[str, OpenJob]) -> None:
        before, self.jobs = self.jobs, jobs
        if before is None or _states(before) != _states(jobs):
            self.changed.set()


def _states(jobs: dict[str, OpenJob]) -> dict[str, tuple[BatchState, int]]:
    """What is news: of a batch that runs its state alone, of one that ended also that it did so once more."""
    return {batch_id: (job.state, job.version if job.state.is_final else 0) for batch_id, job in jobs.items()}


@dataclass(slots=True)
class _Tenant:
    interests: set[Interest] = field(default_factory=set)
    looking: asyncio.Task[None] | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    heard: dict[str, tuple[BatchState, float]] = field(default_factory=dict)
    """States that were told by batches themselves, and until when they count."""


class OpenBatches:
    """Looks open batches of one contract up, by tenant."""

    def __init__(self, catalog: Catalog, batches: BatchService, contract: str) -> None:
        self._catalog = catalog
        self._batches = batches
        self._contract = contract
        self._tenants: dict[str, _Tenant] = {}

    @asynccontextmanager
    async def interest(self, tenant_id: str, user: str) -> AsyncIterator[Interest]:
        """News of a user's open batches for as long as the block lasts."""
        tenant = self._tenants.setdefault(tenant_id, _Tenant())
        interest = Interest(user)
        tenant.interests.add(interest)
        if tenant.looking is None:
            tenant.looking = asyncio.create_task(self._look(tenant_id, tenant), name=f"open batches of {tenant_id}")
        tenant.asked.set()
        try:
            yield interest
        finally:
            tenant.interests.discard(interest)
            if not tenant.interests and tenant.looking is not None:
                tenant.looking.cancel()
                self._tenants.pop(tenant_id, None)

    def note(self, tenant_id: str, batch_id: str, state: BatchState) -> None:
        """A batch was made or took a message just now, in this process: sooner known than looked up."""
        if tenant_id in self._tenants:
            self._tenants[tenant_id].heard[batch_id] = (state, time.monotonic() + HEARD_SECONDS)
            self._tenants[tenant_id].asked.set()

    async def close(self) -> None:
        """Stop looking."""
        tasks = [tenant.looking for tenant in self._tenants.values() if tenant.looking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, tenant_id: str, tenant: _Tenant) -> None:
        is_troubled = False
        while True:
            tenant.asked.clear()
            try:
                by_user = await self._open(tenant_id, tenant)
                for interest in tuple(tenant.interests):
                    interest.note(by_user.get(interest.user, {}))
                is_troubled = False
            except DependencyError as error:
                if not is_troubled:
                    log.warning("open_batches.interrupted", tenant_id=tenant_id, code=error.code)
                is_troubled = True
            except Exception as error:  # noqa: BLE001  # one odd row must not end the news of all others
                log.error("open_batches.failed", tenant_id=tenant_id, **described(error))  # noqa: TRY400
            # Somebody who has just come is answered at once, many who come together in one go.
            await asyncio.sleep(LOOK_SECONDS / 10)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tenant.asked.wait(), LOOK_SECONDS * 9 / 10)

    async def _open(self, tenant_id: str, tenant: _Tenant) -> dict[str, dict[str, OpenJob]]:
        now = time.monotonic()
        tenant.heard = {batch_id: heard for batch_id, heard in tenant.heard.items() if heard[1] > now}
        where = BatchFilter(tenant_id, contract=self._contract)
        found = await self._catalog.list_open(where, datetime.now(UTC) - JUST_ENDED)
        running = {}
        if any(not each.state.is_final for each in found):
            with contextlib.suppress(EngineUnavailableError):
                running = await self._batches.under_way(tenant_id)
        by_user: dict[str, dict[str, OpenJob]] = {}
        for each in found:
            live = None if each.state.is_final else running.get(each.batch_id)
            state, counts = (live.state, live.counts) if live else (each.state, each.counts)
            if state is BatchState.PENDING and each.batch_id in tenant.heard:
                state = tenant.heard[each.batch_id][0]
            job = OpenJob(each.batch_id, each.created_by, state, counts, each.version)
            by_user.setdefault(each.created_by, {})[each.batch_id] = job
        return by_user

"""Telling batches under way that somebody listens to them from now on.

A batch spends nothing on telling what happens to it where nobody listened when it was submitted. Who begins to listen later has
the batches told that have not ended: a signal each, which costs one that hears it twice nothing.
"""

import asyncio

import structlog

from api.engine import BatchClosedError, BatchEngine
from ingather.models.errors import DependencyError
from ingather.models.messages import ListenerAdded
from ingather.ports.catalog import BatchFilter, Catalog

log = structlog.get_logger(__name__)

MOST_TOLD = 1_000
"""Batches of a tenant that hear of a new listener: of more than that the oldest, which run first."""
_AT_ONCE = 16


class Listeners:
    """Who listens, as far as batches must know it."""

    def __init__(self, catalog: Catalog, engine: BatchEngine) -> None:
        self._catalog = catalog
        self._engine = engine

    async def has_begun(self, tenant_id: str) -> None:
        """Somebody listens to all of the tenant's batches.

        Where a part is away, batches that were not told tell their end alone: that is logged, and no reason to take back
        what was registered.
        """
        told = 0
        try:
            found = (await self._catalog.list_open(BatchFilter(tenant_id)))[-MOST_TOLD:]
            for told in range(0, len(found), _AT_ONCE):
                await asyncio.gather(*(self._tell(each.batch_id) for each in found[told : told + _AT_ONCE]))
        except DependencyError as error:
            log.warning("webhook.batches_not_told", tenant_id=tenant_id, told=told, reason=error.message)

    async def has_begun_meanwhile(self, tenant_id: str, batch_id: str) -> None:
        """The same for a batch that was being submitted when somebody began to listen, if somebody did."""
        try:
            if await self._catalog.webhooks.has_listeners(tenant_id):
                await self._tell(batch_id)
        except DependencyError as error:
            log.warning("webhook.batches_not_told", tenant_id=tenant_id, told=0, reason=error.message)

    async def _tell(self, batch_id: str) -> None:
        try:
            await self._engine.tell(batch_id, "listener_added", ListenerAdded())
        except BatchClosedError:
            return  # it has ended, or has not begun: then its submission sees the listener

"""Batches that are told whether or not anybody watches, because somebody listens elsewhere.

Which ones those are is in the catalog: batches of a contract with announcements whose end was not told yet. Every
process looks there again and again, and attends to all it finds; which of them tells is settled by the lease, as
for watched batches. So a batch goes on being told when the process that took it in is gone, and one that ended
while no process ran is told once there is one.
"""

import asyncio
import random

import structlog

from activities.failures import described
from api.streams.hub import Hub
from ingather.models.errors import DependencyError
from ingather.ports.catalog import Catalog
from ingather.ports.event_log import StreamKey

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
MOST_ATTENDED = 5_000
"""Batches attended to at a time, as many of each tenant as there is room for."""


class Attendance:
    """Keeps the hub attending to the right batches.

    Args:
        contracts: those with announcements.
        most: batches attended to at a time.
    """

    def __init__(self, hub: Hub, catalog: Catalog, contracts: frozenset[str], most: int = MOST_ATTENDED) -> None:
        self._most = most
        self._hub = hub
        self._catalog = catalog
        self._contracts = sorted(contracts)

    async def keep(self) -> None:
        """Until cancelled."""
        is_troubled = False
        while True:
            try:
                await self._look()
                is_troubled = False
            except DependencyError as error:
                if not is_troubled:
                    log.warning("attendance.interrupted", code=error.code)
                is_troubled = True
            except Exception as error:  # noqa: BLE001  # one odd row must not end the telling of all others
                log.error("attendance.failed", **described(error))  # noqa: TRY400
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.8, 1.2))

    async def _look(self) -> None:
        before = self._hub.attended
        untold = await self._catalog.list_untold(self._contracts, self._most)
        now = {StreamKey(*names) for names in untold}
        for key in now:
            self._hub.attend(key)
        # Not those that came while the catalog was asked.
        for key in before - now:
            self._hub.dismiss(key)

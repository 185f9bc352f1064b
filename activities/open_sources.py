"""Sources that documents are fetched from, kept open between documents: one log-in serves thousands of files."""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from activities.keyed_locks import KeyedLocks
from ingather.models.errors import ConnectionGoneError
from ingather.models.source import Connection, SourceRef
from ingather.ports.connections import Connections
from ingather.ports.source import Source, SourceFactory

TRUSTED_SECONDS = 30.0
"""After so long the catalog is asked again: what was deleted or made anew is noticed then."""
MOST_IDLE = 64
"""Sources that nobody uses at the moment and that stay open all the same."""


@dataclass(slots=True)
class _Opened:
    connection: Connection
    source: Source
    checked_at: float
    users: int = 0
    is_retired: bool = False
    """Another took its place: it is closed with its last user."""


class OpenSources:
    """Opens a source at its first use.

    Args:
        trusted_seconds: how long a connection is taken to be what it was when the catalog was asked.
    """

    def __init__(
        self, connections: Connections, factory: SourceFactory, *, trusted_seconds: float = TRUSTED_SECONDS
    ) -> None:
        self._connections = connections
        self._factory = factory
        self._trusted_seconds = trusted_seconds
        self._opened: OrderedDict[tuple[str, str], _Opened] = OrderedDict()
        self._looking = KeyedLocks()

    @asynccontextmanager
    async def use(self, tenant_id: str, ref: SourceRef) -> AsyncIterator[Source]:
        """The source that a reference points into; it stays open at least as long as the block lasts.

        Raises ``ConnectionGoneError``, ``CatalogUnavailableError`` and what the factory does.
        """
        async with self._looking.hold(f"{tenant_id}/{ref.connection_id}"):
            opened = await self._current(tenant_id, ref)
            opened.users += 1
        try:
            yield opened.source
        finally:
            opened.users -= 1
            if opened.is_retired and not opened.users:
                await opened.source.close()
            await self._close_unused()

    async def close(self) -> None:
        """Close all of them."""
        opened, self._opened = list(self._opened.values()), OrderedDict()
        for each in opened:
            await each.source.close()

    async def _current(self, tenant_id: str, ref: SourceRef) -> _Opened:
        key = tenant_id, ref.connection_id
        known = self._opened.get(key)
        if known is None or time.monotonic() - known.checked_at >= self._trusted_seconds:
            known = await self._looked_up(key)
        self._opened.move_to_end(key)
        if known.connection.source_type is not ref.source_type:
            raise ConnectionGoneError(
                f"The connection {ref.connection_id!r} was made anew: it is a {known.connection.source_type.value} source now."
            )
        return known

    async def _looked_up(self, key: tuple[str, str]) -> _Opened:
        connection = await self._connections.get_connection(*key)
        # Looked at now, not before: an idle source may have been closed for others while the catalog was asked.
        known = self._opened.get(key)
        if known is not None and connection == known.connection:
            known.checked_at = time.monotonic()
            return known
        if known is not None:
            await self._retire(key)
        if connection is None:
            raise ConnectionGoneError(f"The connection {key[1]!r} was deleted.")
        opened = _Opened(connection, self._factory.open(connection), time.monotonic())
        self._opened[key] = opened
        return opened

    async def _retire(self, key: tuple[str, str]) -> None:
        opened = self._opened.pop(key)
        opened.is_retired = True
        if not opened.users:
            await opened.source.close()

    async def _close_unused(self) -> None:
        idle = [key for key, opened in self._opened.items() if not opened.users]
        for key in idle[: max(0, len(idle) - MOST_IDLE)]:
            await self._retire(key)

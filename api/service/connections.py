"""Connections to sources: made, shown, tested, browsed, and looked up for what batches select."""

from collections.abc import Sequence
from dataclasses import dataclass

from ingather.models.errors import SourceTypeMismatchError, UnknownConnectionError
from ingather.models.source import FileSelection
from ingather.ports.connections import Connections


@dataclass(slots=True)
class ConnectionService:
    """Keeps a tenant's ways to its sources."""

    connections: Connections

    async def check_selections(self, tenant_id: str, selections: Sequence[FileSelection]) -> None:
        """Whether the tenant has these connections, of these kinds; nothing is asked of the sources.

        Raises ``UnknownConnectionError``, ``SourceTypeMismatchError``.
        """
        kinds = {}
        for connection_id in dict.fromkeys(selection.connection_id for selection in selections):
            found = await self.connections.get_connection(tenant_id, connection_id)
            if found is None:
                raise UnknownConnectionError(f"There is no connection {connection_id!r}.", connection_id=connection_id)
            kinds[connection_id] = found.source_type
        for selection in selections:
            kind = kinds[selection.connection_id]
            if selection.source_type is not kind:
                raise SourceTypeMismatchError(
                    f"The connection {selection.connection_id!r} is a {kind.value} source, not {selection.source_type.value}.",
                    connection_id=selection.connection_id,
                    source_type=kind.value,
                )

"""Results of scanned sheets, where people and programs look them up."""

from collections.abc import Sequence
from typing import Protocol

from ingather.models.sheets import SheetRow


class SheetRows(Protocol):
    """One row a sheet. Methods raise ``CatalogUnavailableError``; none blocks the event loop."""

    async def load(self, rows: Sequence[SheetRow], version: int) -> None:
        """Insert rows, or replace those that are there.

        ``version`` is that of the batch's end which the rows tell of: an older one never takes the place of a later
        one. Idempotent. Raises ``BatchNotFoundError`` for rows of an unknown batch.
        """
        ...

    async def list_rows(
        self, batch_id: str, limit: int, *, after_ordinal: int = -1, group_code: str | None = None
    ) -> list[SheetRow]:
        """Rows in the order of the sheets, those of one group where one is named; none for an unknown batch."""
        ...

"""Results of scanned sheets, in this process."""

from collections.abc import Sequence

from ingather.models.sheets import SheetRow


class InMemorySheetRows:
    def __init__(self) -> None:
        self._rows: dict[str, dict[int, tuple[int, SheetRow]]] = {}

    async def load(self, rows: Sequence[SheetRow], version: int) -> None:
        for row in rows:
            known = self._rows.setdefault(row.batch_id, {})
            if row.ordinal not in known or known[row.ordinal][0] <= version:
                known[row.ordinal] = (version, row)

    async def list_rows(
        self, batch_id: str, limit: int, *, after_ordinal: int = -1, group_code: str | None = None
    ) -> list[SheetRow]:
        rows = [row for _, (_, row) in sorted(self._rows.get(batch_id, {}).items())]
        wanted = [row for row in rows if row.ordinal > after_ordinal and group_code in {None, row.group_code}]
        return wanted[:limit]

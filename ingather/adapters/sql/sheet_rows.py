"""Results of scanned sheets in the catalog's database."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection, RowMapping, select
from sqlalchemy.exc import IntegrityError

from ingather.adapters.sql.statements import Run, insert_into
from ingather.adapters.sql.tables import sheets
from ingather.models.errors import BatchNotFoundError
from ingather.models.sheets import SheetRow

_columns = sheets.c
_FIELDS = [_columns[name] for name in SheetRow.model_fields]


class SqlSheetRows:
    """Shares the catalog's connections, threads and transactions."""

    def __init__(self, read: Run, write: Run) -> None:
        self._read = read
        self._write = write

    async def load(self, rows: Sequence[SheetRow], version: int) -> None:
        if rows:
            await self._write("load results of sheets", partial(_load, rows, version))

    async def list_rows(
        self, batch_id: str, limit: int, *, after_ordinal: int = -1, group_code: str | None = None
    ) -> list[SheetRow]:
        return await self._read("list results of sheets", partial(_list, batch_id, limit, after_ordinal, group_code))


def _load(rows: Sequence[SheetRow], version: int, connection: Connection) -> None:
    statement = insert_into(connection.dialect.name, sheets)
    new = statement.excluded
    changes = {column.name: new[column.name] for column in _columns if not column.primary_key}
    statement = statement.on_conflict_do_update(
        index_elements=["file_id"], set_=changes, where=new.version >= _columns.version
    )
    try:
        connection.execute(statement, [row.model_dump() | {"version": version} for row in rows])
    except IntegrityError as error:
        raise BatchNotFoundError(f"There is no batch {rows[0].batch_id} for its sheets.") from error


def _list(
    batch_id: str, limit: int, after_ordinal: int, group_code: str | None, connection: Connection
) -> list[SheetRow]:
    query = select(*_FIELDS).where(_columns.batch_id == batch_id, _columns.ordinal > after_ordinal)
    if group_code is not None:
        query = query.where(_columns.group_code == group_code)
    return [_row(found) for found in connection.execute(query.order_by(_columns.ordinal).limit(limit)).mappings()]


def _row(found: RowMapping) -> SheetRow:
    return SheetRow.model_validate(dict(found))

"""A document's rows in a LanceDB table: all of them, each once, whoever else is writing.

Rows are replaced by merging on their id, so writers need no lock between them: LanceDB lets one
of two conflicting writers win and the other starts over on what the first one left. A writer
that dies half-way leaves files nobody refers to.

Where nothing is there yet, which is the rule, rows are appended instead: a quarter of the work. Two
who do so at the same moment both succeed. So whoever appends looks at the table's version
afterwards: where others wrote meanwhile he counts, and where they wrote the same documents he
removes every row but the first of each id and merges. The last one who counts sees all. Whoever
dies half-way may leave rows of another writer's document twice, and does not leave fewer of them.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pyarrow as pa
import structlog

from ingather.adapters.lancedb_rows import Replacement
from ingather.adapters.lancedb_upkeep import is_conflict

log = structlog.get_logger(__name__)

_ROWS_AT_ONCE = 8_192
"""Rows written at one time: LanceDB checks them on the event loop, which this keeps to milliseconds."""
_ATTEMPTS = 6
"""On top of LanceDB's own ten: many writers on one document wait for each other here."""


async def replace_documents(table: Any, replacement: Replacement) -> None:
    """Have the table hold these rows of these documents, and no others of them.

    Not to be cancelled half-way: see above.
    """
    rows, condition = replacement.rows, replacement.condition()
    version = await table.version()
    if rows.num_rows and not await table.count_rows(condition):
        for start in range(0, rows.num_rows, _ROWS_AT_ONCE):
            await _persistently(lambda start=start: table.add(rows.slice(start, _ROWS_AT_ONCE)))  # type: ignore[misc]  # bound default
            version += 1
        # A count reads the whole table; nobody else's write makes it unnecessary.
        if await table.version() == version or await table.count_rows(condition) == rows.num_rows:
            return
        await _remove_repeats(table, condition)
    await _merge_all(table, replacement)
    for _ in range(_ATTEMPTS):
        if await table.count_rows(condition) <= rows.num_rows:
            return
        # Rows that were there twice, left by writers who all died before they could count; or they have been moved.
        await _remove_repeats(table, condition)
        await _merge_all(table, replacement)
    log.warning("index.rows_left_twice", documents=len(replacement.documents))


async def _remove_repeats(table: Any, condition: str) -> None:
    """Of rows with the same id, leave the first alone.

    Several who do so at once choose the same one, but for a compaction between their two looks. A row's number is never
    given to another: where one moved the rows since they were looked up, nothing is removed, and whoever counts
    afterwards begins again.
    """
    found = await table.query().where(condition).select(["id"]).with_row_id().to_arrow()
    seen: set[str] = set()
    repeats: list[int] = []
    for number, row_id in sorted(zip(found["_rowid"].to_pylist(), found["id"].to_pylist(), strict=True)):
        if row_id in seen:
            repeats.append(number)
        seen.add(row_id)
    for start in range(0, len(repeats), _ROWS_AT_ONCE):
        numbers = ", ".join(map(str, repeats[start : start + _ROWS_AT_ONCE]))
        await _persistently(lambda numbers=numbers: table.delete(f"_rowid IN ({numbers})"))  # type: ignore[misc]  # bound default


async def _merge_all(table: Any, replacement: Replacement) -> None:
    """Overwrite rows and add new ones, then remove what else there is of the same documents.

    Rows are left over only where a document had more chunks before, under another fingerprint;
    then everything is replaced in one step.
    """
    rows, condition = replacement.rows, replacement.condition()
    for start in range(0, rows.num_rows, _ROWS_AT_ONCE):
        await _merge(table, rows.slice(start, _ROWS_AT_ONCE))
    if await table.count_rows(condition) <= rows.num_rows:
        return
    if rows.num_rows:
        await _merge(table, rows, remove_others_of=condition)
    else:
        await _persistently(lambda: table.delete(condition))


async def _merge(table: Any, rows: pa.Table, *, remove_others_of: str | None = None) -> None:
    merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    if remove_others_of is not None:
        merge = merge.when_not_matched_by_source_delete(remove_others_of)
    # With an index LanceDB would not notice rows that another writer is inserting right now.
    merge = merge.use_index(False)
    await _persistently(lambda: merge.execute(rows))


async def _persistently(write: Callable[[], Awaitable[object]]) -> None:
    """Try again while others are quicker."""
    for attempt in range(_ATTEMPTS):
        try:
            await write()
        except (OSError, RuntimeError) as error:
            if attempt == _ATTEMPTS - 1 or not is_conflict(error):
                raise
            await asyncio.sleep(random.uniform(0.05, 0.2) * 2**attempt)
        else:
            return

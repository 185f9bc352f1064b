"""Keeping a LanceDB table quick: few files, every row in the full-text index, no files of old versions.

All of it is safe at any time and in several processes at once: the loser of a conflict with a
writer, or with another upkeep, changes nothing and comes back later.
"""

import asyncio
import importlib
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import structlog

logger = structlog.get_logger(__name__)

_OLD_VERSIONS = timedelta(minutes=2)
"""How long files of replaced versions stay, for readers that still look at them."""

# Tidying up rewrites the table's small files, so it costs more the larger the table is. Waiting for a
# share of the table keeps the cost of each document the same however many there are. A row that waits costs
# each query about 30 microseconds, shared by the cores; tidying up more often cost more than all else the
# index does, since the word index is written anew each time.
_ROWS = 12_000
_SHARE = 8
_UPSERTS = 64
_IDLE_SECONDS = 6.0
"""Longer than a slow batch takes from one write to the next (5 s): it pauses when it is over."""
_TICK_SECONDS = 0.25


class TableUpkeep:
    """Tidies up one table in the background, when enough was written to it or when writing pauses.

    Args:
        open_table: answers the table, or None where there is none any more.
    """

    def __init__(self, open_table: Callable[[], Awaitable[Any]]) -> None:
        self._open_table = open_table
        self._upserts = 0
        self._rows = 0
        self._total_rows = 0
        self._last_write = 0.0
        self._patience = _IDLE_SECONDS
        self._sweep_at: float | None = None
        """When the files that the last tidying-up replaced are old enough to be deleted."""
        self._task: asyncio.Task[None] | None = None

    def note_write(self, rows: int) -> None:
        """Count an upsert by this process, and see to it that somebody is looking after the table."""
        self._upserts += 1
        self._rows += rows
        self._last_write = _now()
        # Several processes pause together when a batch ends; only the first should tidy up.
        self._patience = _IDLE_SECONDS * (1 + random.random())
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._tend())

    async def close(self) -> None:
        """Stop, which leaves nothing half done wherever it happens."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _tend(self) -> None:
        """Tidy up whenever it is due, until nothing is left to do."""
        while self._upserts or self._sweep_at is not None:
            await asyncio.sleep(_TICK_SECONDS)
            if not self._is_due():
                continue
            is_sweep = not self._upserts
            self._upserts = self._rows = 0
            self._sweep_at = None if is_sweep else _now() + _OLD_VERSIONS.total_seconds() + 5
            try:
                await self._visit(even_when_indexed=is_sweep)
            except (OSError, RuntimeError, ValueError) as error:
                # The text may quote credentials. What is wrong with the table, the next upsert tells.
                logger.warning("index.upkeep_failed", error=type(error).__name__)

    def _is_due(self) -> bool:
        if not self._upserts:
            return self._sweep_at is not None and _now() >= self._sweep_at
        return (
            self._upserts >= _UPSERTS
            or self._rows >= max(_ROWS, self._total_rows // _SHARE)
            or _now() - self._last_write >= self._patience
        )

    async def _visit(self, *, even_when_indexed: bool) -> None:
        table = await self._open_table()
        # Another process may have been quicker.
        if table is not None and (even_when_indexed or not await _is_indexed(table)):
            await tidy_up(table)
            self._total_rows = await table.count_rows()


async def tidy_up(table: Any) -> None:
    """Merge small files, index new rows, drop old versions. Losing against a writer is no failure."""
    if not await table.list_indices():
        await create_word_index(table)  # whoever made the table died before it got here
    try:
        await table.optimize(cleanup_older_than=_OLD_VERSIONS)
    except (OSError, RuntimeError) as error:
        if not is_conflict(error):
            raise


async def create_word_index(table: Any) -> None:
    """Make the full-text index; another process may be doing so too."""
    index = importlib.import_module("lancedb.index")
    # ICU also knows where words end in scripts without spaces. Its stop words are those of all
    # languages together, "dog" and "cat" among them, so none are removed: rare words weigh more anyway.
    words = index.FTS(base_tokenizer="icu/split", remove_stop_words=False, with_position=False)
    try:
        await table.create_index("text", config=words, replace=False)
    except (RuntimeError, ValueError) as error:
        if not ("already exists" in str(error) or is_conflict(error)):
            raise


def is_conflict(error: Exception) -> bool:
    """Whether another writer was quicker; LanceDB has no type for that."""
    text = str(error).lower()
    return "conflict" in text or "concurrent" in text


async def _is_indexed(table: Any) -> bool:
    indices = await table.list_indices()
    return bool(indices) and not any(index.num_unindexed_rows for index in indices)


def _now() -> float:
    return asyncio.get_running_loop().time()

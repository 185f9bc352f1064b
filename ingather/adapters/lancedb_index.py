"""The search index in LanceDB: the same code on a folder and on S3.

One table per tenant and vector length. How a document's rows come to be there once, whoever else
writes at the same moment, is told in ``lancedb_writes``.

Rows are found from the moment they are written. Those the full-text index does not cover yet are
read one by one (30 µs each), so it is brought up to date when enough of them have gathered, or when
writing pauses; vectors are compared one by one, 100,000 of them in about 40 ms.
"""

import asyncio
import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from ingather.adapters.lancedb_rows import (
    HIT_COLUMNS,
    Replacement,
    count_condition,
    hit,
    replacement_for,
    row_schema,
    search_condition,
)
from ingather.adapters.lancedb_upkeep import TableUpkeep, create_word_index, tidy_up
from ingather.adapters.lancedb_writes import replace_documents
from ingather.domain.metadata_pairs import well_formed
from ingather.domain.ranking import fuse_ranks
from ingather.models.errors import ConfigurationError, IndexUnavailableError
from ingather.models.search import SearchHit, SearchQuery
from ingather.ports.chunk_index import IndexEntry, IndexWrite
from ingather.ports.embedder import Vectors

_MIB = 1024 * 1024
_INDEX_CACHE_BYTES = 128 * _MIB
_METADATA_CACHE_BYTES = 64 * _MIB
_CANDIDATES = 50
"""Rows each ranking contributes at least."""


class LanceDbChunkIndex:
    """A ``ChunkIndex`` on a folder or on S3.

    Construction opens nothing; LanceDB itself (1 s and 100 MB to import) is loaded by the first
    call that needs it, in a thread. Use an instance in one event loop only.

    A chunk belongs to the batch that indexed it last: a batch that skips content because an
    earlier one ingested it leaves that batch's rows as they are, and filtering by the later batch
    does not find them.

    Args:
        uri: a folder, or ``s3://bucket/prefix``.
        dimensions: length of the vectors; indexes of other lengths live beside it.
        storage_options: for S3, such as ``aws_endpoint``, ``aws_region``, ``aws_access_key_id``,
            ``aws_secret_access_key`` and ``allow_http``.
    """

    def __init__(self, uri: str, dimensions: int, storage_options: dict[str, str] | None = None) -> None:
        self._uri = uri
        self._dimensions = dimensions
        self._storage_options = storage_options
        self._connection: Any = None
        self._tables: dict[str, Any] = {}
        self._upkeep: dict[str, TableUpkeep] = {}
        self._opening = asyncio.Lock()
        self._writing: dict[str, asyncio.Lock] = {}
        self._writers: set[asyncio.Task[None]] = set()

    async def upsert(self, tenant_id: str, entries: Sequence[IndexEntry]) -> IndexWrite:
        replacement, refused = await asyncio.to_thread(replacement_for, entries, self._dimensions)
        if not replacement.documents:
            return IndexWrite(0, refused)
        # To its end, also where the caller gives up: what was added must be looked over afterwards.
        writing = asyncio.create_task(self._write(tenant_id, replacement))
        self._writers.add(writing)
        writing.add_done_callback(self._writers.discard)
        await asyncio.shield(writing)
        self._upkeep_of(tenant_id).note_write(replacement.rows.num_rows)
        return IndexWrite(replacement.rows.num_rows, refused)

    async def _write(self, tenant_id: str, replacement: Replacement) -> None:
        # Writers in one process take turns: conflicting, each would do the other's work again.
        async with self._writing.setdefault(tenant_id, asyncio.Lock()):
            with self._translating("writing", tenant_id):
                await replace_documents(await self._open(tenant_id, create=True), replacement)

    async def search(self, query: SearchQuery, vector: Vectors | None) -> list[SearchHit]:
        if vector is not None and vector.shape != (1, self._dimensions):
            raise ConfigurationError(
                f"The query's vector has shape {vector.shape}, the search index takes (1, {self._dimensions})."
            )
        with self._translating("searching", query.tenant_id):
            table = await self._open(query.tenant_id, create=False)
            if table is None:
                return []
            candidates = max(_CANDIDATES, 2 * query.limit)
            searches = [table.query().nearest_to_text(well_formed(query.text), columns=["text"])]
            if vector is not None:
                searches.append(table.query().nearest_to(vector[0]).distance_type("cosine"))
            where = search_condition(query)
            if where is not None:
                searches = [search.where(where) for search in searches]
            columns = [[*HIT_COLUMNS, "_score"], [*HIT_COLUMNS, "_distance"]]
            rankings: list[list[dict[str, Any]]] = await asyncio.gather(
                *(s.select(c).limit(candidates).to_list() for s, c in zip(searches, columns, strict=False))
            )
        rows = {row["id"]: row for ranking in rankings for row in ranking}
        fused = fuse_ranks([[row["id"] for row in ranking] for ranking in rankings])
        return [hit(rows[row_id], score) for row_id, score in fused[: query.limit]]

    async def count(self, tenant_id: str, *, batch_id: str | None = None, collection: str | None = None) -> int:
        with self._translating("counting", tenant_id):
            table = await self._open(tenant_id, create=False)
            return 0 if table is None else int(await table.count_rows(count_condition(batch_id, collection)))

    async def optimize(self, tenant_id: str) -> None:
        with self._translating("tidying up", tenant_id):
            table = await self._open(tenant_id, create=False)
            if table is not None:
                await tidy_up(table)

    async def check(self) -> None:
        """Raise where a folder cannot be used.

        Asks nothing of S3 before the first use: object storage has its own check, and loading
        LanceDB for a probe would cost every API process its memory.
        """
        if "://" not in self._uri:
            with self._translating("opening the folder"):
                await asyncio.to_thread(_check_folder, Path(self._uri))
        elif self._connection is not None:
            with self._translating("listing tables"):
                await self._connection.list_tables(limit=1)

    async def close(self) -> None:
        """Finish what is being written, stop upkeep, which can be cut off anywhere, and let go of the tables."""
        await asyncio.gather(*self._writers, return_exceptions=True)
        await asyncio.gather(*(upkeep.close() for upkeep in self._upkeep.values()))
        self._upkeep.clear()
        self._tables.clear()
        self._connection = None

    async def _open(self, tenant_id: str, *, create: bool) -> Any:
        """The tenant's table; None where there is none and none is to be made."""
        table = self._tables.get(tenant_id)
        if table is not None:
            return table
        async with self._opening:
            if self._connection is None:
                self._connection = await self._connect()
            name = f"{tenant_id}-{self._dimensions}"
            table = await _open_table(self._connection, name)
            if table is None and create:
                table = await _create_table(self._connection, name, self._dimensions)
            if table is not None:
                self._tables[tenant_id] = table
            return table

    async def _connect(self) -> Any:
        # Its warnings ("compaction lost against an update") would stand between our own log lines.
        os.environ.setdefault("LANCEDB_LOG", "error")
        lancedb = await asyncio.to_thread(importlib.import_module, "lancedb")
        return await lancedb.connect_async(
            self._uri,
            # Every read looks for what other processes wrote.
            read_consistency_interval=timedelta(0),
            storage_options=self._storage_options,
            # Unasked it would keep up to 7 GB.
            session=lancedb.Session(
                index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES
            ),
        )

    def _upkeep_of(self, tenant_id: str) -> TableUpkeep:
        if tenant_id not in self._upkeep:
            self._upkeep[tenant_id] = TableUpkeep(partial(self._open, tenant_id, create=False))
        return self._upkeep[tenant_id]

    @contextlib.contextmanager
    def _translating(self, doing: str, tenant_id: str | None = None) -> Iterator[None]:
        """LanceDB's errors as ours. Its texts may quote credentials, so they stay in the cause."""
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            # The table may have been removed behind our back: the next call opens it anew.
            self._tables.pop(tenant_id or "", None)
            raise IndexUnavailableError(f"The search index failed while {doing} ({type(error).__name__}).") from error


async def _open_table(connection: Any, name: str) -> Any:
    try:
        return await connection.open_table(name)
    except ValueError as error:
        if "not found" in str(error):
            return None
        raise


async def _create_table(connection: Any, name: str, dimensions: int) -> Any:
    """Make the table with its full-text index; several processes may try at once."""
    table = await connection.create_table(name, schema=row_schema(dimensions), exist_ok=True)
    await create_word_index(table)
    return table


def _check_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be read and written")

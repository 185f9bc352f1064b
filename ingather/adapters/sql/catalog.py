"""The catalog over SQLAlchemy: short transactions on threads, the hot writes in groups."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from ingather.adapters.sql import audit, batches, documents, parts
from ingather.adapters.sql.accounts import SqlAccounts, tenant_exists
from ingather.adapters.sql.audit import SqlAuditLog, noting
from ingather.adapters.sql.connections import SqlConnections
from ingather.adapters.sql.engine import WRITES, open_engine, unavailable
from ingather.adapters.sql.group_commit import GroupCommit
from ingather.adapters.sql.sheet_rows import SqlSheetRows
from ingather.adapters.sql.tables import tenants
from ingather.adapters.sql.uploads import SqlUploads
from ingather.adapters.sql.webhooks import SqlWebhooks
from ingather.models.audit import AuditEvent
from ingather.models.batch import BatchRecord, BatchState, BatchSummary, Counts, SubmissionPart, SubmissionTotals
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import BatchNotFoundError
from ingather.ports.catalog import BatchFilter, BatchTally, DocumentCost, DocumentFilter, OpenBatch, OpenTally

_Answer = TypeVar("_Answer")

_READERS: Final = 4
_PAGE: Final = 500
_STATUS_PAGE: Final = 20_000
_GROUP: Final = 200
_BLOCK: Final = 10_000
"""Rows one transaction changes: half a second in which nobody else writes to SQLite."""


@dataclass(frozen=True, slots=True)
class _HotWrite:
    """What the hot path wants written: outcomes with their events, or that documents are indexed, or no longer."""

    rows: tuple[dict[str, Any], ...] = ()
    marks: tuple[tuple[str, datetime | None], ...] = ()
    events: tuple[dict[str, Any], ...] = ()


class SqlCatalog:
    """The catalog in the database at ``url``, whose tables :func:`ingather.adapters.sql.migrate` made.

    Several processes may share a database. SQLite lets one write at a time, so a process
    writes on one thread and waits its turn among the others.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://…``.
        linger_seconds: how long an outcome waits for others to be committed with. At 300
            documents a second each costs 370 µs of CPU without waiting and 200 µs like this.
    """

    def __init__(self, url: str, *, linger_seconds: float = 0.015) -> None:
        writers = 1 if url.startswith("sqlite") else _READERS
        self._engine = open_engine(url, max_connections=_READERS + writers)
        self._reading = self._engine.execution_options(**{WRITES: False})
        self._writing = self._engine.execution_options(**{WRITES: True})
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="catalog-read")
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="catalog-write")
        self._hot = GroupCommit(self._write_group, linger_seconds=linger_seconds, most=_GROUP)
        self.accounts = SqlAccounts(self._read, self._write)
        self.audit = SqlAuditLog(self._read, self._write)
        self.connections = SqlConnections(self._read, self._write)
        self.webhooks = SqlWebhooks(self._read, self._write)
        self.sheets = SqlSheetRows(self._read, self._write)
        self.uploads = SqlUploads(self._read, self._write)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # Tenants

    async def tenant_exists(self, tenant_id: str) -> bool:
        return await self._read("look a tenant up", partial(tenant_exists, tenant_id))

    async def add_tenant(self, tenant_id: str, name: str) -> None:
        await self._write("add a tenant", partial(batches.add_tenant, tenant_id, name))

    # Batches

    async def add_batch(
        self, record: BatchRecord, part: SubmissionPart | None = None, events: Sequence[AuditEvent] = ()
    ) -> tuple[BatchRecord, bool]:
        return await self._write(
            "add a batch", noting(events, partial(batches.add, record, part), lambda answer: answer[1])
        )

    async def get_batch(self, batch_id: str, tenant_id: str | None = None) -> BatchRecord | None:
        return await self._read("read a batch", partial(batches.get, batch_id, tenant_id))

    async def list_batches(self, where: BatchFilter, limit: int, offset: int = 0) -> list[BatchRecord]:
        return await self._read("list batches", partial(batches.find, where, limit, offset))

    async def count_batches(self, where: BatchFilter) -> int:
        return await self._read("count batches", partial(batches.count, where))

    async def list_open(self, where: BatchFilter, ended_after: datetime | None = None) -> list[OpenBatch]:
        return await self._read("list open batches", partial(batches.list_open, where, ended_after))

    async def list_ended(self, where: BatchFilter, since: datetime, limit: int) -> list[str]:
        return await self._read("list ended batches", partial(batches.list_ended, where, since, limit))

    async def tally_batches(self, where: BatchFilter, one_by_one: Collection[str] = ()) -> BatchTally:
        return await self._read("add batches up", partial(batches.tally, where, list(one_by_one)))

    async def tally_open(self, tenant_id: str, one_by_one: Collection[str] = ()) -> OpenTally:
        return await self._read("add open batches up", partial(batches.tally_open, tenant_id, list(one_by_one)))

    async def list_untold(self, contracts: Sequence[str], limit: int) -> list[tuple[str, str]]:
        return await self._read("list untold batches", partial(batches.list_untold, list(contracts), limit))

    async def note_told(self, batch_id: str, version: int) -> None:
        await self._write("note a told batch", partial(batches.note_told, batch_id, version))

    async def bytes_in_flight(self, tenant_id: str) -> int:
        return await self._read("add up what is under way", partial(parts.bytes_in_flight, tenant_id))

    async def note_queued(self, batch_id: str) -> None:
        await self._write("note a batch's state", partial(batches.note_queued, batch_id))

    async def set_batch_state(
        self,
        batch_id: str,
        state: BatchState,
        document_count: int | None = None,
        *,
        before: datetime | None = None,
        version: int | None = None,
    ) -> None:
        await self._write(
            "note a batch's state",
            partial(batches.set_state, batch_id, state, document_count, before=before, version=version),
        )

    async def edit_batch(
        self,
        batch_id: str,
        *,
        name: str | None = None,
        priority: int | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> None:
        await self._write("edit a batch", noting(events, partial(batches.edit, batch_id, name, priority)))

    async def finish_batch(self, summary: BatchSummary, events: Sequence[AuditEvent] = ()) -> None:
        await self._write("finish a batch", noting(events, partial(batches.finish, summary)))

    # Parts of a submission

    async def add_part(
        self, part: SubmissionPart, max_documents: int | None = None, events: Sequence[AuditEvent] = ()
    ) -> tuple[SubmissionPart, bool, SubmissionTotals]:
        add = partial(parts.add, part, max_documents)
        return await self._write("add to a batch", noting(events, add, lambda answer: answer[1]))

    async def replace_part(self, part: SubmissionPart) -> None:
        await self._write("replace a part of a batch", partial(parts.replace, part))

    async def remove_part(self, part: SubmissionPart) -> None:
        await self._write("take back a part of a batch", partial(parts.remove, part))

    async def get_part(self, batch_id: str, part_id: str) -> SubmissionPart | None:
        return await self._read("look for a part of a batch", partial(parts.get, batch_id, part_id))

    async def count_parts(self, batch_id: str) -> SubmissionTotals:
        return await self._read("count the parts of a batch", partial(parts.count, batch_id))

    async def list_parts(self, batch_id: str) -> list[SubmissionPart]:
        return await self._read("list the parts of a batch", partial(parts.find, batch_id))

    async def seal(self, batch_id: str) -> SubmissionTotals:
        return await self._write("seal a batch", partial(parts.seal, batch_id))

    # Documents

    async def count_documents(self, batch_id: str) -> Counts:
        return await self._read("count the documents of a batch", partial(documents.count, batch_id))

    async def add_documents(self, records: Sequence[DocumentRecord]) -> None:
        await self._write("add documents", partial(documents.add, records))

    async def save_outcome(self, record: DocumentRecord, events: Sequence[AuditEvent] = ()) -> None:
        await self.save_outcomes([record], events)

    async def save_outcomes(self, records: Sequence[DocumentRecord], events: Sequence[AuditEvent] = ()) -> None:
        rows, told = tuple(map(documents.row_of, records)), tuple(audit.rows_of(events))
        await self._hot.add(_HotWrite(rows=rows, events=told))

    async def mark_indexed(self, file_ids: Sequence[str], at: datetime, replaced: Collection[str] = ()) -> None:
        marks = {**dict.fromkeys(replaced), **dict.fromkeys(file_ids, at)}
        await self._hot.add(_HotWrite(marks=tuple(marks.items())))

    async def list_indexed_otherwise(
        self, tenant_id: str, collection: str, contents: Sequence[str], fingerprint: str
    ) -> list[DocumentRecord]:
        find = partial(documents.find_indexed_otherwise, tenant_id, collection, contents, fingerprint)
        return await self._read("look for what is indexed", find)

    async def reset_documents(self, batch_id: str, ordinals: Sequence[int], before: datetime | None = None) -> None:
        for some in documents.slices(ordinals, _BLOCK):
            await self._write("reset documents", partial(documents.reset, batch_id, some, before))

    async def mark_cancelled(self, batch_id: str, ordinals: Sequence[int], at: datetime) -> None:
        for some in documents.slices(ordinals, _BLOCK):
            await self._write("cancel documents", partial(documents.cancel, batch_id, some, at))

    async def get_document(self, file_id: str, tenant_id: str | None = None) -> DocumentRecord | None:
        return await self._read("read a document", partial(documents.get, file_id, tenant_id))

    async def get_documents(self, batch_id: str, ordinals: Sequence[int]) -> list[DocumentRecord]:
        return await self._read("read documents", partial(documents.get_many, batch_id, ordinals))

    async def list_documents(self, where: DocumentFilter, limit: int) -> list[DocumentRecord]:
        return await self._read("list documents", partial(documents.find, where, limit))

    async def iterate_documents(self, batch_id: str) -> AsyncIterator[DocumentRecord]:
        after = -1
        while True:
            page = await self.list_documents(DocumentFilter(batch_id, after_ordinal=after), _PAGE)
            for record in page:
                yield record
            if len(page) < _PAGE:
                return
            after = page[-1].ordinal

    async def iterate_statuses(self, batch_id: str) -> AsyncIterator[tuple[int, DocumentStatus]]:
        after = -1
        while True:
            page = await self._read("list documents", partial(documents.statuses, batch_id, after, _STATUS_PAGE))
            for each in page:
                yield each
            if len(page) < _STATUS_PAGE:
                return
            after = page[-1][0]

    async def count_ends(self, batch_id: str, since: datetime, interval_seconds: int) -> dict[int, int]:
        counting = partial(documents.count_ends, batch_id, since, interval_seconds)
        return await self._read("count ends of documents", counting)

    async def list_costs(self, batch_id: str, limit: int) -> list[DocumentCost]:
        return await self._read("list what documents cost", partial(documents.costs, batch_id, limit))

    async def find_ingested(self, tenant_id: str, sha256: str, fingerprint: str) -> list[DocumentRecord]:
        return await self._read(
            "look for earlier documents", partial(documents.find_ingested, tenant_id, sha256, fingerprint)
        )

    async def find_ingested_among(
        self, tenant_id: str, contents: Sequence[str], fingerprint: str
    ) -> dict[str, list[DocumentRecord]]:
        return await self._read(
            "look for earlier documents", partial(documents.find_ingested_among, tenant_id, contents, fingerprint)
        )

    # Event numbers

    async def reserve_event_numbers(self, batch_id: str, count: int) -> int:
        return await self._write("reserve event numbers", partial(batches.reserve_event_numbers, batch_id, count))

    async def event_high_water(self, batch_id: str) -> int:
        return await self._read("read event numbers", partial(batches.event_high_water, batch_id))

    async def check(self) -> None:
        await self._read("answer", lambda connection: connection.scalar(select(tenants.c.tenant_id).limit(1)))

    async def close(self) -> None:
        await self._hot.close()
        for threads in (self._writers, self._readers):
            await asyncio.to_thread(threads.shutdown)
        self._engine.dispose()

    # Private

    async def _read(self, doing: str, operation: Callable[[Connection], _Answer]) -> _Answer:
        def run() -> _Answer:
            with self._reading.connect() as connection:
                return operation(connection)

        return await self._run(self._readers, doing, run)

    async def _write(self, doing: str, operation: Callable[[Connection], _Answer]) -> _Answer:
        def run() -> _Answer:
            with self._writing.begin() as connection:
                return operation(connection)

        return await self._run(self._writers, doing, run)

    async def _run(self, threads: ThreadPoolExecutor, doing: str, run: Callable[[], _Answer]) -> _Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, run)
        except SQLAlchemyError as error:
            raise unavailable(error, doing) from error

    async def _write_group(self, group: Sequence[_HotWrite]) -> Sequence[Exception | None]:
        return await asyncio.get_running_loop().run_in_executor(self._writers, self._commit_group, group)

    def _commit_group(self, group: Sequence[_HotWrite]) -> Sequence[Exception | None]:
        """All in one transaction; when a row spoils it, each in one of its own, so that only that row fails."""
        error = self._commit(group)
        if error is None or len(group) == 1 or isinstance(error, OperationalError | InterfaceError):
            return [error and _translated(error, item) for item in group]
        outcomes = [self._commit([item]) for item in group]
        return [failed and _translated(failed, item) for failed, item in zip(outcomes, group, strict=True)]

    def _commit(self, group: Sequence[_HotWrite]) -> SQLAlchemyError | None:
        rows = [row for item in group for row in item.rows]
        marks = [mark for item in group for mark in item.marks]
        events = [event for item in group for event in item.events]
        try:
            with self._writing.begin() as connection:
                if rows:
                    documents.save(rows, connection)
                if marks:
                    documents.mark_indexed(marks, connection)
                audit.insert(events, connection)
        except SQLAlchemyError as error:
            return error
        return None


def _translated(error: SQLAlchemyError, item: _HotWrite) -> Exception:
    if isinstance(error, IntegrityError) and item.rows:
        row = item.rows[0]
        missing = BatchNotFoundError(f"There is no batch {row['batch_id']} for document {row['file_id']}.")
        missing.__cause__ = error
        return missing
    translated = unavailable(error, "save documents" if isinstance(error, DBAPIError) else "take a document's row")
    translated.__cause__ = error
    return translated

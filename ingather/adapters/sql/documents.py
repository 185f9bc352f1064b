"""Rows of documents: plain functions over a connection inside a transaction."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from operator import itemgetter
from typing import Any, Final, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from ingather.adapters.sql.statements import insert_into
from ingather.adapters.sql.tables import documents
from ingather.models.batch import Counts
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import BatchNotFoundError
from ingather.ports.catalog import DocumentCost, DocumentFilter

_T = TypeVar("_T")

_MOST_INGESTED: Final = 20
_IDS_A_STATEMENT: Final = 500
_LAST_ORDINAL: Final = 2**31 - 1
"""No column has a greater one, and a database refuses to compare with what is beyond its integers."""
_MARK_INDEXED: Final = (
    update(documents).where(documents.c.file_id == bindparam("id")).values(indexed_at=bindparam("at"))
)
_DECIDED_AT: Final = func.coalesce(
    case((documents.c.status == literal_column("'cancelled'"), documents.c.ended_at)),
    documents.c.started_at,
    documents.c.ended_at,
)
"""When what a row says was set off: an attempt that started earlier has nothing to add."""
_COLUMNS: Final = [documents.c[name] for name in DocumentRecord.model_fields]
_FIND_INGESTED: Final = (
    select(*_COLUMNS)
    .where(
        # A literal, not a parameter: the partial index is used only where the query shows its condition.
        documents.c.status == literal_column("'done'"),
        documents.c.tenant_id == bindparam("tenant_id"),
        documents.c.sha256 == bindparam("sha256"),
        documents.c.fingerprint == bindparam("fingerprint"),
    )
    .order_by(documents.c.ended_at.asc().nulls_last(), documents.c.file_id)
    .limit(_MOST_INGESTED)
)
_WHICH_INGESTED: Final = (
    select(documents.c.sha256)
    .where(
        documents.c.status == literal_column("'done'"),
        documents.c.tenant_id == bindparam("tenant_id"),
        documents.c.sha256.in_(bindparam("contents", expanding=True)),
        documents.c.fingerprint == bindparam("fingerprint"),
    )
    .distinct()
)
_FIND_INDEXED_OTHERWISE: Final = select(*_COLUMNS).where(
    documents.c.status == literal_column("'done'"),
    documents.c.tenant_id == bindparam("tenant_id"),
    documents.c.sha256.in_(bindparam("contents", expanding=True)),
    documents.c.collection == bindparam("collection"),
    documents.c.fingerprint != bindparam("fingerprint"),
    documents.c.indexed_at.is_not(None),
)


def add(records: Sequence[DocumentRecord], connection: Connection) -> None:
    if not records:
        return
    statement = insert_into(connection.dialect.name, documents).on_conflict_do_nothing(index_elements=["file_id"])
    try:
        connection.execute(statement, [row_of(record) for record in records])
    except IntegrityError as error:
        raise BatchNotFoundError(f"There is no batch {records[0].batch_id} for its documents.") from error


def save(rows: Sequence[dict[str, Any]], connection: Connection) -> None:
    """Insert or replace whole rows, except where a later attempt wrote already, and that what was indexed stays indexed.

    A retry clears ``indexed_at`` first, so a row that still has it describes the same content:
    writing it once more must not take it back.
    """
    connection.execute(_save_statement(connection.dialect.name), list(rows))


@cache
def _save_statement(dialect_name: str) -> Any:
    """Built once: putting it together takes longer than running it."""
    statement = insert_into(dialect_name, documents)
    new = statement.excluded
    changes = {column.name: new[column.name] for column in documents.c if not column.primary_key}
    changes["indexed_at"] = func.coalesce(new.indexed_at, documents.c.indexed_at)
    decided_at = func.coalesce(new.started_at, new.ended_at)
    is_newer = or_(decided_at.is_(None), _DECIDED_AT.is_(None), decided_at >= _DECIDED_AT)
    return statement.on_conflict_do_update(index_elements=["file_id"], set_=changes, where=is_newer)


def mark_indexed(marks: Sequence[tuple[str, datetime | None]], connection: Connection) -> None:
    # Documents that were replaced may be marked by several batches at once: in one order, nobody waits in a circle.
    in_order = sorted(marks, key=itemgetter(0))
    connection.execute(_MARK_INDEXED, [{"id": file_id, "at": at} for file_id, at in in_order])


def reset(batch_id: str, ordinals: Sequence[int], before: datetime | None, connection: Connection) -> None:
    cleared = dict.fromkeys(("error", "error_code", "started_at", "ended_at", "indexed_at", "duplicate_of"))
    earlier = () if before is None else (or_(_DECIDED_AT.is_(None), before > _DECIDED_AT),)
    _change(batch_id, ordinals, {"status": DocumentStatus.PENDING, **cleared}, connection, *earlier)


def cancel(batch_id: str, ordinals: Sequence[int], at: datetime, connection: Connection) -> None:
    changes = {"status": DocumentStatus.CANCELLED, "error": None, "error_code": None, "ended_at": at}
    _change(batch_id, ordinals, changes, connection, or_(_DECIDED_AT.is_(None), at >= _DECIDED_AT))


def get(file_id: str, tenant_id: str | None, connection: Connection) -> DocumentRecord | None:
    query = select(*_COLUMNS).where(documents.c.file_id == file_id)
    if tenant_id is not None:
        query = query.where(documents.c.tenant_id == tenant_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else _record(row)


def get_many(batch_id: str, ordinals: Sequence[int], connection: Connection) -> list[DocumentRecord]:
    found: list[DocumentRecord] = []
    known = {ordinal for ordinal in ordinals if ordinal <= _LAST_ORDINAL}  # clients name them
    for some in slices(sorted(known), _IDS_A_STATEMENT):
        query = select(*_COLUMNS).where(documents.c.batch_id == batch_id, documents.c.ordinal.in_(some))
        found += map(_record, connection.execute(query.order_by(documents.c.ordinal)).mappings())
    return found


def find(where: DocumentFilter, limit: int, connection: Connection) -> list[DocumentRecord]:
    query = select(*_COLUMNS).where(documents.c.batch_id == where.batch_id, documents.c.ordinal > where.after_ordinal)
    if where.status is not None:
        query = query.where(documents.c.status == where.status)
    if where.error_code is not None:
        query = query.where(documents.c.error_code == where.error_code)
    query = query.order_by(documents.c.ordinal).limit(limit)
    return [_record(row) for row in connection.execute(query).mappings()]


def statuses(batch_id: str, after_ordinal: int, limit: int, connection: Connection) -> list[tuple[int, DocumentStatus]]:
    query = (
        select(documents.c.ordinal, documents.c.status)
        .where(documents.c.batch_id == batch_id, documents.c.ordinal > after_ordinal)
        .order_by(documents.c.ordinal)
        .limit(limit)
    )
    return [(ordinal, DocumentStatus(status)) for ordinal, status in connection.execute(query)]


def count(batch_id: str, connection: Connection) -> Counts:
    query = select(documents.c.status, func.count().label("documents")).where(documents.c.batch_id == batch_id)
    rows = connection.execute(query.group_by(documents.c.status))
    by_status: dict[str, int] = {row.status: row.documents for row in rows}
    return Counts(total=sum(by_status.values()), **by_status)


def costs(batch_id: str, limit: int, connection: Connection) -> list[DocumentCost]:
    columns = documents.c
    query = select(columns.ordinal, columns.status, columns.size_bytes, columns.timings_ms)
    query = query.where(columns.batch_id == batch_id).order_by(columns.ordinal).limit(limit)
    return [
        DocumentCost(row.ordinal, DocumentStatus(row.status), row.size_bytes, row.timings_ms)
        for row in connection.execute(query)
    ]


def find_ingested(tenant_id: str, sha256: str, fingerprint: str, connection: Connection) -> list[DocumentRecord]:
    wanted = {"tenant_id": tenant_id, "sha256": sha256, "fingerprint": fingerprint}
    return [_record(row) for row in connection.execute(_FIND_INGESTED, wanted).mappings()]


def find_ingested_among(
    tenant_id: str, contents: Sequence[str], fingerprint: str, connection: Connection
) -> dict[str, list[DocumentRecord]]:
    """Most contents are new, which one question settles for all of them."""
    wanted = {"tenant_id": tenant_id, "contents": sorted(set(contents)), "fingerprint": fingerprint}
    known = connection.scalars(_WHICH_INGESTED, wanted).all()
    return {sha256: find_ingested(tenant_id, sha256, fingerprint, connection) for sha256 in known}


def find_indexed_otherwise(
    tenant_id: str, collection: str, contents: Sequence[str], fingerprint: str, connection: Connection
) -> list[DocumentRecord]:
    wanted = {"tenant_id": tenant_id, "collection": collection, "fingerprint": fingerprint}
    found: list[DocumentRecord] = []
    for some in slices(sorted(set(contents)), _IDS_A_STATEMENT):
        rows = connection.execute(_FIND_INDEXED_OTHERWISE, {**wanted, "contents": some}).mappings()
        found += map(_record, rows)
    return found


def row_of(record: DocumentRecord) -> dict[str, Any]:
    row = record.model_dump()
    row["error_code"] = record.error.code if record.error else None
    return row


def _record(row: RowMapping) -> DocumentRecord:
    return DocumentRecord.model_validate(dict(row))


def _change(
    batch_id: str,
    ordinals: Sequence[int],
    changes: dict[str, Any],
    connection: Connection,
    *conditions: ColumnElement[bool],
) -> None:
    for some in slices(ordinals, _IDS_A_STATEMENT):
        these = (documents.c.batch_id == batch_id, documents.c.ordinal.in_(some), *conditions)
        connection.execute(update(documents).where(*these).values(changes))


def slices(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """All in order, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def count_ends(batch_id: str, since: datetime, interval_seconds: int, connection: Connection) -> dict[int, int]:
    ended_at = documents.c.ended_at
    is_sqlite = connection.dialect.name == "sqlite"
    seconds = func.strftime("%s", ended_at) if is_sqlite else func.floor(func.extract("epoch", ended_at))
    interval = ((cast(seconds, BigInteger) - int(since.timestamp())) // interval_seconds).label("interval")
    query = (
        select(interval, func.count())
        .where(
            documents.c.batch_id == batch_id, ended_at >= since, documents.c.status != DocumentStatus.CANCELLED.value
        )
        .group_by(interval)
    )
    return {int(number): count for number, count in connection.execute(query)}

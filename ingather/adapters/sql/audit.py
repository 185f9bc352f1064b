"""Audit events in the catalog's database: rows that are only ever added."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Connection, RowMapping, literal, literal_column, select, tuple_

from ingather.adapters.sql.statements import Run, insert_into
from ingather.adapters.sql.tables import audit_events, documents
from ingather.domain.audit import document_event_id
from ingather.models.audit import AuditEvent, ResourceType
from ingather.ports.audit import AuditFilter

_Answer = TypeVar("_Answer")

_IDS_A_STATEMENT: Final = 500
_columns: Final = audit_events.c
_IS_NO_DOCUMENT: Final = _columns.resource_type != literal_column("'document'")
"""Shown to the planner as it stands in the small index, which it uses only then."""


class SqlAuditLog:
    """Shares the catalog's connections, threads and transactions."""

    def __init__(self, read: Run, write: Run) -> None:
        self._read = read
        self._write = write

    async def record(self, events: Sequence[AuditEvent]) -> None:
        if events:
            await self._write("record what happened", partial(insert, rows_of(events)))

    async def recorded(self, event_ids: Sequence[str]) -> set[str]:
        return await self._read("look for recorded events", partial(_recorded, event_ids))

    async def list_events(self, where: AuditFilter, limit: int) -> list[AuditEvent]:
        return await self._read("list audit events", partial(_find, where, limit))


def noting(
    events: Sequence[AuditEvent],
    operation: Callable[[Connection], _Answer],
    has_changed: Callable[[_Answer], bool] = lambda _: True,
) -> Callable[[Connection], _Answer]:
    """The operation with its events in the same transaction; without them where its answer says that nothing changed."""
    if not events:
        return operation

    def noted(connection: Connection) -> _Answer:
        answer = operation(connection)
        if has_changed(answer):
            insert(rows_of(events), connection)
        return answer

    return noted


def rows_of(events: Sequence[AuditEvent]) -> list[dict[str, Any]]:
    return [event.model_dump() for event in events]


def insert(rows: Sequence[dict[str, Any]], connection: Connection) -> None:
    """Add rows; those already there stay as they are."""
    if rows:
        connection.execute(_insert_statement(connection.dialect.name), list(rows))


@cache
def _insert_statement(dialect_name: str) -> Any:
    """Built once: putting it together takes longer than running it."""
    return insert_into(dialect_name, audit_events).on_conflict_do_nothing(index_elements=["event_id"])


def _recorded(event_ids: Sequence[str], connection: Connection) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(event_ids), _IDS_A_STATEMENT):
        some = event_ids[start : start + _IDS_A_STATEMENT]
        found.update(connection.scalars(select(_columns.event_id).where(_columns.event_id.in_(some))))
    return found


def _find(where: AuditFilter, limit: int, connection: Connection) -> list[AuditEvent]:
    query = select(audit_events).where(*_conditions(where, connection))
    query = query.order_by(_columns.timestamp.desc(), _columns.event_id.desc()).limit(limit)
    return [_event(row) for row in connection.execute(query).mappings()]


def _conditions(where: AuditFilter, connection: Connection) -> list[ColumnElement[bool]]:
    conditions = [_columns.tenant_id == where.tenant_id]
    given = {name: getattr(where, name) for name in ("event_type", "resource_type", "actor")}
    conditions += [_columns[name] == value for name, value in given.items() if value is not None]
    if where.resource_id is not None:
        conditions += [_columns.resource_id == where.resource_id, _is_about(where.resource_id, connection)]
    elif _leaves_documents_out(where):
        conditions.append(_IS_NO_DOCUMENT)
    if where.since is not None:
        conditions.append(_columns.timestamp >= where.since)
    if where.until is not None:
        conditions.append(_columns.timestamp < where.until)
    if where.before is not None:
        at, event_id = where.before
        conditions.append(_columns.timestamp <= at)  # lets the index find the place
        conditions.append(
            tuple_(_columns.timestamp, _columns.event_id) < tuple_(literal(at, _columns.timestamp.type), event_id)
        )
    return conditions


def _is_about(resource_id: str, connection: Connection) -> ColumnElement[bool]:
    """A document has one event, whose id follows from the document's place: no index holds a million of them by resource."""
    place = select(documents.c.batch_id, documents.c.ordinal).where(documents.c.file_id == resource_id)
    document = connection.execute(place).first()
    if document is None:
        return _IS_NO_DOCUMENT
    return _columns.event_id == document_event_id(document.batch_id, document.ordinal)


def _leaves_documents_out(where: AuditFilter) -> bool:
    if where.resource_type is not None:
        return where.resource_type != ResourceType.DOCUMENT
    return where.event_type is not None and not where.event_type.startswith("DOCUMENT_")


def _event(row: RowMapping) -> AuditEvent:
    return AuditEvent.model_validate(dict(row))

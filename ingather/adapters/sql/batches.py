"""Rows of batches and tenants: plain functions over a connection inside a transaction."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from ingather.adapters.sql import parts
from ingather.adapters.sql.statements import insert_into
from ingather.adapters.sql.tables import OPEN, batch_sources, batches, event_numbers, submission_parts, tenants
from ingather.adapters.sql.types import clean_text
from ingather.domain.batch_sums import documents_by_source, ran_ms
from ingather.models.batch import BatchRecord, BatchState, BatchSummary, Counts, SourceProgress, SubmissionPart
from ingather.models.errors import TenantNotFoundError
from ingather.ports.catalog import BatchFilter, BatchTally, OpenBatch, OpenTally

_FINAL: Final = [state.value for state in BatchState if state.is_final]
_OPEN: Final = [state.value for state in BatchState if not state.is_final]
_NEWEST_FIRST: Final = (batches.c.created_at.desc(), batches.c.batch_id.desc())
_MOMENTS: Final = ("sealed_at", "created_at", "queued_at", "started_at", "ended_at")
_MOMENTS_OF_THE_END: Final = ("queued_at", "started_at", "ended_at")


def add_tenant(tenant_id: str, name: str, connection: Connection) -> None:
    row = {"tenant_id": tenant_id, "name": name, "created_at": datetime.now(UTC)}
    connection.execute(insert_into(connection.dialect.name, tenants).on_conflict_do_nothing(), row)


def add(record: BatchRecord, part: SubmissionPart | None, connection: Connection) -> tuple[BatchRecord, bool]:
    statement = insert_into(connection.dialect.name, batches).on_conflict_do_nothing().returning(batches.c.batch_id)
    try:
        inserted = connection.scalar(statement, _row(record)) is not None
    except IntegrityError as error:
        raise TenantNotFoundError(f"There is no tenant {record.tenant_id}.") from error
    if inserted:
        spec = record.spec
        _note_sources(record.batch_id, (spec.tenant_id, spec.contract, spec.created_by), record.sources, connection)
        if part is not None:
            parts.insert(part, connection)
        return record, True
    found = get(record.batch_id, None, connection)
    return (found or record), False


def get(batch_id: str, tenant_id: str | None, connection: Connection) -> BatchRecord | None:
    query = select(batches).where(batches.c.batch_id == batch_id)
    if tenant_id is not None:
        query = query.where(batches.c.tenant_id == tenant_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else _record(row)


def find(where: BatchFilter, limit: int, offset: int, connection: Connection) -> list[BatchRecord]:
    query = select(batches).where(*_conditions(where)).order_by(*_NEWEST_FIRST).limit(limit).offset(offset)
    return [_record(row) for row in connection.execute(query).mappings()]


def count(where: BatchFilter, connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(batches).where(*_conditions(where))) or 0


def list_open(where: BatchFilter, ended_after: datetime | None, connection: Connection) -> list[OpenBatch]:
    this = batches.c
    query = select(this.batch_id, this.created_by, this.state, this.counts, this.version).where(*_conditions(where))
    rows = list(connection.execute(query.where(OPEN).order_by(*_NEWEST_FIRST)))
    if ended_after is not None:
        rows += connection.execute(query.where(this.ended_at >= ended_after, this.state.in_(_FINAL)))
    return [
        OpenBatch(batch_id, created_by, BatchState(state), Counts(**counts), version)
        for batch_id, created_by, state, counts, version in rows
    ]


def list_ended(where: BatchFilter, since: datetime, limit: int, connection: Connection) -> list[str]:
    this = batches.c
    query = select(this.batch_id).where(*_conditions(where), this.ended_at >= since, this.state.in_(_FINAL))
    return list(connection.scalars(query.order_by(this.ended_at.desc(), this.batch_id.desc()).limit(limit)))


def tally(where: BatchFilter, one_by_one: list[str], connection: Connection) -> BatchTally:
    this = batches.c
    conditions = _conditions(BatchFilter(where.tenant_id, contract=where.contract, created_by=where.created_by))
    numbers = (func.count(), *map(func.sum, (this.done_count, this.failed_count, this.skipped_count, this.ran_ms)))
    # One statement for both, so that none is counted twice or not at all because it ends in between.
    named = case((this.state.in_(_OPEN) & this.batch_id.in_(one_by_one), this.batch_id))
    sums = select(this.state, this.priority, named, *numbers, func.count(this.ran_ms)).where(*conditions)
    by_state: Counter[BatchState] = Counter()
    noted: Counter[BatchState] = Counter()
    still_open: dict[str, BatchState] = {}
    by_priority: Counter[int] = Counter()
    ended: Counter[str] = Counter()
    for row in connection.execute(sums.group_by(this.state, this.priority, named)):
        state, priority, batch_id, jobs, done, failed, skipped, milliseconds, ran = tuple(row)
        by_priority[priority] += jobs
        # One that runs again has the numbers of its earlier end until its next.
        if batch_id is not None:
            still_open[batch_id] = BatchState(state)
        elif not BatchState(state).is_final:
            noted[BatchState(state)] += jobs
        else:
            by_state[BatchState(state)] += jobs
            ended.update(done=done, failed=failed, skipped=skipped, ran_count=ran, ran_ms=milliseconds or 0)
    each = batch_sources.c
    by_source = select(each.source_type, func.sum(each.document_count)).where(each.tenant_id == where.tenant_id)
    for column, wanted in ((each.contract, where.contract), (each.created_by, where.created_by)):
        if wanted is not None:
            by_source = by_source.where(column == wanted)
    found = connection.execute(by_source.group_by(each.source_type))
    return BatchTally(
        by_state=dict(by_state),
        noted=dict(noted),
        open=still_open,
        by_priority=dict(by_priority),
        by_source_type={source_type: int(total) for source_type, total in found},
        **{name: int(ended[name]) for name in ("done", "failed", "skipped", "ran_count", "ran_ms")},
    )


def tally_open(tenant_id: str, one_by_one: list[str], connection: Connection) -> OpenTally:
    this, part = batches.c, submission_parts.c
    named = case((this.batch_id.in_(one_by_one), this.batch_id))
    submitted = select(func.sum(part.document_count)).where(part.batch_id == this.batch_id).scalar_subquery()
    # One that takes more documents has the number of them when it begins to run.
    grows = this.spec["open"].as_boolean() & this.started_at.is_(None)
    total = case((grows, func.coalesce(submitted, 0)), else_=this.counts["total"].as_integer())
    left = func.sum(total - this.done_count - this.skipped_count)
    sums = select(this.state, named, func.count(), left).where(this.tenant_id == tenant_id, OPEN)
    noted: Counter[BatchState] = Counter()
    still_open: set[str] = set()
    documents_left = 0
    for row in connection.execute(sums.group_by(this.state, named)):
        state, batch_id, jobs, documents = tuple(row)
        if batch_id is not None:
            still_open.add(batch_id)
        else:
            noted[BatchState(state)] += jobs
            documents_left += int(documents)
    return OpenTally(dict(noted), documents_left, frozenset(still_open))


def _conditions(where: BatchFilter) -> list[ColumnElement[bool]]:
    this = batches.c
    conditions: list[ColumnElement[bool]] = [this.tenant_id == where.tenant_id]
    if where.states or where.or_ids:
        as_noted: ColumnElement[bool] = this.state.in_(where.states)
        if where.moved_ids:
            as_noted = as_noted & or_(this.state.in_(_FINAL), this.batch_id.not_in(where.moved_ids))
        conditions.append(or_(as_noted, this.batch_id.in_(where.or_ids)))
    for column, wanted in (
        (this.collection, where.collection),
        (this.contract, where.contract),
        (this.created_by, where.created_by),
    ):
        if wanted is not None:
            conditions.append(column == wanted)
    if where.text is not None:
        text = clean_text(where.text)
        is_named = this.name.icontains(text, autoescape=True)
        conditions.append(or_(is_named, this.batch_id.startswith(text.lower(), autoescape=True)))
    if where.before is not None:
        created_at, batch_id = where.before
        conditions.append(this.created_at <= created_at)  # lets the index find the place
        place = tuple_(literal(created_at, this.created_at.type), batch_id)
        conditions.append(tuple_(this.created_at, this.batch_id) < place)
    return conditions


def list_untold(contracts: list[str], limit: int, connection: Connection) -> list[tuple[str, str]]:
    this = batches.c
    has_ended = this.state.in_(_FINAL)
    by_age = func.row_number().over(partition_by=this.tenant_id, order_by=(~has_ended, this.created_at, this.batch_id))
    in_line = func.row_number().over(
        partition_by=this.tenant_id, order_by=(this.priority, this.created_at, this.batch_id)
    )
    untold = (
        select(this.tenant_id, this.batch_id, this.created_at, by_age.label("by_age"), in_line.label("in_line"))
        .where(this.contract.in_(contracts), this.is_told.is_(False))
        .subquery()
    )
    turn = case((untold.c.by_age < untold.c.in_line, untold.c.by_age), else_=untold.c.in_line)
    query = select(untold.c.tenant_id, untold.c.batch_id).order_by(turn, untold.c.created_at, untold.c.batch_id)
    return [(tenant_id, batch_id) for tenant_id, batch_id in connection.execute(query.limit(limit))]


def note_told(batch_id: str, version: int, connection: Connection) -> None:
    this_one = (batches.c.batch_id == batch_id, batches.c.version <= version, batches.c.state.in_(_FINAL))
    connection.execute(update(batches).where(*this_one).values(is_told=True))


def note_queued(batch_id: str, connection: Connection) -> None:
    this_one = (batches.c.batch_id == batch_id, batches.c.state.in_(_OPEN))
    connection.execute(update(batches).where(*this_one).values(state=BatchState.QUEUED))


def set_state(
    batch_id: str,
    state: BatchState,
    document_count: int | None,
    connection: Connection,
    *,
    before: datetime | None = None,
    version: int | None = None,
) -> None:
    changes: dict[str, Any] = {"state": state, "is_told": False}
    if document_count is not None:
        changes["counts"] = Counts(total=document_count, pending=document_count).model_dump()
    these = update(batches).where(batches.c.batch_id == batch_id)
    if before is not None:
        these = these.where(or_(batches.c.ended_at.is_(None), batches.c.ended_at < before))
    if version is not None:
        these = these.where(batches.c.version == version)
    connection.execute(these.values(changes))


def edit(batch_id: str, name: str | None, priority: int | None, connection: Connection) -> None:
    given = {"name": name, "priority": priority}
    changes = {column: value for column, value in given.items() if value is not None}
    if changes:
        connection.execute(update(batches).where(batches.c.batch_id == batch_id).values(changes))


def finish(summary: BatchSummary, connection: Connection) -> None:
    # A batch that came to nothing does not know its sources: what was selected is known all the same.
    unsaid = {"batch_id", *_MOMENTS_OF_THE_END, "rested_ms"} | (set() if summary.sources else {"sources"})
    changes = summary.model_dump(mode="json", exclude=unsaid) | {"is_told": False}
    changes |= {name: getattr(summary, name) for name in _MOMENTS_OF_THE_END}
    changes |= _counted(summary.counts)
    changes["ran_ms"] = ran_ms(summary.started_at, summary.ended_at, summary.rested_ms)
    this_one = batches.c.batch_id == summary.batch_id
    # The same end may be told again; one whose batch was opened again since has been outlived by that.
    same_end = and_(batches.c.version == summary.version, batches.c.state.in_(_FINAL))
    is_news = or_(batches.c.version < summary.version, same_end)
    done = connection.execute(update(batches).where(this_one, is_news).values(changes))
    if done.rowcount and summary.sources:
        owner = select(batches.c.tenant_id, batches.c.contract, batches.c.created_by).where(this_one)
        _note_sources(summary.batch_id, connection.execute(owner).one(), summary.sources, connection)


def reserve_event_numbers(batch_id: str, count: int, connection: Connection) -> int:
    statement = insert_into(connection.dialect.name, event_numbers)
    statement = statement.on_conflict_do_update(
        index_elements=["batch_id"], set_={"reserved": event_numbers.c.reserved + statement.excluded.reserved}
    ).returning(event_numbers.c.reserved)
    reserved = connection.scalar(statement, {"batch_id": batch_id, "reserved": count})
    return int(reserved) - count


def event_high_water(batch_id: str, connection: Connection) -> int:
    query = select(event_numbers.c.reserved).where(event_numbers.c.batch_id == batch_id)
    return connection.scalar(query) or 0


def _row(record: BatchRecord) -> dict[str, Any]:
    row = record.model_dump(mode="json", exclude=set(_MOMENTS))
    moments = {name: getattr(record, name) for name in _MOMENTS}
    of_the_spec = {name: getattr(record.spec, name) for name in ("collection", "contract", "created_by")}
    return {**row, **moments, **of_the_spec, **_counted(record.counts)}


def _counted(counts: Counts) -> dict[str, int]:
    """What is added up, in columns of its own."""
    return {"done_count": counts.done, "failed_count": counts.failed, "skipped_count": counts.skipped}


def _note_sources(
    batch_id: str, owner: Sequence[str], sources: Iterable[SourceProgress], connection: Connection
) -> None:
    connection.execute(delete(batch_sources).where(batch_sources.c.batch_id == batch_id))
    tenant_id, contract, created_by = owner
    of_the_batch = {"batch_id": batch_id, "tenant_id": tenant_id, "contract": contract, "created_by": created_by}
    rows = [
        {**of_the_batch, "source_type": source_type, "document_count": document_count}
        for source_type, document_count in documents_by_source(sources).items()
    ]
    if rows:
        connection.execute(insert(batch_sources), rows)


def _record(row: RowMapping) -> BatchRecord:
    return BatchRecord.model_validate({name: row[name] for name in BatchRecord.model_fields})

"""Rows of submission parts: plain functions over a connection inside a transaction."""

from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, select, update

from ingather.adapters.sql.statements import insert_into
from ingather.adapters.sql.tables import batches, submission_parts
from ingather.domain.submission_parts import check_room, check_sealable, check_takes_more
from ingather.models.batch import BatchState, SubmissionPart, SubmissionTotals
from ingather.models.errors import BatchNotFoundError


def insert(part: SubmissionPart, connection: Connection) -> None:
    connection.execute(submission_parts.insert(), part.model_dump())


def add(
    part: SubmissionPart, max_documents: int | None, connection: Connection
) -> tuple[SubmissionPart, bool, SubmissionTotals]:
    state, sealed_at = _locked(part.batch_id, connection)
    known = get(part.batch_id, part.part_id, connection)
    totals = count(part.batch_id, connection)
    if known is not None:
        return known, False, totals
    check_takes_more(state, is_sealed=sealed_at is not None)
    check_room(totals, part, max_documents)
    highest = select(func.max(submission_parts.c.number)).where(submission_parts.c.batch_id == part.batch_id)
    number = connection.scalar(highest)
    added = part.model_copy(update={"number": 0 if number is None else number + 1})
    insert(added, connection)
    return added, True, totals.plus(added)


def replace(part: SubmissionPart, connection: Connection) -> None:
    _locked(part.batch_id, connection)
    row = part.model_dump()
    statement = insert_into(connection.dialect.name, submission_parts).on_conflict_do_update(
        index_elements=["batch_id", "part_id"],
        set_={name: value for name, value in row.items() if name not in {"batch_id", "part_id", "number"}},
    )
    connection.execute(statement, row)


def remove(part: SubmissionPart, connection: Connection) -> None:
    connection.execute(
        delete(submission_parts).where(
            submission_parts.c.batch_id == part.batch_id,
            submission_parts.c.part_id == part.part_id,
            submission_parts.c.key == part.key,
        )
    )


def get(batch_id: str, part_id: str, connection: Connection) -> SubmissionPart | None:
    this_one = (submission_parts.c.batch_id == batch_id, submission_parts.c.part_id == part_id)
    row = connection.execute(select(submission_parts).where(*this_one)).mappings().first()
    return None if row is None else SubmissionPart.model_validate(dict(row))


def count(batch_id: str, connection: Connection) -> SubmissionTotals:
    sums = (
        func.count(),
        func.coalesce(func.sum(submission_parts.c.document_count), 0),
        func.coalesce(func.sum(submission_parts.c.size_bytes), 0),
    )
    row = connection.execute(select(*sums).where(submission_parts.c.batch_id == batch_id)).one()
    return SubmissionTotals(part_count=row[0], document_count=row[1], size_bytes=row[2])


def bytes_in_flight(tenant_id: str, connection: Connection) -> int:
    ended = [state for state in BatchState if state.is_final]
    query = select(func.coalesce(func.sum(submission_parts.c.size_bytes), 0)).join_from(
        batches, submission_parts, submission_parts.c.batch_id == batches.c.batch_id
    )
    return int(connection.scalar(query.where(batches.c.tenant_id == tenant_id, batches.c.state.not_in(ended))) or 0)


def find(batch_id: str, connection: Connection) -> list[SubmissionPart]:
    query = select(submission_parts).where(submission_parts.c.batch_id == batch_id).order_by(submission_parts.c.number)
    return [SubmissionPart.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def seal(batch_id: str, connection: Connection) -> SubmissionTotals:
    state, sealed_at = _locked(batch_id, connection)
    totals = count(batch_id, connection)
    if sealed_at is None:
        check_sealable(state, totals)
        connection.execute(update(batches).where(batches.c.batch_id == batch_id).values(sealed_at=datetime.now(UTC)))
    return totals


def _locked(batch_id: str, connection: Connection) -> tuple[BatchState, datetime | None]:
    """The batch's row, held until the transaction ends: parts are numbered and sealed one after the other."""
    query = select(batches.c.state, batches.c.sealed_at).where(batches.c.batch_id == batch_id).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        raise BatchNotFoundError(f"There is no batch {batch_id}.")
    return BatchState(row.state), row.sealed_at

"""The catalog in dictionaries."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from ingather.adapters.memory.accounts import InMemoryAccounts
from ingather.adapters.memory.audit import InMemoryAuditLog
from ingather.adapters.memory.connections import InMemoryConnections
from ingather.adapters.memory.sheet_rows import InMemorySheetRows
from ingather.adapters.memory.uploads import InMemoryUploads
from ingather.adapters.memory.webhooks import InMemoryWebhooks
from ingather.domain.batch_state import outlives
from ingather.domain.batch_sums import documents_by_source, ran_ms
from ingather.domain.submission_parts import check_room, check_sealable, check_takes_more
from ingather.models.accounts import Tenant
from ingather.models.audit import AuditEvent
from ingather.models.batch import BatchRecord, BatchState, BatchSummary, Counts, SubmissionPart, SubmissionTotals
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import BatchNotFoundError, TenantNotFoundError
from ingather.ports.catalog import BatchFilter, BatchTally, DocumentCost, DocumentFilter, OpenBatch, OpenTally

_MOST_INGESTED = 20


class InMemoryCatalog:
    """Knows the default tenant from the start."""

    def __init__(self) -> None:
        self.audit = InMemoryAuditLog()
        self.accounts = InMemoryAccounts(self.audit)
        self.connections = InMemoryConnections(self.accounts, self.audit)
        self.webhooks = InMemoryWebhooks(self.accounts, self.audit)
        self.sheets = InMemorySheetRows()
        self.uploads = InMemoryUploads(self.accounts)
        self._batches: dict[str, BatchRecord] = {}
        self._documents: dict[str, DocumentRecord] = {}
        self._ordinals: dict[str, dict[int, str]] = {}
        """File ids by batch and ordinal."""
        self._parts: dict[str, dict[str, SubmissionPart]] = {}
        """By batch and part id."""
        self._event_numbers: dict[str, int] = {}

    # Tenants

    async def tenant_exists(self, tenant_id: str) -> bool:
        return await self.accounts.get_tenant(tenant_id) is not None

    async def add_tenant(self, tenant_id: str, name: str) -> None:
        await self.accounts.add_tenant(Tenant(tenant_id=tenant_id, name=name, created_at=datetime.now(UTC)))

    # Batches

    async def add_batch(
        self, record: BatchRecord, part: SubmissionPart | None = None, events: Sequence[AuditEvent] = ()
    ) -> tuple[BatchRecord, bool]:
        if not await self.tenant_exists(record.tenant_id):
            raise TenantNotFoundError(f"There is no tenant {record.tenant_id}.")
        if record.batch_id in self._batches:
            return self._batches[record.batch_id], False
        self._batches[record.batch_id] = record
        if part is not None:
            self._parts[record.batch_id] = {part.part_id: part}
        await self.audit.record(events)
        return record, True

    async def get_batch(self, batch_id: str, tenant_id: str | None = None) -> BatchRecord | None:
        found = self._batches.get(batch_id)
        return found if found is not None and tenant_id in {None, found.tenant_id} else None

    async def list_batches(self, where: BatchFilter, limit: int, offset: int = 0) -> list[BatchRecord]:
        return self._matching(where)[offset : offset + limit]

    async def count_batches(self, where: BatchFilter) -> int:
        return len(self._matching(where))

    async def list_open(self, where: BatchFilter, ended_after: datetime | None = None) -> list[OpenBatch]:
        matching = self._matching(where)
        found = [record for record in matching if not record.state.is_final]
        if ended_after is not None:
            found += [r for r in matching if r.state.is_final and r.ended_at is not None and r.ended_at >= ended_after]
        return [OpenBatch(r.batch_id, r.spec.created_by, r.state, r.counts, r.version) for r in found]

    async def list_ended(self, where: BatchFilter, since: datetime, limit: int) -> list[str]:
        ends = [(r.ended_at, r.batch_id) for r in self._matching(where) if r.state.is_final and r.ended_at is not None]
        return [batch_id for ended_at, batch_id in sorted(ends, reverse=True)[:limit] if ended_at >= since]

    async def tally_batches(self, where: BatchFilter, one_by_one: Collection[str] = ()) -> BatchTally:
        wanted = BatchFilter(where.tenant_id, contract=where.contract, created_by=where.created_by)
        records = self._matching(wanted)
        ended = [record for record in records if record.state.is_final]
        unended = [record for record in records if not record.state.is_final]
        ran = [record.ran_ms for record in ended]
        return BatchTally(
            by_state=dict(Counter(record.state for record in ended)),
            noted=dict(Counter(record.state for record in unended if record.batch_id not in one_by_one)),
            open={record.batch_id: record.state for record in unended if record.batch_id in one_by_one},
            by_priority=dict(Counter(record.priority for record in records)),
            by_source_type=dict(sum((documents_by_source(record.sources) for record in records), Counter[str]())),
            done=sum(record.counts.done for record in ended),
            failed=sum(record.counts.failed for record in ended),
            skipped=sum(record.counts.skipped for record in ended),
            ran_count=sum(each is not None for each in ran),
            ran_ms=sum(filter(None, ran)),
        )

    async def tally_open(self, tenant_id: str, one_by_one: Collection[str] = ()) -> OpenTally:
        unended = [record for record in self._matching(BatchFilter(tenant_id)) if not record.state.is_final]
        noted = [record for record in unended if record.batch_id not in one_by_one]
        return OpenTally(
            noted=dict(Counter(record.state for record in noted)),
            documents_left=sum([await self._left_of(record) for record in noted]),
            open=frozenset(record.batch_id for record in unended if record.batch_id in one_by_one),
        )

    async def _left_of(self, record: BatchRecord) -> int:
        grows = record.spec.open and record.started_at is None
        total = (await self.count_parts(record.batch_id)).document_count if grows else record.counts.total
        return total - record.counts.done - record.counts.skipped

    def _matching(self, where: BatchFilter) -> list[BatchRecord]:
        """Newest first."""
        found = [
            record
            for record in self._batches.values()
            if record.tenant_id == where.tenant_id
            and (
                not (where.states or where.or_ids)
                or (record.state in where.states and (record.state.is_final or record.batch_id not in where.moved_ids))
                or record.batch_id in where.or_ids
            )
            and where.collection in {None, record.spec.collection}
            and where.contract in {None, record.spec.contract}
            and where.created_by in {None, record.spec.created_by}
            and (where.text is None or _is_called(record, where.text))
            and (where.before is None or (record.created_at, record.batch_id) < where.before)
        ]
        found.sort(key=lambda record: (record.created_at, record.batch_id), reverse=True)
        return found

    async def list_untold(self, contracts: Sequence[str], limit: int) -> list[tuple[str, str]]:
        untold = [r for r in self._batches.values() if r.spec.contract in contracts and not r.is_told]
        turns = _turns(untold, lambda r: (not r.state.is_final, r.created_at, r.batch_id))
        in_line = _turns(untold, lambda r: (r.priority, r.created_at, r.batch_id))
        untold.sort(key=lambda r: (min(turns[r.batch_id], in_line[r.batch_id]), r.created_at, r.batch_id))
        return [(record.tenant_id, record.batch_id) for record in untold[:limit]]

    async def note_told(self, batch_id: str, version: int) -> None:
        found = self._batches.get(batch_id)
        if found is not None and found.version <= version and found.state.is_final:
            self._edit_batch(batch_id, {"is_told": True})

    async def bytes_in_flight(self, tenant_id: str) -> int:
        open_batches = [
            record.batch_id
            for record in self._batches.values()
            if record.tenant_id == tenant_id and not record.state.is_final
        ]
        return sum([(await self.count_parts(batch_id)).size_bytes for batch_id in open_batches])

    async def note_queued(self, batch_id: str) -> None:
        found = self._batches.get(batch_id)
        if found is not None and not found.state.is_final:
            self._edit_batch(batch_id, {"state": BatchState.QUEUED})

    async def set_batch_state(
        self,
        batch_id: str,
        state: BatchState,
        document_count: int | None = None,
        *,
        before: datetime | None = None,
        version: int | None = None,
    ) -> None:
        found = self._batches.get(batch_id)
        if found is not None and before is not None and found.ended_at is not None and found.ended_at >= before:
            return
        if found is not None and version is not None and found.version != version:
            return
        counts = {} if document_count is None else {"counts": Counts(total=document_count, pending=document_count)}
        self._edit_batch(batch_id, {"state": state, "is_told": False, **counts})

    async def edit_batch(
        self,
        batch_id: str,
        *,
        name: str | None = None,
        priority: int | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> None:
        self._edit_batch(batch_id, _given(name=name, priority=priority))
        await self.audit.record(events)

    async def finish_batch(self, summary: BatchSummary, events: Sequence[AuditEvent] = ()) -> None:
        await self.audit.record(events)
        found = self._batches.get(summary.batch_id)
        if found is not None and not outlives(found, summary):
            said = {name: getattr(summary, name) for name in type(summary).model_fields if name != "rested_ms"}
            said["ran_ms"] = ran_ms(summary.started_at, summary.ended_at, summary.rested_ms)
            said["sources"] = summary.sources or found.sources
            self._edit_batch(summary.batch_id, {**said, "is_told": False})

    def _edit_batch(self, batch_id: str, changes: dict[str, Any]) -> None:
        found = self._batches.get(batch_id)
        if found is not None:
            self._batches[batch_id] = found.model_copy(update=changes)

    # Parts of a submission

    async def add_part(
        self, part: SubmissionPart, max_documents: int | None = None, events: Sequence[AuditEvent] = ()
    ) -> tuple[SubmissionPart, bool, SubmissionTotals]:
        batch = self._batch(part.batch_id)
        known = self._parts.setdefault(part.batch_id, {})
        totals = await self.count_parts(part.batch_id)
        if part.part_id in known:
            return known[part.part_id], False, totals
        check_takes_more(batch.state, is_sealed=batch.sealed_at is not None)
        check_room(totals, part, max_documents)
        number = max((other.number for other in known.values()), default=-1) + 1
        added = known[part.part_id] = part.model_copy(update={"number": number})
        await self.audit.record(events)
        return added, True, totals.plus(added)

    async def replace_part(self, part: SubmissionPart) -> None:
        self._batch(part.batch_id)
        known = self._parts.setdefault(part.batch_id, {})
        number = known[part.part_id].number if part.part_id in known else part.number
        known[part.part_id] = part.model_copy(update={"number": number})

    async def remove_part(self, part: SubmissionPart) -> None:
        known = self._parts.get(part.batch_id, {})
        if part.part_id in known and known[part.part_id].key == part.key:
            del known[part.part_id]

    async def get_part(self, batch_id: str, part_id: str) -> SubmissionPart | None:
        return self._parts.get(batch_id, {}).get(part_id)

    async def count_parts(self, batch_id: str) -> SubmissionTotals:
        totals = SubmissionTotals()
        for part in self._parts.get(batch_id, {}).values():
            totals = totals.plus(part)
        return totals

    async def list_parts(self, batch_id: str) -> list[SubmissionPart]:
        return sorted(self._parts.get(batch_id, {}).values(), key=lambda part: part.number)

    async def seal(self, batch_id: str) -> SubmissionTotals:
        batch, totals = self._batch(batch_id), await self.count_parts(batch_id)
        if batch.sealed_at is None:
            check_sealable(batch.state, totals)
            self._edit_batch(batch_id, {"sealed_at": datetime.now(UTC)})
        return totals

    def _batch(self, batch_id: str) -> BatchRecord:
        if batch_id not in self._batches:
            raise BatchNotFoundError(f"There is no batch {batch_id}.")
        return self._batches[batch_id]

    # Documents

    async def count_documents(self, batch_id: str) -> Counts:
        records = [self._documents[file_id] for file_id in self._ordinals.get(batch_id, {}).values()]
        return Counts(total=len(records), **Counter(record.status.value for record in records))

    async def add_documents(self, records: Sequence[DocumentRecord]) -> None:
        for record in records:
            self._must_have_batch(record)
        for record in records:
            if record.file_id not in self._documents:
                self._store(record)

    async def save_outcome(self, record: DocumentRecord, events: Sequence[AuditEvent] = ()) -> None:
        self._must_have_batch(record)
        await self.audit.record(events)
        found = self._documents.get(record.file_id)
        if found is not None and _is_late(record, found):
            return
        if found is not None and record.indexed_at is None:
            # A retry clears it first, so what has it already is the same content with the same chunks.
            record = record.model_copy(update={"indexed_at": found.indexed_at})
        self._store(record)

    async def save_outcomes(self, records: Sequence[DocumentRecord], events: Sequence[AuditEvent] = ()) -> None:
        for record in records:
            self._must_have_batch(record)
        for record in records:
            await self.save_outcome(record)
        await self.audit.record(events)

    async def mark_indexed(self, file_ids: Sequence[str], at: datetime, replaced: Collection[str] = ()) -> None:
        for file_id, indexed_at in {**dict.fromkeys(replaced), **dict.fromkeys(file_ids, at)}.items():
            if file_id in self._documents:
                self._store(self._documents[file_id].model_copy(update={"indexed_at": indexed_at}))

    async def list_indexed_otherwise(
        self, tenant_id: str, collection: str, contents: Sequence[str], fingerprint: str
    ) -> list[DocumentRecord]:
        return [
            record
            for record in self._documents.values()
            if record.status is DocumentStatus.DONE
            and (record.tenant_id, record.collection) == (tenant_id, collection)
            and record.sha256 in contents
            and record.fingerprint != fingerprint
            and record.indexed_at is not None
        ]

    async def reset_documents(self, batch_id: str, ordinals: Sequence[int], before: datetime | None = None) -> None:
        changes = {
            "status": DocumentStatus.PENDING,
            "error": None,
            "started_at": None,
            "ended_at": None,
            "indexed_at": None,
            "duplicate_of": None,
        }
        for record in self._select(batch_id, ordinals):
            decided_at = _decided_at(record)
            if before is None or decided_at is None or decided_at < before:
                self._store(record.model_copy(update=changes))

    async def mark_cancelled(self, batch_id: str, ordinals: Sequence[int], at: datetime) -> None:
        for record in self._select(batch_id, ordinals):
            decided_at = _decided_at(record)
            if decided_at is None or decided_at <= at:
                changes = {"status": DocumentStatus.CANCELLED, "error": None, "ended_at": at}
                self._store(record.model_copy(update=changes))

    async def get_document(self, file_id: str, tenant_id: str | None = None) -> DocumentRecord | None:
        found = self._documents.get(file_id)
        return found if found is not None and tenant_id in {None, found.tenant_id} else None

    async def get_documents(self, batch_id: str, ordinals: Sequence[int]) -> list[DocumentRecord]:
        return list(self._select(batch_id, sorted(set(ordinals))))

    async def list_documents(self, where: DocumentFilter, limit: int) -> list[DocumentRecord]:
        found = [
            record
            for record in self._in_order(where.batch_id)
            if record.ordinal > where.after_ordinal
            and where.status in {None, record.status}
            and (where.error_code is None or (record.error is not None and record.error.code == where.error_code))
        ]
        return found[:limit]

    async def iterate_documents(self, batch_id: str) -> AsyncIterator[DocumentRecord]:
        for record in self._in_order(batch_id):
            yield record

    async def iterate_statuses(self, batch_id: str) -> AsyncIterator[tuple[int, DocumentStatus]]:
        for record in self._in_order(batch_id):
            yield record.ordinal, record.status

    async def count_ends(self, batch_id: str, since: datetime, interval_seconds: int) -> dict[int, int]:
        ends = [
            document.ended_at
            for document in self._documents.values()
            if document.batch_id == batch_id and document.status is not DocumentStatus.CANCELLED
        ]
        begin = int(since.timestamp())
        return dict(
            Counter((int(at.timestamp()) - begin) // interval_seconds for at in ends if at is not None and at >= since)
        )

    async def list_costs(self, batch_id: str, limit: int) -> list[DocumentCost]:
        return [
            DocumentCost(record.ordinal, record.status, record.size_bytes, record.timings_ms)
            for record in islice(self._in_order(batch_id), limit)
        ]

    async def find_ingested(self, tenant_id: str, sha256: str, fingerprint: str) -> list[DocumentRecord]:
        found = [
            record
            for record in self._documents.values()
            if record.status is DocumentStatus.DONE
            and (record.tenant_id, record.sha256, record.fingerprint) == (tenant_id, sha256, fingerprint)
        ]
        found.sort(key=lambda record: (record.ended_at or datetime.max.replace(tzinfo=UTC), record.file_id))
        return found[:_MOST_INGESTED]

    async def find_ingested_among(
        self, tenant_id: str, contents: Sequence[str], fingerprint: str
    ) -> dict[str, list[DocumentRecord]]:
        found = {sha256: await self.find_ingested(tenant_id, sha256, fingerprint) for sha256 in contents}
        return {sha256: records for sha256, records in found.items() if records}

    def _must_have_batch(self, record: DocumentRecord) -> None:
        if record.batch_id not in self._batches:
            raise BatchNotFoundError(f"There is no batch {record.batch_id} for document {record.file_id}.")

    def _store(self, record: DocumentRecord) -> None:
        self._documents[record.file_id] = record
        self._ordinals.setdefault(record.batch_id, {})[record.ordinal] = record.file_id

    def _select(self, batch_id: str, ordinals: Sequence[int]) -> Iterator[DocumentRecord]:
        known = self._ordinals.get(batch_id, {})
        return (self._documents[known[ordinal]] for ordinal in ordinals if ordinal in known)

    def _in_order(self, batch_id: str) -> list[DocumentRecord]:
        return list(self._select(batch_id, sorted(self._ordinals.get(batch_id, {}))))

    # Event numbers

    async def reserve_event_numbers(self, batch_id: str, count: int) -> int:
        before = self._event_numbers.get(batch_id, 0)
        self._event_numbers[batch_id] = before + count
        return before

    async def event_high_water(self, batch_id: str) -> int:
        return self._event_numbers.get(batch_id, 0)

    async def check(self) -> None:
        """Dictionaries always answer."""

    async def close(self) -> None:
        """Nothing to release."""


def _is_late(record: DocumentRecord, found: DocumentRecord) -> bool:
    """Whether an outcome comes from an attempt that began before what the row says was set off."""
    began_at, decided_at = record.started_at or record.ended_at, _decided_at(found)
    return began_at is not None and decided_at is not None and began_at < decided_at


def _decided_at(record: DocumentRecord) -> datetime | None:
    """When what a row says was set off."""
    cancelled_at = record.ended_at if record.status is DocumentStatus.CANCELLED else None
    return cancelled_at or record.started_at or record.ended_at


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _turns(records: Sequence[BatchRecord], order: Callable[[BatchRecord], tuple[Any, ...]]) -> dict[str, int]:
    """Each batch's place among those of its tenant."""
    passed: Counter[str] = Counter()
    turns = {}
    for record in sorted(records, key=order):
        turns[record.batch_id] = passed[record.tenant_id]
        passed[record.tenant_id] += 1
    return turns


def _is_called(record: BatchRecord, text: str) -> bool:
    return text.lower() in record.name.lower() or record.batch_id.startswith(text.lower())

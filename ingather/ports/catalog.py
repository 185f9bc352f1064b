"""What outlives a workflow: batches, documents, tenants, in SQL."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ingather.models.audit import AuditEvent
from ingather.models.batch import BatchRecord, BatchState, BatchSummary, Counts, SubmissionPart, SubmissionTotals
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.ports.accounts import Accounts
from ingather.ports.audit import AuditLog
from ingather.ports.connections import Connections
from ingather.ports.sheet_rows import SheetRows
from ingather.ports.uploads import Uploads
from ingather.ports.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """Which batches to list, all conditions together."""

    tenant_id: str
    states: tuple[BatchState, ...] = ()
    """As the catalog knows them, which is how they ended, and of the others little; empty for all."""
    collection: str | None = None
    before: tuple[datetime, str] | None = None
    """Keyset cursor: created at and batch id of the last one seen; newest first."""
    contract: str | None = None
    created_by: str | None = None
    or_ids: tuple[str, ...] = ()
    """Beside those in ``states``, these."""
    moved_ids: tuple[str, ...] = ()
    """These have left the state that was noted of them: they are found by how they ended, or as one of ``or_ids``."""
    text: str | None = None
    """Within their name, in capitals or not, or what their id begins with."""


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that has not ended, or has just, as far as the catalog knows it."""

    batch_id: str
    created_by: str
    state: BatchState
    counts: Counts
    version: int


@dataclass(frozen=True, slots=True)
class BatchTally:
    """All batches of a filter, added up."""

    by_state: dict[BatchState, int] = field(default_factory=dict)
    """Those that have ended."""
    noted: dict[BatchState, int] = field(default_factory=dict)
    """Those that have not, by the state that was noted last, but for those in ``open``."""
    open: dict[str, BatchState] = field(default_factory=dict)
    """Of those that have not, the ones that were asked for by id. Each batch counts once, whatever happens meanwhile."""
    by_priority: dict[int, int] = field(default_factory=dict)
    by_source_type: dict[str, int] = field(default_factory=dict)
    """Documents of all of them, whatever became of them."""
    done: int = 0
    """Documents of batches that have ended, as the two that follow."""
    failed: int = 0
    skipped: int = 0
    ran_count: int = 0
    """Batches that have ended and had begun to run."""
    ran_ms: int = 0
    """How long those took, from their first document to their end, all together."""


@dataclass(frozen=True, slots=True)
class OpenTally:
    """A tenant's batches that have not ended, added up."""

    noted: dict[BatchState, int] = field(default_factory=dict)
    """By the state that was noted last, but for those in ``open``."""
    documents_left: int = 0
    """Of those in ``noted``: documents to come. Of one that waits for a retry, all that failed."""
    open: frozenset[str] = frozenset()
    """The ones that were asked for by id."""


@dataclass(frozen=True, slots=True)
class DocumentCost:
    """How large a document is and what it took so far."""

    ordinal: int
    status: DocumentStatus
    size_bytes: int | None
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """Which documents of a batch to list, in ordinal order."""

    batch_id: str
    status: DocumentStatus | None = None
    error_code: str | None = None
    after_ordinal: int = -1


class Catalog(Protocol):
    """Every write is idempotent. Methods raise ``CatalogUnavailableError``; none blocks the event loop.

    ``events`` are recorded together with what they tell of, or neither is.
    """

    @property
    def accounts(self) -> Accounts:
        """Tenants with their settings, users and API keys."""
        ...

    @property
    def connections(self) -> Connections:
        """Ways to sources."""
        ...

    @property
    def webhooks(self) -> Webhooks:
        """Where events of batches are sent, and what became of them."""
        ...

    @property
    def sheets(self) -> SheetRows:
        """Results of scanned sheets."""
        ...

    @property
    def uploads(self) -> Uploads:
        """Files that come in pieces."""
        ...

    @property
    def audit(self) -> AuditLog:
        """Who did what."""
        ...

    async def tenant_exists(self, tenant_id: str) -> bool: ...

    async def add_tenant(self, tenant_id: str, name: str) -> None:
        """Register a tenant; the same id again changes nothing."""
        ...

    async def add_batch(
        self, record: BatchRecord, part: SubmissionPart | None = None, events: Sequence[AuditEvent] = ()
    ) -> tuple[BatchRecord, bool]:
        """Insert a batch and its first part, both or neither; with an id already there, answer the one there and False."""
        ...

    async def get_batch(self, batch_id: str, tenant_id: str | None = None) -> BatchRecord | None:
        """None when unknown, or another tenant's."""
        ...

    async def list_batches(self, where: BatchFilter, limit: int, offset: int = 0) -> list[BatchRecord]: ...

    async def count_batches(self, where: BatchFilter) -> int: ...

    async def list_open(self, where: BatchFilter, ended_after: datetime | None = None) -> list[OpenBatch]:
        """Those that have not ended, newest first, with no more of them than that; then those that ended since a moment."""
        ...

    async def list_ended(self, where: BatchFilter, since: datetime, limit: int) -> list[str]:
        """Ids of those that ended at a moment or later, the last first."""
        ...

    async def tally_batches(self, where: BatchFilter, one_by_one: Collection[str] = ()) -> BatchTally:
        """The batches of a tenant, contract and user added up; other conditions do not count. Quick for many thousands.

        Those in ``one_by_one`` are named in ``open`` as long as they have not ended; a few thousand at most.
        """
        ...

    async def tally_open(self, tenant_id: str, one_by_one: Collection[str] = ()) -> OpenTally:
        """The same of a tenant's batches that have not ended, those in ``one_by_one`` named."""
        ...

    async def list_untold(self, contracts: Sequence[str], limit: int) -> list[tuple[str, str]]:
        """Tenant and id of batches of these contracts whose end was not told yet. Cheap to ask again.

        Tenants take turns, so that none has all the places. Among a tenant's, those that ended come before the oldest,
        side by side with the first in its waiting line: whichever runs is one of those.
        """
        ...

    async def note_told(self, batch_id: str, version: int) -> None:
        """How the batch ended in this version is told; nothing happens when it runs again, or ended later once more.

        A batch that is opened again, or finished once more, is untold again.
        """
        ...

    async def bytes_in_flight(self, tenant_id: str) -> int:
        """Submitted bytes of the tenant's batches that have not ended."""
        ...

    async def note_queued(self, batch_id: str) -> None:
        """The batch stands in its tenant's line; nothing happens where it has ended, or is not there."""
        ...

    async def set_batch_state(
        self,
        batch_id: str,
        state: BatchState,
        document_count: int | None = None,
        *,
        before: datetime | None = None,
        version: int | None = None,
    ) -> None:
        """Note a state (and the total, once known) of a batch under way.

        With ``before``, unless it ended since then; with ``version``, unless a last word of another version is there.
        """
        ...

    async def edit_batch(
        self,
        batch_id: str,
        *,
        name: str | None = None,
        priority: int | None = None,
        events: Sequence[AuditEvent] = (),
    ) -> None:
        """Change what is named. ``events`` are recorded in the same step."""
        ...

    async def finish_batch(self, summary: BatchSummary, events: Sequence[AuditEvent] = ()) -> None:
        """Write how a batch ended. A later version wins over an earlier one, never the other way.

        Where the summary has no sources, those that are there stay.
        """
        ...

    async def add_part(
        self, part: SubmissionPart, max_documents: int | None = None, events: Sequence[AuditEvent] = ()
    ) -> tuple[SubmissionPart, bool, SubmissionTotals]:
        """Put a part behind the others of an open batch: the part as it stands, whether it is new, all there is now.

        One with the same id is answered as it was first, also when the batch was sealed since. ``events`` are recorded
        with a new one.
        Raises ``BatchNotFoundError``, ``InvalidStateError`` for a batch that is sealed or ended, and
        ``BatchTooLargeError`` where the batch would have more than ``max_documents``.
        """
        ...

    async def replace_part(self, part: SubmissionPart) -> None:
        """Let a part's id stand for this object from now on, in its old place; a missing one is put first.

        Whatever the batch's state: a submission that broke off is completed with it.
        """
        ...

    async def remove_part(self, part: SubmissionPart) -> None:
        """Take a part back, where its id still stands for this very object."""
        ...

    async def get_part(self, batch_id: str, part_id: str) -> SubmissionPart | None: ...

    async def count_parts(self, batch_id: str) -> SubmissionTotals:
        """What was handed in so far."""
        ...

    async def list_parts(self, batch_id: str) -> list[SubmissionPart]:
        """In the order of their numbers."""
        ...

    async def seal(self, batch_id: str) -> SubmissionTotals:
        """No part comes any more; answers what there is. Sealing again changes nothing.

        Raises ``BatchNotFoundError``, ``EmptyBatchError`` where nothing was handed in, and
        ``InvalidStateError`` for a batch that ended unsealed.
        """
        ...

    async def count_documents(self, batch_id: str) -> Counts:
        """Where its documents stand by their rows: none is in flight there. All zero for an unknown batch."""
        ...

    async def add_documents(self, records: Sequence[DocumentRecord]) -> None:
        """Insert rows; those already there stay as they are."""
        ...

    async def save_outcome(self, record: DocumentRecord, events: Sequence[AuditEvent] = ()) -> None:
        """Write how a document ended, over whatever an earlier attempt wrote.

        Nothing is written when the row is from an attempt that started later, or was cancelled since this one
        started: it was given up for dead and wrote too late. ``started_at`` is Temporal's own time of the attempt,
        one clock for all workers; a record without it is nobody's attempt, and its ``ended_at`` decides instead.
        """
        ...

    async def save_outcomes(self, records: Sequence[DocumentRecord], events: Sequence[AuditEvent] = ()) -> None:
        """The same for several documents, all or none."""
        ...

    async def mark_indexed(self, file_ids: Sequence[str], at: datetime, replaced: Collection[str] = ()) -> None:
        """Search finds the chunks of these documents from now on, and those of the ``replaced`` no longer."""
        ...

    async def list_indexed_otherwise(
        self, tenant_id: str, collection: str, contents: Sequence[str], fingerprint: str
    ) -> list[DocumentRecord]:
        """Documents with one of these contents (SHA-256) in this collection that are indexed under another fingerprint."""
        ...

    async def reset_documents(self, batch_id: str, ordinals: Sequence[int], before: datetime | None = None) -> None:
        """Back to pending, for a retry; with ``before``, without those whose end was set off since then.

        Thousands are changed block by block: what breaks off in between is completed by doing it again.
        """
        ...

    async def mark_cancelled(self, batch_id: str, ordinals: Sequence[int], at: datetime) -> None:
        """End documents as cancelled at this time, without those whose end was set off later. Block by block, too."""
        ...

    async def get_document(self, file_id: str, tenant_id: str | None = None) -> DocumentRecord | None: ...

    async def get_documents(self, batch_id: str, ordinals: Sequence[int]) -> list[DocumentRecord]:
        """In ordinal order; unknown ordinals are left out."""
        ...

    async def list_documents(self, where: DocumentFilter, limit: int) -> list[DocumentRecord]: ...

    def iterate_documents(self, batch_id: str) -> AsyncIterator[DocumentRecord]:
        """All of a batch in ordinal order, with flat memory."""
        ...

    def iterate_statuses(self, batch_id: str) -> AsyncIterator[tuple[int, DocumentStatus]]:
        """Ordinal and status of all of a batch, in ordinal order: cheaper than the documents themselves."""
        ...

    async def count_ends(self, batch_id: str, since: datetime, interval_seconds: int) -> dict[int, int]:
        """How many of a batch's documents ended in each interval since then: 0 is the first. Cancelled ones are left out,
        as are intervals in which none ended.
        """
        ...

    async def list_costs(self, batch_id: str, limit: int) -> list[DocumentCost]:
        """A batch's first documents in ordinal order, with no more of them than an estimate needs: cheap to read."""
        ...

    async def find_ingested(self, tenant_id: str, sha256: str, fingerprint: str) -> list[DocumentRecord]:
        """Documents that are done with this content and fingerprint, in any collection, oldest first, at most 20."""
        ...

    async def find_ingested_among(
        self, tenant_id: str, contents: Sequence[str], fingerprint: str
    ) -> dict[str, list[DocumentRecord]]:
        """The same for several contents, by SHA-256; those never ingested are left out."""
        ...

    async def reserve_event_numbers(self, batch_id: str, count: int) -> int:
        """Set ``count`` event numbers aside for ever; answers the high-water mark before, 0 the first time."""
        ...

    async def event_high_water(self, batch_id: str) -> int:
        """Event numbers set aside so far; 0 when nobody ever watched the batch."""
        ...

    async def check(self) -> None: ...

    async def close(self) -> None: ...

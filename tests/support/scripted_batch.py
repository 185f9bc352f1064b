"""A batch that does what a test says: its workflow's answers and its catalog rows, kept in step."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from api.engine import EngineStatus, Presence
from api.streams.announcing import Announcers
from api.streams.poller import PollerParts
from api.streams.queries import BatchNotOpenError
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.domain.bitmap import encode_bitmap
from ingather.domain.live_progress import ChildKey
from ingather.models.batch import (
    BatchProgress,
    BatchRecord,
    BatchSpec,
    BatchState,
    BatchSummary,
    ChildProgress,
    Counts,
)
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus
from ingather.models.errors import EngineUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.messages import DocumentHeartbeat, JournalEntry, JournalKind, OutcomesPage
from ingather.ports.event_log import EventLog, StreamKey

PAGE_SIZE = 100


@dataclass
class ScriptedChild:
    """A child at work: its documents and its own journal."""

    ordinals: tuple[int, ...]
    journal: list[JournalEntry] = field(default_factory=list)
    is_open: bool = True
    """Its workflow can be asked; its parent may not have noticed its end yet."""
    is_silent: bool = False


class ScriptedBatch:
    """Stands in for ``BatchQueries`` and ``BatchEngine`` of one batch; every step is a method."""

    def __init__(
        self,
        batch_id: str,
        document_count: int = 3,
        names: dict[int, str] | None = None,
        catalog: object = None,
        contract: str = "v1",
    ) -> None:
        self.contract = contract
        self.key = StreamKey(DEFAULT_TENANT_ID, batch_id)
        self.catalog = catalog or InMemoryCatalog()
        self.names = names or {}
        self.statuses = [DocumentStatus.PENDING] * document_count
        self.attempts = [0] * document_count
        self.codes: dict[int, str] = {}
        self.started: dict[int, datetime] = {}
        self.journal: list[JournalEntry] = []
        self.journal_first = 0
        self.children: dict[ChildKey, ScriptedChild] = {}
        self.retry_round = 0
        self.asked: list[ChildKey] = []
        """Children that were asked, open or not."""
        self.batch_state = BatchState.PENDING
        self.version = 0
        self.presence = Presence.OPEN
        self.is_silent = False
        """No worker answers."""
        self.count = 0
        """Queries so far."""
        self.settle_count = 0
        """How often the service was asked for a last word; it has none."""
        self.created_at = datetime.now(UTC)
        self.beats: dict[int, DocumentHeartbeat] = {}

    async def create(self) -> "ScriptedBatch":
        await self.catalog.add_batch(await self.record())
        await self.catalog.add_documents([self._document(ordinal) for ordinal in range(len(self.statuses))])
        self.state(BatchState.PENDING)
        return self

    async def record(self) -> BatchRecord:
        known = await self.catalog.get_batch(self.key.batch_id)
        spec = BatchSpec(
            batch_id=self.key.batch_id,
            tenant_id=self.key.tenant_id,
            name="scripted",
            contract=self.contract,
            submitted_count=len(self.statuses),
        )
        return known or BatchRecord(
            batch_id=self.key.batch_id,
            tenant_id=self.key.tenant_id,
            spec=spec,
            state=BatchState.PENDING,
            counts=self.counts,
            name="scripted",
            created_at=self.created_at,
        )

    # --- Steps ------------------------------------------------------------------------------

    def state(self, state: BatchState) -> None:
        self.batch_state = state
        self._note(JournalEntry(kind=JournalKind.STATE, at=datetime.now(UTC), state=state))

    def start(self, ordinal: int) -> None:
        self.statuses[ordinal] = DocumentStatus.IN_FLIGHT
        self.started[ordinal] = datetime.now(UTC)
        self._note_document(JournalEntry(kind=JournalKind.STARTED, at=datetime.now(UTC), ordinal=ordinal))

    async def end(self, ordinal: int, status: DocumentStatus = DocumentStatus.DONE, code: str | None = None) -> None:
        self.statuses[ordinal] = status
        self.attempts[ordinal] += 1
        if code:
            self.codes[ordinal] = code
        await self.catalog.save_outcome(self._document(ordinal))
        entry = JournalEntry(kind=JournalKind.ENDED, at=datetime.now(UTC), ordinal=ordinal, status=status, code=code)
        self._note_document(entry)

    async def run_all(self) -> None:
        await self.run(range(len(self.statuses)))

    async def run(self, ordinals: Iterable[int]) -> None:
        for ordinal in ordinals:
            self.start(ordinal)
            await self.end(ordinal)

    def begin_child(self, index: int, ordinals: Iterable[int], retry_round: int = 0) -> ScriptedChild:
        """A child takes these documents; what happens to them from now on is in its own journal."""
        child = ScriptedChild(tuple(ordinals))
        self.children[ChildKey(index, retry_round)] = child
        self._note_child(JournalKind.CHILD_STARTED, ChildKey(index, retry_round))
        return child

    def end_child(self, index: int, retry_round: int = 0, *, leaving: Collection[int] = ()) -> None:
        """It returned, and its parent knows; what it leaves is pending again."""
        key = ChildKey(index, retry_round)
        child = self.children[key]
        for ordinal in leaving:
            self.statuses[ordinal] = DocumentStatus.PENDING
        child.ordinals = tuple(ordinal for ordinal in child.ordinals if ordinal not in leaving)
        self._note_child(JournalKind.CHILD_ENDED, key)
        del self.children[key]

    async def close(self, state: BatchState = BatchState.COMPLETED) -> None:
        self.version += 1
        summary = BatchSummary(
            batch_id=self.key.batch_id,
            state=state,
            counts=self.counts,
            version=self.version,
            retry_round=self.retry_round,
            started_at=self.created_at,
            ended_at=datetime.now(UTC),
        )
        await self.catalog.finish_batch(summary)
        self.batch_state = state
        self.presence = Presence.CLOSED

    async def reopen(self, *ordinals: int) -> None:
        self.presence = Presence.OPEN
        self.retry_round += 1
        # The new run's journal begins where the closed one ended; older entries are gone.
        self.journal_first += len(self.journal)
        self.journal.clear()
        await self.catalog.set_batch_state(self.key.batch_id, BatchState.RETRYING)
        await self.catalog.reset_documents(self.key.batch_id, ordinals)
        for ordinal in ordinals:
            self.statuses[ordinal] = DocumentStatus.PENDING
        self.state(BatchState.RETRYING)

    def _note(self, entry: JournalEntry) -> None:
        self.journal.append(entry)
        self.version += 1

    def _note_document(self, entry: JournalEntry) -> None:
        holders = [child for child in self.children.values() if entry.ordinal in child.ordinals]
        if holders:
            holders[-1].journal.append(entry)
        else:
            self._note(entry)

    def _note_child(self, kind: JournalKind, key: ChildKey) -> None:
        ordinals = encode_bitmap(self.children[key].ordinals)
        self._note(
            JournalEntry(
                kind=kind, at=datetime.now(UTC), child=key.index, retry_round=key.retry_round, ordinals=ordinals
            )
        )

    # --- What pollers and readers ask ---------------------------------------------------------

    async def outcomes(self, _batch_id: str, after: int) -> OutcomesPage:
        await self._answer()
        return _page(self.journal, self.journal_first, after, self.live)

    async def child_outcomes(
        self, _batch_id: str, after: Mapping[ChildKey, int]
    ) -> dict[ChildKey, OutcomesPage | None]:
        self.count += len(after)
        self.asked += after
        await asyncio.sleep(0)
        return {
            key: self._child_page(key, position)
            for key, position in after.items()
            if key not in self.children or not self.children[key].is_silent
        }

    def _child_page(self, key: ChildKey, after: int) -> OutcomesPage | None:
        child = self.children.get(key)
        if child is None or not child.is_open:
            return None
        progress = BatchProgress(
            state=self.batch_state,
            counts=self._counts_of(child.ordinals),
            version=len(child.journal),
            in_flight=tuple(n for n in child.ordinals if self.statuses[n] is DocumentStatus.IN_FLIGHT),
        )
        return _page(child.journal, 0, after, progress)

    async def status(self, _batch_id: str) -> EngineStatus:
        return EngineStatus(self.presence, self.live)

    async def heartbeats(self, _batch_id: str, _children: Iterable[ChildProgress] = ()) -> dict[int, DocumentHeartbeat]:
        return self.beats

    async def _answer(self) -> None:
        self.count += 1
        await asyncio.sleep(0)
        if self.is_silent:
            raise EngineUnavailableError("The batch did not answer in time.")
        if self.presence is not Presence.OPEN:
            raise BatchNotOpenError(self.key.batch_id)

    @property
    def counts(self) -> Counts:
        """As they are, children's documents included."""
        return self._counts_of(range(len(self.statuses)))

    def _counts_of(self, ordinals: Iterable[int]) -> Counts:
        statuses = [self.statuses[ordinal] for ordinal in ordinals]
        return Counts(total=len(statuses), **{status.value: statuses.count(status) for status in DocumentStatus})

    @property
    def live(self) -> BatchProgress:
        """As the batch's own workflow knows it: what its children have is in flight."""
        held = {ordinal for child in self.children.values() for ordinal in child.ordinals}
        own = self._counts_of(ordinal for ordinal in range(len(self.statuses)) if ordinal not in held)
        counts = own.model_copy(update={"total": own.total + len(held), "in_flight": own.in_flight + len(held)})
        in_flight = tuple(n for n, s in enumerate(self.statuses) if s is DocumentStatus.IN_FLIGHT and n not in held)
        return BatchProgress(
            state=self.batch_state,
            counts=counts,
            version=self.version,
            retry_round=self.retry_round,
            in_flight=in_flight,
            children=tuple(
                ChildProgress(index=key.index, retry_round=key.retry_round, document_count=len(child.ordinals))
                for key, child in self.children.items()
            ),
        )

    def parts(self, log: EventLog, announcers: Announcers | None = None) -> PollerParts:
        return PollerParts(
            queries=self,
            engine=self,
            log=log,
            catalog=self.catalog,
            settle=self._settle,
            announcers=announcers or {},
        )

    async def _settle(self, _key: StreamKey) -> None:
        self.settle_count += 1

    def _document(self, ordinal: int) -> DocumentRecord:
        status = self.statuses[ordinal]
        error = None
        if status is DocumentStatus.FAILED:
            error = DocumentFailure(
                code=self.codes[ordinal], message="It cannot be read.", stage=Stage.PARSING, action="Save it again."
            )
        return DocumentRecord(
            file_id=file_id_for(self.key.batch_id, ordinal),
            tenant_id=self.key.tenant_id,
            batch_id=self.key.batch_id,
            ordinal=ordinal,
            filename=self.names.get(ordinal, f"document-{ordinal}.txt"),
            collection="default",
            status=status,
            attempts=self.attempts[ordinal],
            error=error,
            chunk_count=2 if status is DocumentStatus.DONE else None,
            started_at=self.started.get(ordinal),
            ended_at=datetime.now(UTC) if self.attempts[ordinal] else None,
        )


def _page(journal: list[JournalEntry], journal_first: int, after: int, progress: BatchProgress) -> OutcomesPage:
    end = journal_first + len(journal)
    first = min(max(after, journal_first), end)
    offset = first - journal_first
    entries = tuple(journal[offset : offset + PAGE_SIZE])
    return OutcomesPage(
        first=first, next=first + len(entries), entries=entries, more=len(entries) == PAGE_SIZE, progress=progress
    )

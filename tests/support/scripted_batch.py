"""A batch that does what a test says: its workflow's answers and its catalog rows, kept in step."""

import asyncio
from datetime import UTC, datetime

from api.engine import EngineStatus, Presence
from api.streams.poller import PollerParts
from api.streams.queries import BatchNotOpenError
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.models.batch import BatchProgress, BatchRecord, BatchSpec, BatchState, BatchSummary, Counts
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus
from ingather.models.errors import EngineUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.messages import DocumentHeartbeat, JournalEntry, JournalKind, OutcomesPage
from ingather.ports.event_log import EventLog, StreamKey

PAGE_SIZE = 100


class ScriptedBatch:
    """Stands in for ``BatchQueries`` and ``BatchEngine`` of one batch; every step is a method."""

    def __init__(
        self, batch_id: str, document_count: int = 3, names: dict[int, str] | None = None, catalog: object = None
    ) -> None:
        self.key = StreamKey(DEFAULT_TENANT_ID, batch_id)
        self.catalog = catalog or InMemoryCatalog()
        self.names = names or {}
        self.statuses = [DocumentStatus.PENDING] * document_count
        self.attempts = [0] * document_count
        self.codes: dict[int, str] = {}
        self.started: dict[int, datetime] = {}
        self.journal: list[JournalEntry] = []
        self.journal_first = 0
        self.batch_state = BatchState.PENDING
        self.version = 0
        self.presence = Presence.OPEN
        self.is_silent = False
        """No worker answers."""
        self.count = 0
        """Queries so far."""
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
        self._note(JournalEntry(kind=JournalKind.STARTED, at=datetime.now(UTC), ordinal=ordinal))

    async def end(self, ordinal: int, status: DocumentStatus = DocumentStatus.DONE, code: str | None = None) -> None:
        self.statuses[ordinal] = status
        self.attempts[ordinal] += 1
        if code:
            self.codes[ordinal] = code
        await self.catalog.save_outcome(self._document(ordinal))
        entry = JournalEntry(kind=JournalKind.ENDED, at=datetime.now(UTC), ordinal=ordinal, status=status, code=code)
        self._note(entry)

    async def run_all(self) -> None:
        for ordinal in range(len(self.statuses)):
            self.start(ordinal)
            await self.end(ordinal)

    async def close(self, state: BatchState = BatchState.COMPLETED) -> None:
        self.version += 1
        summary = BatchSummary(
            batch_id=self.key.batch_id,
            state=state,
            counts=self.counts,
            version=self.version,
            started_at=self.created_at,
            ended_at=datetime.now(UTC),
        )
        await self.catalog.finish_batch(summary)
        self.batch_state = state
        self.presence = Presence.CLOSED

    async def reopen(self, *ordinals: int) -> None:
        self.presence = Presence.OPEN
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

    # --- What pollers and readers ask ---------------------------------------------------------

    async def progress(self, _batch_id: str) -> BatchProgress:
        await self._answer()
        return self.live

    async def outcomes(self, _batch_id: str, after: int) -> OutcomesPage:
        await self._answer()
        end = self.journal_first + len(self.journal)
        first = min(max(after, self.journal_first), end)
        offset = first - self.journal_first
        entries = tuple(self.journal[offset : offset + PAGE_SIZE])
        return OutcomesPage(
            first=first, next=first + len(entries), entries=entries, more=len(entries) == PAGE_SIZE, progress=self.live
        )

    async def status(self, _batch_id: str) -> EngineStatus:
        return EngineStatus(self.presence, self.live)

    async def heartbeats(self, _batch_id: str) -> dict[int, DocumentHeartbeat]:
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
        return Counts(
            total=len(self.statuses),
            **{status.value: self.statuses.count(status) for status in DocumentStatus},
        )

    @property
    def live(self) -> BatchProgress:
        in_flight = tuple(n for n, status in enumerate(self.statuses) if status is DocumentStatus.IN_FLIGHT)
        return BatchProgress(state=self.batch_state, counts=self.counts, version=self.version, in_flight=in_flight)

    def parts(self, log: EventLog) -> PollerParts:
        return PollerParts(queries=self, engine=self, log=log, catalog=self.catalog, settle=self._settle)

    async def _settle(self, _key: StreamKey) -> None:
        return None

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

"""The API in this process: memory adapters behind it, and a stand-in for the workflow engine that keeps its rules."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

from api.app import build_app
from api.composition import build_parts
from api.dependencies import ApiParts
from api.engine import BatchClosedError, EngineStatus, Presence
from api.engine_overview import EngineOverview, QueueState, TenantWork, add_up
from api.engine_waits import PendingWork
from api.metrics import ApiMetrics
from api.service.search import LocalSearch, SearchService
from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.adapters.memory.chunk_index import InMemoryChunkIndex
from ingather.adapters.memory.event_log import InMemoryEventLog
from ingather.adapters.memory.handoff_queue import InMemoryHandoffQueue
from ingather.adapters.memory.parted_objects import InMemoryPartedObjects
from ingather.adapters.memory.sheet_progress import InMemorySheetProgress
from ingather.adapters.page_images import InProcessPageImages
from ingather.bootstrap import Stores
from ingather.domain.keys import summary_key
from ingather.models.batch import BatchProgress, BatchSpec, BatchState, BatchSummary, ChildProgress, Counts
from ingather.models.errors import EngineUnavailableError, InvalidStateError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import (
    AddedRequest,
    ClosedBatch,
    ControlAnswer,
    ControlRequest,
    DeliveryInput,
    DocumentHeartbeat,
    ListenerAdded,
    PlacesLine,
    RetryRequest,
)
from ingather.settings import Settings


@dataclass(frozen=True)
class Live:
    """What the shared reader answers."""

    progress: BatchProgress | None
    stale: bool = False
    closed: bool = False
    silent: bool = False


@dataclass
class WaitsStandIn:
    """What Temporal would say of why a batch stands still."""

    lines: dict[str, PlacesLine] = field(default_factory=dict)
    """By tenant."""
    silent_seconds: dict[str, float] = field(default_factory=dict)
    """By queue; the others were polled just now."""
    work: PendingWork = field(default_factory=PendingWork)
    is_down: bool = False

    async def line(self, tenant_id: str) -> PlacesLine | None:
        self._check()
        return self.lines.get(tenant_id)

    async def seconds_since_poll(self, queue: str) -> float:
        self._check()
        return self.silent_seconds.get(queue, 0.0)

    async def pending(self, workflow_ids: tuple[str, ...]) -> PendingWork:
        self._check()
        return self.work

    def _check(self) -> None:
        if self.is_down:
            raise EngineUnavailableError("The workflow engine did not answer in time.")


@dataclass
class OverviewsStandIn:
    """What Temporal would say of the whole deployment: queues as a test sets them, and the batches that are open."""

    engine: "EngineStandIn"
    queues: list[QueueState] = field(default_factory=list)
    missing_attributes: tuple[str, ...] = ()

    async def get(self) -> EngineOverview:
        await self.engine.check()
        work: dict[str, TenantWork] = {}
        for batch_id, progress in self.engine.open.items():
            add_up(work.setdefault(self.engine.specs[batch_id].tenant_id, TenantWork()), progress)
        return EngineOverview("1.2.3", self.missing_attributes, tuple(self.queues), work)


@dataclass
class EngineStandIn:
    """Batches as workflows would have them; a batch starts running as soon as it is started."""

    catalog: InMemoryCatalog
    open: dict[str, BatchProgress] = field(default_factory=dict)
    closer: dict[str, BatchProgress] = field(default_factory=dict)
    """What a large batch answers for itself, its children's part included, where its memo knows less."""
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    """Unset, batches are asked and do not answer; what their memos say is there."""
    specs: dict[str, BatchSpec] = field(default_factory=dict)
    messages: list[tuple[str, str, ControlRequest | None]] = field(default_factory=list)
    signals: list[tuple[str, str, AddedRequest | ListenerAdded]] = field(default_factory=list)
    unheard: int = 0
    """Messages that found no open workflow."""
    deliveries: dict[str, DeliveryInput] = field(default_factory=dict)
    """Those that were started, by id."""
    beats: dict[int, DocumentHeartbeat] = field(default_factory=dict)
    is_down: bool = False
    fails_to_start: bool = False
    answers_late: bool = False
    namespace: str = "default"
    waits: WaitsStandIn = field(default_factory=WaitsStandIn)
    on_wait: Callable[[str], Awaitable[None]] | None = None
    """What happens while somebody waits for a batch's end."""

    def __post_init__(self) -> None:
        self.overviews = OverviewsStandIn(self)
        self.may_answer.set()

    async def check(self) -> None:
        if self.is_down:
            raise EngineUnavailableError("The workflow engine did not answer in time.")

    async def start(self, spec: BatchSpec, created_at: datetime) -> None:
        await self.check()
        if self.fails_to_start:
            raise EngineUnavailableError("The workflow engine did not answer in time.")
        count = spec.submitted_count
        is_waiting = spec.hold or spec.open
        state = BatchState.PENDING if is_waiting else BatchState.RUNNING
        self.specs.setdefault(spec.batch_id, spec)
        self.open.setdefault(
            spec.batch_id,
            BatchProgress(
                state=state,
                counts=Counts(total=count, pending=count),
                version=1,
                priority=spec.priority,
                created_at=created_at,
                started_at=None if is_waiting else datetime.now(UTC),
            ),
        )

    async def start_delivery(self, delivery: DeliveryInput, summary: str) -> None:
        await self.check()
        self.deliveries.setdefault(delivery.delivery_id, delivery)

    async def send(self, batch_id: str, name: str, request: ControlRequest) -> ControlAnswer | None:
        await self.check()
        progress = self._open(batch_id)
        self.messages.append((batch_id, name, request))
        state = {
            "start": BatchState.RUNNING,
            "pause": BatchState.PAUSED,
            "resume": BatchState.RUNNING,
            "retry": BatchState.RETRYING,
            "seal": BatchState.RUNNING,
        }.get(name, progress.state)
        if name not in {"start", "seal"} and progress.state is BatchState.PENDING:
            raise InvalidStateError("The batch was not started.", current_status=progress.state.value)
        changes: dict[str, Any] = {"state": state, "version": progress.version + 1}
        if name == "set_priority":
            changes["priority"] = request.priority
        if name in {"start", "seal"}:
            changes["queued_at"] = progress.queued_at or datetime.now(UTC)
        self.open[batch_id] = progress.model_copy(update=changes)
        return None if self.answers_late else ControlAnswer(state=state, progress=self.open[batch_id])

    async def tell(self, batch_id: str, name: str, request: AddedRequest | ListenerAdded) -> None:
        await self.check()
        self._open(batch_id)
        self.signals.append((batch_id, name, request))

    async def cancel(self, batch_id: str, request: ControlRequest) -> None:
        await self.check()
        self._open(batch_id)
        self.messages.append((batch_id, "cancel", request))

    async def until_closed(self, batch_id: str, within: timedelta) -> bool:
        await self.check()
        if self.on_wait is not None:
            await self.on_wait(batch_id)
        await asyncio.sleep(0.01)
        return batch_id not in self.open

    async def reopen(self, spec: BatchSpec, created_at: datetime, request: RetryRequest) -> ControlAnswer | None:
        self.messages.append((spec.batch_id, "reopen", request))
        self.specs[spec.batch_id] = spec
        await self.start(spec, created_at)
        progress = self.open[spec.batch_id].model_copy(update={"state": BatchState.RETRYING, "version": 9})
        self.open[spec.batch_id] = progress
        if self.answers_late:
            return None
        await self.catalog.set_batch_state(spec.batch_id, BatchState.RETRYING)
        return ControlAnswer(state=progress.state, progress=progress, affected=1)

    async def status(self, batch_id: str) -> EngineStatus:
        await self.check()
        if batch_id in self.open:
            return EngineStatus(Presence.OPEN, self.open[batch_id])
        return EngineStatus(Presence.CLOSED if batch_id in self.specs else Presence.MISSING)

    async def running(self, tenant_id: str) -> dict[str, BatchProgress]:
        await self.check()
        return {key: value for key, value in self.open.items() if self.specs[key].tenant_id == tenant_id}

    async def progress_of(self, tenant_id: str, batch_ids: Sequence[str]) -> dict[str, BatchProgress]:
        return {key: value for key, value in (await self.running(tenant_id)).items() if key in batch_ids}

    async def under_way(self, tenant_id: str) -> dict[str, BatchProgress]:
        """The catalog hears of those in line, as it does from their own request for a place."""
        found = await self.running(tenant_id)
        for batch_id, progress in found.items():
            if progress.state is BatchState.QUEUED:
                await self.catalog.note_queued(batch_id)
        return {
            batch_id: progress
            for batch_id, progress in found.items()
            if progress.state not in {BatchState.PENDING, BatchState.QUEUED}
        }

    async def heartbeats(self, batch_id: str, _children: Iterable[ChildProgress] = ()) -> dict[int, DocumentHeartbeat]:
        return self.beats

    # The reader's side

    async def read(self, batch_id: str) -> Live:
        await self.may_answer.wait()
        progress = self.closer.get(batch_id) or self.open.get(batch_id)
        return Live(progress, stale=self.is_down, closed=progress is None)

    async def note(self, batch_id: str, progress: BatchProgress) -> None: ...

    async def changed(self, batch_id: str) -> None: ...

    def _open(self, batch_id: str) -> BatchProgress:
        if batch_id not in self.open:
            self.unheard += 1
            raise BatchClosedError
        return self.open[batch_id]


class TwoNumberEmbedder:
    """Enough of a model to ask a question with."""

    name = "two-numbers"
    dimensions = 2

    def embed(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0]] * len(texts), dtype=np.float32)


@dataclass
class ApiInProcess:
    """The application with what stands behind it."""

    app: FastAPI
    http: httpx.AsyncClient
    engine: EngineStandIn
    blobs: InMemoryBlobStore
    catalog: InMemoryCatalog
    index: InMemoryChunkIndex
    parts: ApiParts
    handoff: InMemoryHandoffQueue

    async def submit(self, **body: Any) -> dict[str, Any]:
        """Submit a small batch as JSON and answer the resource."""
        body.setdefault("documents", [{"filename": "a.txt", "content": "aGVsbG8="}])
        response = await self.http.post("/v1/batches", json=body)
        assert response.status_code == 202, response.text
        return response.json()

    async def end(
        self,
        batch_id: str,
        state: BatchState,
        *,
        codes: dict[str, int] | None = None,
        handled: tuple[str, ...] = (),
        **counts: int,
    ) -> None:
        """Let a batch end, as its last activity would write it."""
        progress = self.engine.open.pop(batch_id)
        version = progress.version + 1
        total = sum(counts.values())
        now = datetime.now(UTC)
        summary = BatchSummary(
            batch_id=batch_id,
            state=state,
            counts=Counts(total=total, **counts),
            version=version,
            failures_by_code=codes or {},
            queued_at=progress.queued_at,
            started_at=now,
            ended_at=now,
        )
        closed = ClosedBatch(summary=summary, ledger="", handled_requests=handled)
        await self.blobs.put(summary_key(DEFAULT_TENANT_ID, batch_id, version), closed.model_dump_json().encode())
        await self.catalog.finish_batch(summary)

    async def keys(self, prefix: str = "") -> list[str]:
        return [stat.key async for stat in self.blobs.list(prefix)]


@asynccontextmanager
async def api_in_process(
    settings: Settings | None = None, *, like: ApiInProcess | None = None
) -> AsyncIterator[ApiInProcess]:
    """The API over memory adapters, reachable through ``http``; ``like`` another one: over the same storage and engine."""
    settings = settings or Settings()
    blobs, catalog, index = InMemoryBlobStore(), InMemoryCatalog(), InMemoryChunkIndex()
    engine, metrics, handoff = EngineStandIn(catalog), ApiMetrics(), InMemoryHandoffQueue()
    parted, sheet_progress = InMemoryPartedObjects(blobs), InMemorySheetProgress()
    if like is not None:
        blobs, catalog, engine = like.blobs, like.catalog, like.engine
        parted, sheet_progress = like.parts.chunked_uploads.parted, like.parts.sheet_progress
    stores = Stores(
        blobs=blobs,
        catalog=catalog,
        events=InMemoryEventLog(),
        handoff=handoff,
        sheet_progress=sheet_progress,
        parted=parted,
    )
    search = SearchService(LocalSearch(index, TwoNumberEmbedder()))
    pages = InProcessPageImages()
    parts = build_parts(settings, stores, engine, engine, metrics, search=search, page_images=pages)

    @asynccontextmanager
    async def open_parts(_app: FastAPI) -> AsyncIterator[ApiParts]:
        yield parts

    app = build_app(metrics, open_parts, is_open=settings.auth.mode == "open")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api.test") as http,
    ):
        yield ApiInProcess(app, http, engine, blobs, catalog, index, parts, handoff)

"""Activities under their real names with scripted outcomes: what a batch workflow sees of the world."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from ingather.domain.bitmap import decode_bitmap, encode_bitmap
from ingather.models.document import DocumentStatus
from ingather.models.errors import ArtifactUnreadableError
from ingather.models.messages import (
    BatchNews,
    BuildManifestInput,
    BuildManifestOutput,
    ClosedBatch,
    ControlNote,
    FinishBatchInput,
    FinishBatchOutput,
    IndexDocumentsInput,
    IndexDocumentsOutput,
    IngestDocumentInput,
    IngestDocumentOutput,
    IngestPackInput,
    IngestPackOutput,
    ReadManifestInput,
    ReadManifestOutput,
    RecordControlsInput,
    ReopenBatchInput,
    ResetDocumentsInput,
    SourceSlice,
    TellNewsInput,
)

DONE = IngestDocumentOutput(status=DocumentStatus.DONE, chunk_count=1)


def failed(code: str = "corrupt") -> IngestDocumentOutput:
    return IngestDocumentOutput(status=DocumentStatus.FAILED, code=code)


@dataclass
class World:
    """What documents a batch has, how each ends, and what was asked of the world."""

    document_count: int = 3
    outcome: Callable[[int, int], IngestDocumentOutput] = lambda _ordinal, _round: DONE
    """Outcome by ordinal and retry round."""
    pack_outcome: Callable[[int], IngestDocumentOutput | str] = lambda _ordinal: DONE
    """Outcome in a pack, or the letter of a document that is to run alone."""
    pack_error: Exception | None = None
    is_small: Callable[[int], bool] = lambda _ordinal: False
    """Whether a document may share an activity."""
    is_in_source: Callable[[int], bool] = lambda _ordinal: False
    """Whether a document is fetched first."""
    is_large: Callable[[int], bool] = lambda _ordinal: False
    """Whether a document may take as long as all others."""
    manifest_error: ApplicationError | None = None
    gate: asyncio.Event | None = None
    """While set and not open, documents wait inside their activity until cancelled."""
    open_for: int = 0
    """Documents that pass a closed gate."""
    waiting: int = 0
    """Documents that wait at the gate now."""
    seconds: float = 0.0
    manifest_gate: asyncio.Event | None = None
    """While set and not open, the manifest is being made."""
    ignores_cancel: bool = False
    """Manifest and report are finished all the same when they are asked to stop."""
    page_gate: asyncio.Event | None = None
    """While set and not open, the documents' names are being read."""
    reopen_gate: asyncio.Event | None = None
    """While set and not open, the state of the closed batch is being read."""
    report_gate: asyncio.Event | None = None
    """While set and not open, the report is being written."""
    when_stopped: Exception | None = None
    """What a document ends with when it is stopped, instead of stopping."""
    index_is_away: bool = False
    """No index write succeeds."""
    index_gate: asyncio.Event | None = None
    """While set and not open, documents are being made searchable."""
    index_error: Exception | None = None
    """What a write at that gate ends with when it is stopped, instead of stopping."""
    indexing: int = 0
    """Index writes under way."""
    most_indexing: int = 0
    missing: frozenset[int] = frozenset()
    """Documents whose artifact is gone when they are to be indexed."""
    unreadable: frozenset[int] = frozenset()
    """Documents whose artifact is damaged by then."""
    started: list[int] = field(default_factory=list)
    queues: dict[int, str] = field(default_factory=dict)
    """Where each document ran last, when it ran alone."""
    inputs: list[IngestDocumentInput] = field(default_factory=list)
    packs: list[tuple[int, ...]] = field(default_factory=list)
    indexed: list[list[int]] = field(default_factory=list)
    resets: list[list[int]] = field(default_factory=list)
    audit_gate: asyncio.Event | None = None
    """While set and not open, what was done to the batch is being recorded."""
    notes: list[ControlNote] = field(default_factory=list)
    """What was recorded, in that order."""
    news: list[BatchNews] = field(default_factory=list)
    """What webhooks were told, in that order."""
    reports: list[int] = field(default_factory=list)
    """Versions of the ends that were written."""
    news_gate: asyncio.Event | None = None
    """While set and not open, webhooks are being told."""
    closed: ClosedBatch | None = None
    in_flight: int = 0
    most_in_flight: int = 0
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    ended: list[str] = field(default_factory=list)
    """Records activities, in the order in which they ended."""

    @activity.defn(name="build_manifest")
    async def build_manifest(self, request: BuildManifestInput) -> BuildManifestOutput:
        self.calls["build_manifest"] += 1
        try:
            await opened(self.manifest_gate)
        except asyncio.CancelledError:
            if not self.ignores_cancel:
                raise
        if self.manifest_error is not None:
            raise self.manifest_error
        upload = SourceSlice(name="upload", source_type="upload", first_ordinal=0, document_count=self.document_count)
        return BuildManifestOutput(document_count=self.document_count, page_count=1, sources=(upload,))

    @activity.defn(name="read_manifest")
    async def read_manifest(self, request: ReadManifestInput) -> ReadManifestOutput:
        self.calls["read_manifest"] += 1
        await opened(self.page_gate)
        ordinals = list(decode_bitmap(request.ordinals))
        packable = encode_bitmap(place for place, ordinal in enumerate(ordinals) if self.is_small(ordinal))
        in_sources = encode_bitmap(place for place, ordinal in enumerate(ordinals) if self.is_in_source(ordinal))
        large = encode_bitmap(place for place, ordinal in enumerate(ordinals) if self.is_large(ordinal))
        names = tuple(f"document-{n}.txt" for n in ordinals)
        return ReadManifestOutput(filenames=names, packable=packable, in_sources=in_sources, large=large)

    @activity.defn(name="ingest_document")
    async def ingest_document(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        self.started.append(request.ordinal)
        self.queues[request.ordinal] = activity.info().task_queue
        self.inputs.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
            await self._pass_gate()
            return self.outcome(request.ordinal, request.retry_round)
        except asyncio.CancelledError:
            if self.when_stopped is not None:
                raise self.when_stopped from None
            raise
        finally:
            self.in_flight -= 1

    @activity.defn(name="process_text")
    async def process_text(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        return await self.ingest_document(request)

    @activity.defn(name="ingest_pack")
    async def ingest_pack(self, request: IngestPackInput) -> IngestPackOutput:
        ordinals = tuple(decode_bitmap(request.ordinals))
        self.packs.append(ordinals)
        await asyncio.sleep(self.seconds)
        await self._pass_gate()
        if self.pack_error is not None:
            raise self.pack_error
        outcomes = {ordinal: self.pack_outcome(ordinal) for ordinal in ordinals}
        failures: dict[str, list[int]] = {}
        for place, outcome in enumerate(outcomes.values()):
            if isinstance(outcome, IngestDocumentOutput) and outcome.code:
                failures.setdefault(outcome.code, []).append(place)
        return IngestPackOutput(
            statuses="".join(o if isinstance(o, str) else o.status.value[0] for o in outcomes.values()),
            failures={code: encode_bitmap(places) for code, places in failures.items()},
        )

    async def _pass_gate(self) -> None:
        if self.gate is None:
            return
        if self.open_for:
            self.open_for -= 1
            return
        self.waiting += 1
        try:
            await opened(self.gate)
        finally:
            self.waiting -= 1

    @activity.defn(name="index_documents")
    async def index_documents(self, request: IndexDocumentsInput) -> IndexDocumentsOutput:
        if self.index_is_away:
            raise ApplicationError("away", type="index_unavailable")
        self.indexing += 1
        self.most_indexing = max(self.most_indexing, self.indexing)
        try:
            await opened(self.index_gate)
        except asyncio.CancelledError:
            # It takes a moment to stop, as it does anywhere.
            await asyncio.sleep(0.5)
            self.index_gate = None
            if self.index_error is not None:
                raise self.index_error from None
            raise
        finally:
            self.indexing -= 1
        asked = set(decode_bitmap(request.ordinals))
        missing, unreadable = asked & (self.missing | self.unreadable), asked & self.unreadable
        ordinals = sorted(asked - missing)
        self.indexed.append(ordinals)
        return IndexDocumentsOutput(
            document_count=len(ordinals),
            chunk_count=len(ordinals),
            missing=encode_bitmap(missing),
            failures={ArtifactUnreadableError.code: encode_bitmap(unreadable)} if unreadable else {},
        )

    @activity.defn(name="finish_batch")
    async def finish_batch(self, request: FinishBatchInput) -> FinishBatchOutput:
        self.calls["finish_batch"] += 1
        try:
            await opened(self.report_gate)
        except asyncio.CancelledError:
            if not self.ignores_cancel:
                raise
        self.closed = request.closed
        self.reports.append(request.closed.summary.version)
        self.ended.append("finish_batch")
        return FinishBatchOutput(report_key="report.jsonl")

    @activity.defn(name="reopen_batch")
    async def reopen_batch(self, request: ReopenBatchInput) -> ClosedBatch:
        self.calls["reopen_batch"] += 1
        await opened(self.reopen_gate)
        assert self.closed is not None
        return self.closed

    @activity.defn(name="reset_documents")
    async def reset_documents(self, request: ResetDocumentsInput) -> None:
        self.resets.append(list(decode_bitmap(request.ordinals)))
        self.ended.append("reset_documents")

    @activity.defn(name="record_controls")
    async def record_controls(self, request: RecordControlsInput) -> None:
        self.calls["record_controls"] += 1
        await opened(self.audit_gate)
        self.notes += request.notes

    @activity.defn(name="tell_news")
    async def tell_news(self, request: TellNewsInput) -> None:
        self.calls["tell_news"] += 1
        await opened(self.news_gate)
        self.news += request.news

    def manifest_activities(self) -> list[Callable[..., Any]]:
        return [self.build_manifest]

    def io_activities(self) -> list[Callable[..., Any]]:
        return [
            self.build_manifest,
            self.read_manifest,
            self.index_documents,
            self.finish_batch,
            self.reopen_batch,
            self.reset_documents,
            self.record_controls,
            self.tell_news,
        ]

    def cpu_activities(self) -> list[Callable[..., Any]]:
        return [self.ingest_document, self.ingest_pack]


async def opened(gate: asyncio.Event | None) -> None:
    """Wait for a gate, if there is one, and hear of a cancellation meanwhile.

    A hundred may wait at once, and each heartbeat is a write of the server.
    """
    while gate is not None and not gate.is_set():
        activity.heartbeat()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.25):
                await gate.wait()

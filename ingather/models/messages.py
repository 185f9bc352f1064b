"""What travels over Temporal: inputs and outputs of workflows and activities, updates, queries.

One model in, one model out. Fields are only ever added, with defaults. No bytes, texts or
long lists: a claim check instead.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ingather.models.audit import SYSTEM_NAME, Actor, AuditType
from ingather.models.batch import (
    BatchProblem,
    BatchProgress,
    BatchSpec,
    BatchState,
    BatchSummary,
    Counts,
    ProcessingOptions,
    SourceSlice,
)
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus
from ingather.models.identity import BatchId, TenantId
from ingather.models.webhook import DeliveryStatus, WebhookEventType

MAX_WAITING = 2_000
"""Batches of one tenant in its waiting line, 200 bytes each; those beyond ask again later."""


class Message(BaseModel):
    model_config = ConfigDict(frozen=True)


# --- The journal: what happened to a batch, in order --------------------------------------


class JournalKind(StrEnum):
    STATE = "state"
    """The batch entered ``state``."""
    STARTED = "started"
    """A document was handed to a worker."""
    ENDED = "ended"
    """A document reached ``status``."""
    CHILD_STARTED = "child_started"
    """A child of a large batch began; its own journal tells of its documents."""
    CHILD_ENDED = "child_ended"
    """It is over: the catalog knows how each of its ``ordinals`` ended."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One thing that happened. Its position in the journal orders it; a poller makes an event of it.

    No model, which takes six times the memory: a worker keeps two a document, of thousands of documents.
    """

    kind: JournalKind
    at: datetime
    ordinal: int | None = None
    status: DocumentStatus | None = None
    state: BatchState | None = None
    code: str | None = None
    """Error code of a failed document."""
    child: int | None = None
    """Index of a child."""
    retry_round: int = 0
    ordinals: str | None = None
    """The documents that ended in a child, when it has, as a bitmap: without those that it left pending."""


JOURNAL_ENTRY: Final = TypeAdapter(JournalEntry)
"""How an entry travels."""


class OutcomesPage(Message):
    """Answer of the ``outcomes(after)`` query: journal entries ``first`` to ``next - 1``, and the progress they lead to.

    ``first > after`` means that older entries were let go (continue-as-new of a much retried batch).
    """

    first: int
    next: int
    entries: tuple[JournalEntry, ...]
    more: bool
    """The page is full: ask again from ``next``."""
    progress: BatchProgress


# --- Workflow ------------------------------------------------------------------------------


class CarriedState(Message):
    """What a batch takes with it when it continues as new, so that nothing is asked or counted again."""

    ledger: str
    """One letter a document, by ordinal (``ingather.domain.ledger``)."""
    failures: dict[str, str] = Field(default_factory=dict)
    """Failed ordinals by error code, as base64 bitmaps."""
    sources: tuple[SourceSlice, ...] = ()
    state: BatchState
    paused: bool
    priority: int
    retry_round: int
    next_child: int = 0
    """Index of a large batch's next child."""
    version: int
    journal_first: int
    """Position of the oldest entry in ``journal``; older ones were let go."""
    journal: tuple[JournalEntry, ...]
    handled_requests: tuple[str, ...]
    alone: str = ""
    """Documents that may no longer share an activity, as a bitmap; none where children run them."""
    sent_back: str = ""
    """Documents that a pack sent back, in the same way."""
    kills: dict[int, int] = Field(default_factory=dict)
    """How many parsers a document killed while it shared one, by ordinal."""
    created_at: datetime
    queued_at: datetime | None = None
    started_at: datetime | None = None
    rested_ms: int = 0
    is_heard: bool = False
    """Somebody began to listen after it was submitted."""


class BatchInput(Message):
    """Input of ``BatchWorkflow``."""

    spec: BatchSpec
    carried: CarriedState | None = None
    """Set on continue-as-new."""
    reopen: bool = False
    """A closed batch is started again for a retry: take the documents' states from ``summary.json``."""


class SteerRequest(Message):
    """Signal ``steer`` to a child: how it goes on, whatever came before."""

    paused: bool
    priority: int
    number: int = 0
    """Rises with every change."""


class ChildQuiet(Message):
    """Signal ``child_quiet`` to the parent: since this word of its own, nothing of the child is in flight."""

    index: int
    number: int


class ChunkInput(Message):
    """Input of ``ChunkWorkflow``: the share of a large batch that one child runs."""

    spec: BatchSpec
    index: int
    retry_round: int = 0
    ordinals: str
    """Up to 1,000 documents, as a bitmap."""
    window: int
    """Activities in flight at once."""
    steer: SteerRequest
    again: bool = False
    """An earlier child that had some of these documents came to nothing: they may have left results."""
    returns_sent_back: bool = False
    """Documents that a pack sends back are its parent's to run; a child of earlier versions runs them itself."""
    sent_back: bool = False
    """Packs sent all of these back: each runs in an activity of its own."""
    kills: dict[int, int] = Field(default_factory=dict)
    """How often a document killed its parser in a pack, by ordinal, where it did."""


class ChunkOutput(Message):
    """How a child's documents ended. It never fails because one did, and a cancelled child returns what it did.

    Pending are those that packs sent back, where its parent runs them.
    """

    ledger: str
    """One letter a document, in the order of their ordinals (``ingather.domain.ledger``)."""
    failures: dict[str, str] = Field(default_factory=dict)
    """Failed documents by error code, as bitmaps of their place in that order."""
    kills: dict[int, int] = Field(default_factory=dict)
    """How often a pending document, one that a pack sent back, killed its parser there, by ordinal, where it did."""


# --- Updates and signals -------------------------------------------------------------------


class ControlRequest(Message):
    """``start``, ``pause`` and ``resume``; as JSON the reason of a cancellation."""

    request_id: str = Field(min_length=1, max_length=100)
    """A repeat of the same id changes nothing and is answered with the present state."""
    by: Actor | None = None
    """Who asks, for the audit log; None where it came through Temporal itself."""


class RetryRequest(ControlRequest):
    """Which failed documents to run again: all of them, or those that match every filter given."""

    codes: tuple[str, ...] = Field(default=(), max_length=50)
    ordinals: tuple[int, ...] = Field(default=(), max_length=1_000)
    include_cancelled: bool = False
    """Take documents in that a cancel left undone."""
    include_done: bool = False
    """Run every document again, those that are done or were skipped too; only while none is under way."""


class SealRequest(ControlRequest):
    """No more documents come: the open batch may run."""

    document_count: int = Field(ge=0)
    """All that was handed in."""
    size_bytes: int = Field(default=0, ge=0)
    """The bytes of all of them: what admission counts."""


class AddedRequest(Message):
    """Signal ``added`` to an open batch: what has been handed in so far, in all."""

    document_count: int = Field(ge=0)


class ListenerAdded(Message):
    """Signal ``listener_added`` to a batch: its tenant has a webhook for all batches now."""


class PriorityRequest(ControlRequest):
    priority: int = Field(ge=1, le=5)


class ControlAnswer(Message):
    """The batch right after the message took effect."""

    state: BatchState
    progress: BatchProgress
    affected: int = 0
    """Documents set back to pending by a retry."""


# --- Activities ----------------------------------------------------------------------------


class BuildManifestInput(Message):
    """Expand archives, normalise names, write manifest pages and the catalog's rows."""

    tenant_id: TenantId
    batch_id: BatchId
    collection: str
    max_documents: int
    max_file_bytes: int | None = None
    """What an archive's entry may unpack to; the worker's own limit when None."""
    metadata_rules_key: str | None = None
    """Object with the ``MetadataRules`` that every document's metadata is settled by."""


class BuildManifestOutput(Message):
    document_count: int
    page_count: int
    sources: tuple[SourceSlice, ...] = ()


class ExtractSheetsInput(Message):
    """Take the files out of an upload of sheets."""

    tenant_id: TenantId
    batch_id: BatchId
    max_documents: int
    max_file_bytes: int | None = None
    """Of one file; the worker's own limit when None."""


class ExtractSheetsOutput(Message):
    file_count: int
    """Covers and refused files included, skipped ones not."""
    page_count: int
    """Pages of 250 files."""
    skipped: dict[str, int] = Field(default_factory=dict)
    """Files that are no sheets, by reason."""
    reads_codes: bool
    """Their codes say what belongs together: they are looked at before the manifest is made."""


class ReadSheetCodesInput(Message):
    """Look at the files of one page."""

    tenant_id: TenantId
    batch_id: BatchId
    page: int
    timeout_seconds: float = 60.0
    """Wall clock of one file."""


class OrganizeSheetsInput(Message):
    """Group the files and make the manifest."""

    tenant_id: TenantId
    batch_id: BatchId
    collection: str
    page_count: int
    reads_codes: bool


class ReadManifestInput(Message):
    """Up to 1,000 documents, as a bitmap of their ordinals."""

    tenant_id: TenantId
    batch_id: BatchId
    ordinals: str


class ReadManifestOutput(Message):
    """What a workflow must know of documents before they run; the references stay in storage."""

    filenames: tuple[str, ...]
    """In the order of the ordinals, for the summaries people see in the Temporal UI."""
    packable: str = ""
    """Documents small enough to share an activity, as a bitmap of their place in that order."""
    in_sources: str = ""
    """Documents whose bytes are still in a connected source, in the same way."""
    large: str = ""
    """Documents that begin before their turn for their size, in the same way."""


class IngestDocumentInput(Message):
    tenant_id: TenantId
    batch_id: BatchId
    ordinal: int
    collection: str
    options: ProcessingOptions
    retry_round: int = 0
    kills: int = 0
    """How often it killed a parser while it shared an activity with others."""
    actor: str = SYSTEM_NAME
    """Who submitted it, for the audit."""
    again: bool = False
    """It may have left results, although this is its first activity here."""
    max_file_bytes: int | None = None
    """What a file of a connected source may have, where that is less than the worker's own limit."""


class IngestDocumentOutput(Message):
    """How one document ended. Everything longer is in the catalog."""

    status: DocumentStatus
    code: str | None = None
    stage: Stage | None = None
    """Where it failed."""
    chunk_count: int = 0


class IngestPackInput(Message):
    """Several small documents in one activity: the ordinals as a bitmap."""

    tenant_id: TenantId
    batch_id: BatchId
    ordinals: str
    collection: str
    options: ProcessingOptions
    actor: str = SYSTEM_NAME
    """Who submitted them, for the audit."""
    own_objects: bool = False
    """Bring each document's bytes to its own key, also where they could stay as they came in."""
    again: bool = False
    """They may have left results, although this is their first activity here."""


PACK_RETRY_ALONE = "p"
"""Letter of a document that is to run again, as an activity of its own."""
PACK_KILLED = "k"
"""The same, for one that killed its parser process."""


class IngestPackOutput(Message):
    """How each document of a pack ended, in the order of the ordinals."""

    statuses: str
    """``d`` done, ``f`` failed, ``s`` skipped, or to run again alone: ``p``, and ``k`` where it killed its parser."""
    failures: dict[str, str] = Field(default_factory=dict)
    """Failed documents by error code, as bitmaps of their place in that order."""


class IndexDocumentsInput(Message):
    """Make finished documents searchable: the ordinals as a base64 bitmap."""

    tenant_id: TenantId
    batch_id: BatchId
    collection: str
    ordinals: str


class IndexDocumentsOutput(Message):
    document_count: int
    chunk_count: int
    missing: str = ""
    """Documents that cannot be made searchable, as a base64 bitmap; the others are."""
    failures: dict[str, str] = Field(default_factory=dict)
    """Those of them whose artifact is not simply gone, by error code, as base64 bitmaps."""


class ClosedBatch(Message):
    """``summary.json``: how a batch ended, and all that a later retry needs to open it again."""

    summary: BatchSummary
    has_manifest: bool = True
    ledger: str
    """One letter a document (``ingather.domain.ledger``); empty where the batch ended without a manifest."""
    failures: dict[str, str] = Field(default_factory=dict)
    """Failed ordinals by error code, as base64 bitmaps."""
    sources: tuple[SourceSlice, ...] = ()
    journal_length: int = 0
    handled_requests: tuple[str, ...] = ()
    """Ids of the latest messages that took effect: one that is repeated after the end changes nothing either."""
    created_at: datetime | None = None


class FinishSheetsInput(Message):
    """One step after the sheets: collect, write, load, clean up, tell the end."""

    tenant_id: TenantId
    batch_id: BatchId
    closed: ClosedBatch | None = None
    """How the sheets ended, for the step that collects them."""
    summary: BatchSummary
    row_count: int = 0
    """Sheets that were collected."""


class FinishSheetsOutput(Message):
    row_count: int = 0


class FinishBatchInput(Message):
    """Bring the catalog's rows in line with the ledger, write report and ``summary.json``, close the catalog's record."""

    tenant_id: TenantId
    batch_id: BatchId
    closed: ClosedBatch


class FinishBatchOutput(Message):
    report_key: str


class ResetDocumentsInput(Message):
    """Set documents of a retry back to pending in the catalog: the ordinals as a base64 bitmap."""

    tenant_id: TenantId
    batch_id: BatchId
    ordinals: str


MAX_NOTES = 100


class ControlNote(Message):
    """One thing that somebody did to a batch, for the audit log."""

    kind: AuditType
    which: str
    """Tells it from others of its kind: with the batch and the kind it makes the event's id."""
    by: Actor
    at: datetime
    details: dict[str, Any] = Field(default_factory=dict)


class RecordControlsInput(Message):
    """Record what was done to a batch, where it is not on record already."""

    tenant_id: TenantId
    batch_id: BatchId
    notes: tuple[ControlNote, ...] = Field(max_length=MAX_NOTES)


class BatchNews(Message):
    """One thing that happened to a batch, for its tenant's webhooks."""

    kind: WebhookEventType
    which: str
    """Tells it from others of its kind: with the batch and the kind it makes the event's id."""
    at: datetime | None
    state: BatchState
    version: int
    """Of the batch when it happened: orders events that arrive in another order."""
    counts: Counts
    failures_by_code: dict[str, int] = Field(default_factory=dict)
    retry_round: int = 0
    problem: BatchProblem | None = None


class TellNewsInput(Message):
    """Send what happened to a batch to everybody who hears of it, where that is not under way already."""

    tenant_id: TenantId
    batch_id: BatchId
    news: tuple[BatchNews, ...] = Field(max_length=MAX_NOTES)


class ReopenBatchInput(Message):
    tenant_id: TenantId
    batch_id: BatchId


class DocumentHeartbeat(Message):
    """Heartbeat details of a document: its live stage, seen by ``describe()``."""

    stage: Stage
    filename: str
    started_at: datetime


class PackHeartbeat(DocumentHeartbeat):
    """Heartbeat details of a pack: the stage of the document under way, and how those before it ended.

    A second attempt goes on from here.
    """

    ordinal: int
    statuses: str = ""
    """As in ``IngestPackOutput``, with ``.`` for a document that has not ended."""
    failures: dict[str, str] = Field(default_factory=dict)


# --- Places ---------------------------------------------------------------------------------


class PlaceHolder(Message):
    """A batch in one of its lives."""

    batch_id: BatchId
    chain_id: str
    """The first run of its workflow: the same after a continue-as-new, another when a closed batch was opened again."""


class PlaceEntry(PlaceHolder):
    """A batch that waits for a place, or has one."""

    priority: int = Field(default=3, ge=1, le=5)
    submitted_bytes: int = Field(default=0, ge=0)
    asked_at: datetime
    """When it first asked: its age in the line."""
    passed_over: int = 0
    """How many batches behind it went first because it needed more bytes than were free."""


class PlaceLimits(Message):
    """What one tenant may have running at a time."""

    max_jobs: int = Field(ge=1)
    max_bytes: int = Field(ge=1)
    """Submitted bytes; a batch that is larger by itself runs alone."""
    check_seconds: float = Field(default=20.0, gt=0)
    """How often holders are looked at while somebody waits: one that was terminated keeps its place no longer."""


class RequestPlaceInput(Message):
    """Ask for a place. The same batch again changes its priority, and is told again when it has its place."""

    tenant_id: TenantId
    entry: PlaceEntry


class PlaceRequest(Message):
    """Signal ``ask`` to the places. The limits travel along, so that a changed setting takes effect at once."""

    entry: PlaceEntry
    limits: PlaceLimits


class PlaceGranted(Message):
    """Signal ``place_granted`` to a batch. One that means an earlier life of it is ignored."""

    chain_id: str


class CarriedPlaces(Message):
    """What the places take along when they continue as new."""

    holders: tuple[PlaceEntry, ...]
    waiting: tuple[PlaceEntry, ...] = Field(max_length=MAX_WAITING)
    limits: PlaceLimits


class PlacesInput(Message):
    """Input of ``PlacesWorkflow``."""

    tenant_id: TenantId
    carried: CarriedPlaces | None = None


class PlacesLine(Message):
    """Answer of the ``line`` query and, with the first of ``order``, a memo: who waits behind whom."""

    held: int
    """Places taken."""
    waiting: int
    """Batches in line."""
    order: str = ""
    """Batches in line, the next one first: 16 bytes each, base64."""


class CheckHoldersInput(Message):
    tenant_id: TenantId | None = None
    """Whose they are."""
    holders: tuple[PlaceHolder, ...]


class CheckHoldersOutput(Message):
    gone: tuple[PlaceHolder, ...]
    """Those whose workflow is over or missing, or lives another life."""
    limits: PlaceLimits
    """As they are set now."""


# --- Webhooks -------------------------------------------------------------------------------


class DeliveryInput(Message):
    """Input of ``WebhookDeliveryWorkflow``. What is sent, and where, the catalog knows: history holds ids alone."""

    tenant_id: TenantId
    webhook_id: str
    delivery_id: str
    redelivery_of: str | None = None
    """The delivery whose event is sent again."""


class AttemptDeliveryInput(Message):
    """Send an event once. The same number again changes nothing where it is on record."""

    delivery: DeliveryInput
    number: int = Field(ge=1)
    pause_seconds: float | None
    """Until the next attempt, should this one fail and the receiver not ask for more; None where it is the last."""


class AttemptDeliveryOutput(Message):
    status: DeliveryStatus
    pause_seconds: float | None = None
    """Until the next attempt; None where there is none."""


# --- Uploads --------------------------------------------------------------------------------


class CleanUploadsOutput(Message):
    """Result of ``clean_uploads``."""

    begun: int = 0
    """Batches whose uploads had been complete."""
    removed: int = 0
    """Uploads whose time was over."""
    swept: int = 0
    """Objects that belonged to none."""

"""What the API answers: frozen, typed, and tolerant. ``raw`` keeps all of it, as it came.

Unknown fields and enum values pass through: a newer server does not break an older client.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

FINAL_STATUSES = frozenset({"completed", "completed_with_failures", "failed", "cancelled"})
"""A batch in one of these has ended. Treat an unknown status as running."""
FINAL_JOB_STATUSES = frozenset({"completed", "failed", "cancelled"})
"""The same for a job."""


@dataclass(frozen=True, slots=True)
class DocumentCounts:
    """Documents by where they stand; the parts add up to ``total``."""

    total: int = 0
    pending: int = 0
    in_flight: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.skipped + self.cancelled

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(**{name: int(raw.get(name) or 0) for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch at one moment."""

    id: str
    name: str
    status: str
    collection: str
    priority: int
    """1 is the most urgent, 5 the least."""
    counts: DocumentCounts
    progress: float
    """0 to 1."""
    created_at: datetime | None
    tenant_id: str = ""
    created_by: str = ""
    pipeline: str = ""
    waiting_for: str | None = None
    """In words, where nothing goes on: ``start``, ``seal``, ``place 3 of 7``, ``resume``, ``no worker``."""
    estimated_completion_at: datetime | None = None
    queued_at: datetime | None = None
    """When it was let go: submitted, or started and sealed where it waits for that."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failures_by_code: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    stale: bool = False
    """The engine did not answer in time, and these are the last known numbers."""
    was_replayed: bool = False
    """The answer to a submission that had been made before, under the same idempotency key."""
    links: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw["id"]),
            name=str(raw.get("name") or ""),
            status=str(raw.get("status") or "unknown"),
            collection=str(raw.get("collection") or ""),
            priority=int(raw.get("priority") or 3),
            counts=DocumentCounts.from_json(raw.get("counts") or {}),
            progress=float(raw.get("progress") or 0.0),
            created_at=parse_time(raw.get("created_at")),
            tenant_id=str(raw.get("tenant_id") or ""),
            created_by=str(raw.get("created_by") or ""),
            pipeline=str(raw.get("pipeline") or ""),
            waiting_for=_text(raw.get("waiting_for")),
            estimated_completion_at=parse_time(raw.get("estimated_completion_at")),
            queued_at=parse_time(raw.get("queued_at")),
            started_at=parse_time(raw.get("started_at")),
            ended_at=parse_time(raw.get("ended_at")),
            failures_by_code=_mapping(raw.get("failures_by_code")),
            metadata=_mapping(raw.get("metadata")),
            stale=bool(raw.get("stale")),
            links=_links(raw),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Addition:
    """What an open batch took in."""

    batch_id: str
    documents_added: int
    documents: int
    """In the batch so far."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            batch_id=str(raw.get("batch_id") or ""),
            documents_added=_integer(raw.get("documents_added")) or 0,
            # Another server's answer must not look as if the documents were there.
            documents=int(raw["documents"]),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a document failed, and what to do about it."""

    code: str
    message: str
    stage: str | None
    action: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            facts=_mapping(raw.get("facts")),
            code=str(raw.get("code") or "unknown"),
            message=str(raw.get("message") or ""),
            stage=_text(raw.get("stage")),
            action=str(raw.get("action") or ""),
        )


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a batch."""

    id: str
    ordinal: int
    filename: str
    status: str
    stage: str | None
    attempts: int
    error: Failure | None
    media_type: str | None
    size_bytes: int | None
    pages: int | None
    chunks: int | None
    raw_key: str | None = None
    warnings: tuple[str, ...] = ()
    """Such as ``no_text``: it is done, and something is missing."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        error = raw.get("error")
        return cls(
            id=str(raw.get("id") or ""),
            ordinal=int(raw.get("ordinal") or 0),
            filename=str(raw.get("filename") or ""),
            status=str(raw.get("status") or "unknown"),
            stage=_text(raw.get("stage")),
            attempts=int(raw.get("attempts") or 0),
            error=Failure.from_json(error) if isinstance(error, Mapping) else None,
            media_type=_text(raw.get("media_type")),
            size_bytes=_integer(raw.get("size_bytes")),
            pages=_integer(raw.get("pages")),
            chunks=_integer(raw.get("chunks")),
            raw_key=_text(raw.get("raw_key")),
            warnings=tuple(str(warning) for warning in raw.get("warnings") or ()),
            metadata=_mapping(raw.get("metadata")),
            links=_links(raw),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that answers a search."""

    text: str
    score: float
    filename: str
    page: int | None
    headings: tuple[str, ...]
    batch_id: str
    collection: str
    document_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            text=str(raw.get("text") or ""),
            score=float(raw.get("score") or 0.0),
            filename=str(raw.get("filename") or ""),
            page=_integer(raw.get("page")),
            headings=tuple(str(title) for title in raw.get("headings") or ()),
            batch_id=str(raw.get("batch_id") or ""),
            collection=str(raw.get("collection") or ""),
            document_id=str(raw.get("document_id") or ""),
            metadata=_mapping(raw.get("metadata")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Preview:
    """What a submission would do. Archives count as one document each."""

    documents: int
    bytes: int
    by_type: Mapping[str, int]
    duplicates: int
    unsupported: int
    estimated_seconds: float | None
    """At the pace of the latest batches; None before there were any."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            documents=_integer(raw.get("documents")) or 0,
            bytes=_integer(raw.get("bytes")) or 0,
            by_type=_mapping(raw.get("by_type")),
            duplicates=_integer(raw.get("duplicates")) or 0,
            unsupported=_integer(raw.get("unsupported")) or 0,
            estimated_seconds=raw.get("estimated_seconds"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """The server's limits that a submission can be checked against before a byte is sent. None is unknown."""

    max_documents_per_batch: int | None = None
    max_file_bytes: int | None = None
    max_request_bytes: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Every limit, under the name of its setting."""

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            max_documents_per_batch=_integer(raw.get("max_documents_per_batch")),
            max_file_bytes=_integer(raw.get("max_file_bytes")),
            max_request_bytes=_integer(raw.get("max_request_bytes")),
            raw=raw,
        )


# --- Sources --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connection:
    """A way to a source."""

    id: str
    source_type: str
    settings: Mapping[str, Any]
    """Those that are set; credentials are masked."""
    created_by: str
    created_at: datetime | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw["connection_id"]),
            source_type=str(raw.get("source_type") or ""),
            settings=_mapping(raw.get("settings")),
            created_by=str(raw.get("created_by") or ""),
            created_at=parse_time(raw.get("created_at")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """What came of trying a connection."""

    ok: bool
    message: str
    """What is wrong, in words."""
    code: str | None
    """None where nothing is wrong."""
    action: str
    took_ms: float
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            ok=bool(raw.get("ok")),
            message=str(raw.get("message") or ""),
            code=_text(raw.get("code")),
            action=str(raw.get("action") or ""),
            took_ms=float(raw.get("took_ms") or 0.0),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where events of batches are sent."""

    id: str
    url: str
    event_types: tuple[str, ...]
    """What it hears of; everything when empty."""
    description: str
    batch_id: str | None
    """The one batch whose events it gets; None for those of all."""
    is_enabled: bool
    disabled_reason: str | None
    """``gone`` where it answered 410."""
    secret: str | None = field(repr=False)
    """What signs its events: known when it was made just now, or rotated."""
    created_at: datetime | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw["webhook_id"]),
            url=str(raw.get("url") or ""),
            event_types=tuple(map(str, raw.get("event_types") or ())),
            description=str(raw.get("description") or ""),
            batch_id=_text(raw.get("batch_id")),
            is_enabled=bool(raw.get("is_enabled")),
            disabled_reason=_text(raw.get("disabled_reason")),
            secret=_text(raw.get("secret")),
            created_at=parse_time(raw.get("created_at")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class WebhookTest:
    """What came of sending a test event."""

    ok: bool
    status_code: int | None
    """None where there was no answer."""
    message: str
    """What is wrong, in words."""
    took_ms: float
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            ok=bool(raw.get("ok")),
            status_code=_integer(raw.get("status_code")),
            message=str(raw.get("message") or ""),
            took_ms=float(raw.get("took_ms") or 0.0),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one webhook."""

    id: str
    event_id: str
    """The same in every attempt and redelivery."""
    event_type: str
    batch_id: str | None
    status: str
    """``pending``, ``succeeded`` or ``failed``."""
    attempts: tuple[Mapping[str, Any], ...]
    """Each with ``number``, ``at``, ``status_code``, ``error`` and ``took_ms``."""
    next_attempt_at: datetime | None
    created_at: datetime | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw["delivery_id"]),
            event_id=str(raw.get("event_id") or ""),
            event_type=str(raw.get("event_type") or ""),
            batch_id=_text(raw.get("batch_id")),
            status=str(raw.get("status") or ""),
            attempts=tuple(map(_mapping, raw.get("attempts") or ())),
            next_attempt_at=parse_time(raw.get("next_attempt_at")),
            created_at=parse_time(raw.get("created_at")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source, or a folder."""

    id: str
    """What a selection names it by; of a folder, what to browse."""
    name: str
    is_folder: bool
    size_bytes: int | None
    """None where only a download tells."""
    media_type: str | None
    modified_at: datetime | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw["file_id"]),
            name=str(raw.get("name") or ""),
            is_folder=bool(raw.get("is_folder")),
            size_bytes=_integer(raw.get("size_bytes")),
            media_type=_text(raw.get("media_type")),
            modified_at=parse_time(raw.get("modified_at")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of a job."""

    id: str
    """As it was selected."""
    name: str
    status: str
    progress: int
    """0 to 100."""
    current_step: str
    error: str | None
    """Why it failed."""
    size_bytes: int | None
    """None until it was fetched."""
    source_type: str | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        facts = _mapping(raw.get("file_metadata"))
        return cls(
            id=str(raw.get("file_id") or ""),
            name=str(facts.get("name") or ""),
            status=str(raw.get("status") or "unknown"),
            progress=_integer(raw.get("progress")) or 0,
            current_step=str(raw.get("current_step") or ""),
            error=_text(raw.get("error")),
            size_bytes=_integer(facts.get("size")),
            source_type=_text(facts.get("source_type")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class SelectionProgress:
    """How far one selection of a job is."""

    connection_id: str
    source_type: str
    total_files: int
    completed_files: int
    failed_files: int
    skipped_files: int
    progress_percentage: float
    files: tuple[JobFile, ...]
    """The first of them, and those being worked on; none in lists of jobs."""
    files_omitted: int
    """How many more there are."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            connection_id=str(raw.get("connection_id") or ""),
            source_type=str(raw.get("source_type") or ""),
            **_file_counts(raw),
            progress_percentage=float(raw.get("progress_percentage") or 0.0),
            files=tuple(JobFile.from_json(each) for each in raw.get("files") or ()),
            files_omitted=_integer(raw.get("files_omitted")) or 0,
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A job over connected sources at one moment. It is a batch, too, under the same id."""

    id: str
    user_id: str
    name: str
    description: str | None
    status: str
    priority: str
    """``low``, ``normal``, ``high``, ``urgent``."""
    total_files: int
    completed_files: int
    failed_files: int
    skipped_files: int
    progress_percentage: float
    created_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    """When it ended, in whichever way."""
    estimated_duration_ms: int | None
    """From start to end: known afterwards, else estimated; None where nobody can."""
    source_progress: tuple[SelectionProgress, ...]
    """By selection, in their order."""
    processing_options: Mapping[str, Any] = field(default_factory=dict)
    """As they are in effect."""
    problem: str | None = None
    """Why it could not run as a whole."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_JOB_STATUSES

    @property
    def files(self) -> tuple[JobFile, ...]:
        """Those that are listed, of all selections."""
        return tuple(file for selection in self.source_progress for file in selection.files)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw["job_id"]),
            user_id=str(raw.get("user_id") or ""),
            name=str(raw.get("name") or ""),
            description=_text(raw.get("description")),
            status=str(raw.get("status") or "unknown"),
            priority=str(raw.get("priority") or "normal"),
            **_file_counts(raw),
            progress_percentage=float(raw.get("progress_percentage") or 0.0),
            created_at=parse_time(raw.get("created_at")),
            started_at=parse_time(raw.get("started_at")),
            completed_at=parse_time(raw.get("completed_at")),
            estimated_duration_ms=_integer(raw.get("estimated_duration_ms")),
            source_progress=tuple(SelectionProgress.from_json(each) for each in raw.get("source_progress") or ()),
            processing_options=_mapping(raw.get("processing_options")),
            problem=_text(raw.get("problem")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class JobStatistics:
    """All of a user's jobs, added up."""

    total_jobs: int
    active_jobs: int
    """Queued, running, paused or retrying."""
    completed_jobs: int
    failed_jobs: int
    cancelled_jobs: int
    total_files_processed: int
    """Completed, failed and skipped, of running jobs too."""
    average_processing_time_ms: float
    """Of jobs that have ended."""
    success_rate: float
    """Completed files of those processed, percent."""
    by_source_type: Mapping[str, int]
    """Files."""
    by_priority: Mapping[str, int]
    by_status: Mapping[str, int]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            total_jobs=_integer(raw.get("total_jobs")) or 0,
            active_jobs=_integer(raw.get("active_jobs")) or 0,
            completed_jobs=_integer(raw.get("completed_jobs")) or 0,
            failed_jobs=_integer(raw.get("failed_jobs")) or 0,
            cancelled_jobs=_integer(raw.get("cancelled_jobs")) or 0,
            total_files_processed=_integer(raw.get("total_files_processed")) or 0,
            average_processing_time_ms=float(raw.get("average_processing_time_ms") or 0.0),
            success_rate=float(raw.get("success_rate") or 0.0),
            by_source_type=_mapping(raw.get("by_source_type")),
            by_priority=_mapping(raw.get("by_priority")),
            by_status=_mapping(raw.get("by_status")),
            raw=raw,
        )


# --- Texts ----------------------------------------------------------------------------------

ENDED_TEXTS = frozenset({"completed", "failed"})


@dataclass(frozen=True, slots=True)
class TextOutcome:
    """What came of one text."""

    index: int
    """0-based place in the request."""
    status: str
    """``completed`` or ``failed``."""
    result: str | None
    """Of ``summarize`` and ``qa``."""
    sentiment: Mapping[str, Any] | None
    """``sentiment``, ``confidence`` and ``explanation``."""
    key_points: tuple[str, ...]
    questions: tuple[str, ...]
    error: str | None
    cache_hit: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """``provider``, ``model``, and the client's own ``user_metadata``."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        response = _mapping(raw.get("response"))
        return cls(
            index=_integer(raw.get("request_index")) or 0,
            status=str(raw.get("status", "")),
            result=_text(response.get("result")),
            sentiment=_mapping(response["sentiment"]) if "sentiment" in response else None,
            key_points=tuple(map(str, response.get("key_points") or ())),
            questions=tuple(map(str, response.get("questions") or ())),
            error=_text(raw.get("error")),
            cache_hit=response.get("cache_hit") is True,
            metadata=_mapping(response.get("metadata")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class TextBatch:
    """A batch of texts at one moment. It is a batch, too."""

    id: str
    """Its own, or the one that was chosen for it."""
    status: str
    """``pending``, ``processing``, ``completed``, ``failed``."""
    message: str
    total: int
    completed: int
    failed: int
    results: tuple[TextOutcome, ...]
    """Of the texts that have ended, in the order of the request."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_final(self) -> bool:
        return self.status in ENDED_TEXTS

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        total, failed = _integer(raw.get("total_requests")) or 0, _integer(raw.get("failed")) or 0
        return cls(
            id=str(raw.get("batch_id", "")),
            # The answer to a batch that has ended says no status: it has counts.
            status=str(raw.get("status") or ("failed" if total and failed == total else "completed")),
            message=str(raw.get("message", "")),
            total=total,
            completed=_integer(raw.get("completed")) or 0,
            failed=failed,
            results=tuple(TextOutcome.from_json(each) for each in raw.get("results") or ()),
            raw=raw,
        )


# --- Streams --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """A frame of a batch's event stream. ``seq`` is None for frames about the stream itself."""

    type: str
    seq: int | None
    data: Mapping[str, Any]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, name: str, raw: Mapping[str, Any]) -> Self:
        """An envelope; a frame about the stream has none, only its name and its data."""
        data = raw.get("data")
        return cls(
            type=str(raw.get("type") or name),
            seq=_integer(raw.get("seq")),
            data=data if isinstance(data, Mapping) else raw,
            raw=raw if "type" in raw else {"type": name, "data": raw},
        )


@dataclass(frozen=True, slots=True)
class EventPage:
    """A page of a batch's history."""

    events: tuple[StreamEvent, ...]
    has_more: bool
    next_after: int
    """Ask again with ``after`` set to this."""
    reset: str | None
    """Why the cursor could not be served: the page then begins with the oldest event there is."""
    ended: bool
    """The batch is over, and this page reaches its last event."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            events=tuple(StreamEvent.from_json("", item) for item in raw.get("data") or ()),
            has_more=bool(raw.get("has_more")),
            next_after=int(raw.get("next_cursor") or 0),
            reset=_text(raw.get("reset")),
            ended=bool(raw.get("ended")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class StreamTicket:
    """What opens the events of one batch where no header can be sent, as in a browser."""

    url: str = field(repr=False)
    """The batch's events, with the ticket in it."""
    sig: str = field(repr=False)
    """The ticket alone: the query parameter ``sig``."""
    batch_id: str
    open_before: datetime | None
    """The stream has to be opened before this; from then on it may be opened again."""
    expires_at: datetime | None
    """The stream ends, and is opened no more."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            url=_links(raw).get("events", ""),
            sig=str(raw["sig"]),
            batch_id=str(raw.get("batch_id") or ""),
            open_before=parse_time(raw.get("open_before")),
            expires_at=parse_time(raw.get("expires_at")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class JobMessage:
    """A message about jobs: ``job_update``, ``file_progress``, ``connection_established`` or one yet to be invented."""

    type: str
    cursor: str | None
    """Where it stands among the user's messages: go on behind it with ``after``."""
    job_id: str | None
    job: Mapping[str, Any]
    """Of a ``job_update``: ``job_id``, ``status``, ``progress_percentage`` and the counts of files."""
    file: Mapping[str, Any]
    """Of a ``file_progress``: ``file_id``, ``status``, ``progress``, ``current_step``, ``error``."""
    timestamp: datetime | None
    missed_events: bool = False
    """Files of this job changed of which nobody can tell any more; its numbers are right.

    Of a ``connection_established``: more jobs ended meanwhile than are told; ``jobs`` lists them all.
    """
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        job = _mapping(raw.get("job"))
        return cls(
            type=str(raw.get("type") or "unknown"),
            cursor=_text(raw.get("cursor")),
            job_id=_text(raw.get("job_id") or job.get("job_id")),
            job=job,
            file=_mapping(raw.get("file")),
            timestamp=parse_time(raw.get("timestamp")),
            missed_events=bool(raw.get("missed_events")),
            raw=raw,
        )

    @property
    def is_final(self) -> bool:
        """Whether it tells that a job has ended: one that is being cancelled is ``cancelled`` before its last files are."""
        if self.type != "job_update":
            return False
        is_over = self.raw.get("is_over")  # servers of before do not say
        return is_over if isinstance(is_over, bool) else self.job.get("status") in FINAL_JOB_STATUSES


# --- Administration -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Who did what."""

    id: str
    type: str
    resource_type: str
    resource_id: str
    actor: str
    timestamp: datetime | None
    details: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw.get("event_id") or ""),
            type=str(raw.get("event_type") or ""),
            resource_type=str(raw.get("resource_type") or ""),
            resource_id=str(raw.get("resource_id") or ""),
            actor=str(raw.get("actor") or ""),
            timestamp=parse_time(raw.get("timestamp")),
            details=_mapping(raw.get("details")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whom batches belong to."""

    id: str
    name: str
    pipeline: str
    created_at: datetime | None
    limits: Mapping[str, int] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw["id"]),
            name=str(raw.get("name") or ""),
            pipeline=str(raw.get("pipeline") or ""),
            created_at=parse_time(raw.get("created_at")),
            limits=_mapping(raw.get("limits")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in."""

    id: str
    username: str
    tenant_id: str
    scopes: tuple[str, ...]
    created_at: datetime | None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw["id"]),
            username=str(raw.get("username") or ""),
            tenant_id=str(raw.get("tenant_id") or ""),
            scopes=tuple(str(scope) for scope in raw.get("scopes") or ()),
            created_at=parse_time(raw.get("created_at")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key: what it looks like, and once, when it was made, the key itself."""

    id: str
    name: str
    tenant_id: str
    scopes: tuple[str, ...]
    user: str | None
    expires_at: datetime | None
    rotated_from: str | None
    """Id of the key it takes the place of."""
    key: str | None = field(default=None, repr=False)
    """Only in the answer that made it, and not in a repeated one."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw["id"]),
            name=str(raw.get("name") or ""),
            tenant_id=str(raw.get("tenant_id") or ""),
            scopes=tuple(str(scope) for scope in raw.get("scopes") or ()),
            user=_text(raw.get("user")),
            expires_at=parse_time(raw.get("expires_at")),
            rotated_from=_text(raw.get("rotated_from")),
            key=_text(raw.get("key")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Token:
    """A user's access token; a client takes it as its ``api_key``."""

    access_token: str = field(repr=False)
    expires_in: int
    """Seconds."""

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(access_token=str(raw["access_token"]), expires_in=_integer(raw.get("expires_in")) or 0)


# --- How JSON is read -----------------------------------------------------------------------


def parse_time(value: object) -> datetime | None:
    """An RFC 3339 time, in UTC where it names no zone; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _file_counts(raw: Mapping[str, Any]) -> dict[str, int]:
    names = ("total_files", "completed_files", "failed_files", "skipped_files")
    return {name: _integer(raw.get(name)) or 0 for name in names}


def _links(raw: Mapping[str, Any]) -> Mapping[str, str]:
    return {name: url for name, url in _mapping(raw.get("links")).items() if isinstance(url, str)}

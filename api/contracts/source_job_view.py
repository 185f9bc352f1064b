"""Contract D's jobs and files: a translation of batches and documents.

Files that were cancelled with their job read as ``pending``: nothing became of them, and a retry runs them.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.contracts.source_job_body import DESCRIPTION, OUR_PRIORITY, JobOptions, Priority
from api.resources import BatchSnapshot
from api.service.documents import LiveDocument
from api.service.jobs import JobSums
from ingather.domain.batch_sums import ran_ms
from ingather.models.batch import BatchRecord, BatchState, Counts, SourceProgress
from ingather.models.content import Stage
from ingather.models.document import DocumentRecord, DocumentStatus

MAX_FILES = 1_000
"""Files of a job that are listed with it; all of them are documents of its batch."""

JobStatus = Literal["pending", "queued", "running", "paused", "completed", "failed", "cancelled", "retrying"]
FileStatus = Literal[
    "pending",
    "accessing",
    "downloading",
    "parsing",
    "chunking",
    "embedding",
    "storing",
    "completed",
    "failed",
    "skipped",
]

STATUS_OF: dict[BatchState, JobStatus] = {
    BatchState.PENDING: "pending",
    BatchState.QUEUED: "queued",
    BatchState.RUNNING: "running",
    BatchState.PAUSING: "paused",
    BatchState.PAUSED: "paused",
    BatchState.RETRYING: "retrying",
    BatchState.FINALIZING: "running",
    BatchState.COMPLETED: "completed",
    BatchState.COMPLETED_WITH_FAILURES: "completed",
    BatchState.FAILED: "failed",
    BatchState.CANCELLING: "cancelled",
    BatchState.CANCELLED: "cancelled",
}
ACTIVE: frozenset[JobStatus] = frozenset({"queued", "running", "paused", "retrying"})

_STEP_OF: dict[Stage | None, tuple[FileStatus, int]] = {
    None: ("accessing", 5),
    Stage.ACCESSING: ("accessing", 5),
    Stage.DOWNLOADING: ("downloading", 15),
    Stage.FETCHING: ("downloading", 15),
    Stage.STORING: ("downloading", 25),
    Stage.WAITING: ("downloading", 30),
    Stage.EXPANDING: ("parsing", 35),
    Stage.DETECTING: ("parsing", 35),
    Stage.PARSING: ("parsing", 40),
    Stage.READING: ("parsing", 50),
    Stage.ANSWERING: ("parsing", 50),
    Stage.CHUNKING: ("chunking", 60),
    Stage.EMBEDDING: ("embedding", 75),
    Stage.WRITING: ("storing", 90),
    Stage.HANDING_ON: ("storing", 90),
}
"""Status and percentage of a file in flight, by the stage that its worker told last."""
_ENDS: dict[DocumentStatus, FileStatus] = {
    DocumentStatus.DONE: "completed",
    DocumentStatus.FAILED: "failed",
    DocumentStatus.SKIPPED: "skipped",
}
_PRIORITIES = {ours: theirs for theirs, ours in OUR_PRIORITY.items()} | {5: Priority.LOW}


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class FileMetadata(View):
    name: str
    size: int | None = None
    """Bytes; null until it was fetched."""
    source_type: str | None = None


class JobFile(View):
    """A file of a job."""

    file_id: str
    """As it was selected."""
    status: FileStatus
    progress: int = Field(ge=0, le=100)
    current_step: str
    error: str | None = None
    file_metadata: FileMetadata


class SelectionProgress(View):
    """One selection of a job."""

    source_type: str
    connection_id: str | None
    total_files: int
    completed_files: int
    failed_files: int
    skipped_files: int
    progress_percentage: float
    files: list[JobFile] = Field(default_factory=list)
    """The first of them, and those in flight; empty in lists."""
    files_omitted: int = 0
    """How many more there are."""


class SourceJob(View):
    """A job, as far as it is."""

    job_id: str
    user_id: str
    name: str
    description: str | None
    status: JobStatus
    priority: Priority
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    total_files: int
    completed_files: int
    failed_files: int
    skipped_files: int
    progress_percentage: float
    estimated_duration_ms: int | None
    """From its start to its end, without the rests before its retries: known once it has ended, estimated before; null while nobody can tell."""
    source_progress: list[SelectionProgress]
    processing_options: dict[str, Any]
    """As they are in effect."""
    problem: str | None = None
    """Why the job as a whole could not run."""
    stale: bool = False
    """As it was last known: what runs did not answer."""


class Statistics(View):
    """All of a user's jobs, added up."""

    total_jobs: int
    active_jobs: int
    completed_jobs: int
    failed_jobs: int
    cancelled_jobs: int
    total_files_processed: int
    """Completed, failed and skipped."""
    average_processing_time_ms: float
    """Of jobs that have ended and had begun to run, without the rests before their retries; 0 without any."""
    success_rate: float
    """Completed files of those processed, percent; 0 without any."""
    by_source_type: dict[str, int]
    """Files."""
    by_priority: dict[str, int]
    by_status: dict[str, int]
    stale: bool = False
    """Jobs that run could not be asked: they count as they were last known, without their files."""


def job_of(
    snapshot: BatchSnapshot, documents: Sequence[LiveDocument] | None = None, *, pace: float | None = None
) -> SourceJob:
    """The job of a batch, with its files where there are ``documents``; ``pace`` is seconds a document here."""
    record, progress = snapshot.record, snapshot.progress
    counts = progress.counts
    return SourceJob(
        job_id=record.batch_id,
        user_id=record.spec.created_by,
        name=record.name,
        description=record.spec.metadata.get(DESCRIPTION),
        status=STATUS_OF[progress.state],
        priority=priority_of(progress.priority),
        created_at=record.created_at,
        started_at=progress.started_at,
        completed_at=progress.ended_at if progress.state.is_final else None,
        **counted(counts),
        estimated_duration_ms=_duration_ms(snapshot, pace),
        source_progress=_selections(progress.sources or record.sources, documents),
        processing_options=_options_of(record),
        problem=progress.problem.message if progress.problem else None,
        stale=snapshot.stale,
    )


def statistics_of(sums: JobSums) -> Statistics:
    """The contract's statistics. Every status and priority is named, also those that no job has."""
    by_status: dict[str, int] = dict.fromkeys(dict.fromkeys(STATUS_OF.values()), 0)
    for state, number in sums.by_state.items():
        by_status[STATUS_OF[state]] += number
    by_priority: dict[str, int] = dict.fromkeys(Priority, 0)
    for priority, number in sums.by_priority.items():
        by_priority[priority_of(priority)] += number
    processed = sums.done + sums.failed + sums.skipped
    return Statistics(
        total_jobs=sum(by_status.values()),
        active_jobs=sum(by_status[status] for status in ACTIVE),
        completed_jobs=by_status["completed"],
        failed_jobs=by_status["failed"],
        cancelled_jobs=by_status["cancelled"],
        total_files_processed=processed,
        average_processing_time_ms=round(sums.ran_ms / sums.ran_count, 3) if sums.ran_count else 0.0,
        success_rate=round(100 * sums.done / processed, 2) if processed else 0.0,
        by_source_type=sums.by_source_type,
        by_priority=by_priority,
        by_status=by_status,
        stale=sums.stale,
    )


def states_of(statuses: Iterable[JobStatus]) -> frozenset[BatchState]:
    """All that a client calls so."""
    wanted = set(statuses)
    return frozenset(state for state, status in STATUS_OF.items() if status in wanted)


def priority_of(ours: int) -> Priority:
    """Through another door a batch may be less urgent than ``low``."""
    return _PRIORITIES[ours]


def counted(counts: Counts) -> dict[str, Any]:
    """The numbers that a job and each of its selections have."""
    processed = counts.done + counts.failed + counts.skipped
    return {
        "total_files": counts.total,
        "completed_files": counts.done,
        "failed_files": counts.failed,
        "skipped_files": counts.skipped,
        "progress_percentage": round(100 * processed / counts.total, 2) if counts.total else 0.0,
    }


def step_of(status: DocumentStatus, stage: Stage | None) -> tuple[FileStatus, int, str]:
    """Status, percentage and step of a file; ``stage`` is the live one of a file in flight."""
    if status in _ENDS:
        return _ENDS[status], 100, _ENDS[status]
    if status is not DocumentStatus.IN_FLIGHT:
        return "pending", 0, "pending"
    told, percentage = _STEP_OF[stage]
    return told, percentage, stage.value if stage else told


def file_of(document: LiveDocument) -> JobFile:
    """A document as a file of its job."""
    record = document.record
    status, progress, step = step_of(record.status, document.stage)
    return JobFile(
        file_id=record.source.file_id if record.source else record.file_id,
        status=status,
        progress=progress,
        current_step=step,
        error=record.error.message if record.error else None,
        file_metadata=FileMetadata(
            name=_name_of(record),
            size=record.size_bytes,
            source_type=record.source.source_type.value if record.source else None,
        ),
    )


def _name_of(record: DocumentRecord) -> str:
    return record.original_filename or record.filename


def _selections(sources: Sequence[SourceProgress], documents: Sequence[LiveDocument] | None) -> list[SelectionProgress]:
    """Each selection with its own files: they are a range of the batch's documents."""
    found, first = [], 0
    for source in sources:
        end = first + source.counts.total
        files = [file_of(each) for each in documents or () if first <= each.record.ordinal < end]
        found.append(
            SelectionProgress(
                source_type=source.source_type,
                connection_id=source.connection_id,
                **counted(source.counts),
                files=files,
                files_omitted=source.counts.total - len(files),
            )
        )
        first = end
    return found


def _duration_ms(snapshot: BatchSnapshot, pace: float | None) -> int | None:
    progress = snapshot.progress
    estimate = snapshot.outlook.estimated_completion_at if snapshot.outlook else None
    end = progress.ended_at if progress.state.is_final else estimate
    if progress.started_at is not None and end is not None:
        return ran_ms(progress.started_at, end, progress.rested_ms)
    if progress.state.is_final or pace is None:
        return None
    return round(pace * progress.counts.total * 1_000)


def _options_of(record: BatchRecord) -> dict[str, Any]:
    return record.spec.options.model_dump(mode="json", include=set(JobOptions.model_fields))

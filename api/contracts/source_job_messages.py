"""Contract D's WebSocket messages: a translation of a batch's events, and the cursor they are resumed by.

One of our events becomes none of theirs, one, or several. What many watch is worded once for all who have come as far.
"""

import base64
import binascii
import struct
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple, Self

import orjson

from api.contracts.source_job_view import STATUS_OF, counted, step_of
from api.resources import BatchSnapshot
from api.streams.subscription import Burst, Frame
from ingather.domain.event_cursor import Mode, Start, decide
from ingather.models.batch import BatchState, Counts
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus
from ingather.models.errors import IngatherError
from ingather.models.events import BATCH_END_EVENTS, EventType
from ingather.ports.event_log import LoggedEvent, LogRange

_STATUSES = {
    EventType.DOCUMENT_STARTED: DocumentStatus.IN_FLIGHT,
    EventType.DOCUMENT_SUCCEEDED: DocumentStatus.DONE,
    EventType.DOCUMENT_FAILED: DocumentStatus.FAILED,
    EventType.DOCUMENT_SKIPPED: DocumentStatus.SKIPPED,
    EventType.DOCUMENT_CANCELLED: DocumentStatus.CANCELLED,
}
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
_NUMBERS = ("progress_percentage", "completed_files", "failed_files", "total_files")


def message(kind: str, at: datetime | str | None = None, **said: Any) -> bytes:
    """One message as JSON."""
    return orjson.dumps({"type": kind, "timestamp": at or datetime.now(UTC), **said}, option=_OPTIONS)


def job_update(
    job_id: str, state: BatchState, counts: Counts, at: datetime | str | None = None, *, is_reset: bool = False
) -> bytes:
    """How far a job is; with ``is_reset``, that what led there is no longer retained.

    ``is_over`` tells a job that is ``cancelled`` from one that is so already while its last files are being stopped.
    """
    numbers = counted(counts)
    job = {"job_id": job_id, "status": STATUS_OF[state], **{name: numbers[name] for name in _NUMBERS}}
    missed = {"missed_events": True} if is_reset else {}
    return message("job_update", at, job=job, is_over=state.is_final, **missed)


class _Known(NamedTuple):
    """What the wording of the next event depends on."""

    counts: Counts
    stages: tuple[tuple[str, str | None], ...] = ()
    """Last stage told of each file in flight."""


class SocketWording:
    """Words one job's events for one WebSocket: lines of ``number message``, ready for the number to become a cursor.

    Args:
        after: the last event of the job that the client saw; None for one that begins with the job as it is.
        snapshot: the job as it is.
    """

    def __init__(self, job_id: str, after: int | None, snapshot: Callable[[], Awaitable[BatchSnapshot]]) -> None:
        self._job_id = job_id
        self._after = after
        self._snapshot = snapshot
        self._at = after or 0
        self._is_reset = False
        self._known = _Known(Counts())
        self.has_lagged = False
        """The client was too slow."""
        self.version = 0
        """Of the job's end that was told last."""

    async def look(self) -> None:
        """Learn the present numbers: events that change a state alone do not bring any."""
        self._known = _Known((await self._snapshot()).progress.counts)

    def begun(self) -> bytes:
        return b""

    def alive(self) -> bytes:
        return b""

    def waiting(self) -> bytes:
        return b""

    def start(self, known: LogRange) -> Start:
        return decide(self._after, known.oldest, known.latest, complete=known.complete)

    def has_all(self, latest: int) -> bool:
        return self._after == latest

    def opened(self, start: Start, known: LogRange) -> bytes:  # noqa: ARG002  # as the protocol has it
        if start.mode is not Mode.WAITING:
            self._at = start.after
        return b""

    def reset(self, start: Start, known: LogRange) -> bytes:
        self._is_reset = True
        self._at = known.oldest - 1 if start.reason == "lost" else start.after
        return b""

    async def snapshot(self) -> bytes:
        is_reset, self._is_reset = self._is_reset, False
        try:
            progress = (await self._snapshot()).progress
        except IngatherError:
            return b""  # the next numbers are absolute
        self._known = self._known._replace(counts=progress.counts)
        if progress.state.is_final:
            self.version = progress.version
        return _line(self._at, job_update(self._job_id, progress.state, progress.counts, is_reset=is_reset))

    def burst(self, burst: Burst) -> bytes:
        return b"".join(map(self.frame, burst.frames))

    def frame(self, frame: Frame) -> bytes:
        self._at = frame.seq
        if frame.type in BATCH_END_EVENTS:
            self.version = orjson.loads(frame.event.body)["data"]["version"]
        key = ("sources", self._known)
        if key not in frame.said:
            told, known = _told(self._job_id, frame.event, self._known)
            # Several messages are resumed before all of them or behind them.
            numbers = [frame.seq - 1] * (len(told) - 1) + [frame.seq]
            frame.said[key] = (b"".join(map(_line, numbers[-len(told) :], told)), known)
        said: bytes
        said, self._known = frame.said[key]
        return said

    def lagged(self, last: int | None) -> bytes:  # noqa: ARG002  # as the protocol has it
        self.has_lagged = True
        return b""

    def draining(self) -> bytes:
        return b""

    async def end(self, last: int | None) -> bytes:  # noqa: ARG002  # as the protocol has it
        return b""


def _line(number: int, said: bytes) -> bytes:
    return b"%d %s\n" % (number, said)


def lines_of(chunk: bytes) -> list[tuple[int, bytes]]:
    """Event number and message of each line that a wording gave."""
    pairs = (line.split(b" ", 1) for line in chunk.split(b"\n") if line)
    return [(int(number), said) for number, said in pairs]


def _told(job_id: str, event: LoggedEvent, known: _Known) -> tuple[list[bytes], _Known]:
    ours = orjson.loads(event.body)
    data, at = ours["data"], ours["time"]
    if event.type in _STATUSES:
        return [_file_progress(job_id, data, _STATUSES[EventType(event.type)], None, at)], known
    counts = Counts(**data["counts"]) if "counts" in data else known.counts
    told = [job_update(job_id, BatchState(data["status"]), counts, at)]
    if event.type != EventType.BATCH_PROGRESS:
        return told, _Known(counts, known.stages)
    before = dict(known.stages)
    files = data.get("files", ())
    changed = [file for file in files if before.get(file["document_id"]) != file["stage"]]
    told += [_file_progress(job_id, file, DocumentStatus.IN_FLIGHT, file["stage"], at) for file in changed]
    return told, _Known(counts, tuple((file["document_id"], file["stage"]) for file in files))


def _file_progress(job_id: str, data: Mapping[str, Any], status: DocumentStatus, stage: str | None, at: str) -> bytes:
    source = data.get("source") or {}
    name, error = data.get("original_filename") or data["filename"], data.get("error") or {}
    told, percentage, step = step_of(status, Stage(stage) if stage else None)
    file = {
        "file_id": source.get("file_id", data["document_id"]),
        "status": told,
        "progress": percentage,
        "current_step": step,
        "error": (error.get("message") or error.get("code")) if error else None,
        "file_metadata": {"name": name, "size": data.get("size_bytes"), "source_type": source.get("source_type")},
    }
    return message(
        "file_progress",
        at,
        job_id=job_id,
        source_type=source.get("source_type"),
        connection_id=source.get("connection_id"),
        file=file,
    )


# --- The cursor ------------------------------------------------------------------------------------

_HEAD = struct.Struct(">BQ")
_ENTRY = struct.Struct(">16sI")
_VERSION = 1
MAX_POSITIONS = 200
"""Jobs in a cursor, which has to fit into a URL: those of the socket that ended first make room for others."""


@dataclass(slots=True)
class Positions:
    """Up to which event each job was sent, and since when nothing else happened that was not."""

    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    """Jobs that ended before and are not named were sent to their end, or were not asked for."""
    by_job: dict[str, int] = field(default_factory=dict)

    def cursor(self) -> str:
        """As text that a URL takes as it is: of more than ``MAX_POSITIONS`` jobs the last are left out, and told again."""
        head = _HEAD.pack(_VERSION, int(self.since.timestamp() * 1_000))
        entries = (
            _ENTRY.pack(uuid.UUID(job_id).bytes, seq) for job_id, seq in islice(self.by_job.items(), MAX_POSITIONS)
        )
        return base64.urlsafe_b64encode(head + b"".join(entries)).rstrip(b"=").decode()

    @classmethod
    def of(cls, cursor: str) -> Self | None:
        """What ``cursor`` made; None for anything else."""
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            version, milliseconds = _HEAD.unpack_from(raw)
            since = datetime.fromtimestamp(milliseconds / 1_000, UTC)
            entries = list(_ENTRY.iter_unpack(raw[_HEAD.size :]))
        except (binascii.Error, ValueError, struct.error, OverflowError, OSError):
            return None
        if version != _VERSION or len(entries) > MAX_POSITIONS:
            return None
        return cls(since, {str(uuid.UUID(bytes=job_id)): seq for job_id, seq in entries})

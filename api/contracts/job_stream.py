"""Contract A's stream: its events as Server-Sent Events, whatever is retained first, and how it ends."""

from collections.abc import Awaitable, Callable

import orjson

from api.contracts.job_events import JobStatus, JobTeller, final_status_told
from api.streams.frames import RETRY_MS, comment
from api.streams.subscription import Burst, Frame
from api.streams.wording import SseTalk, draining_retry_ms
from ingather.domain.event_cursor import Mode, Start, parse_cursor
from ingather.models.events import BATCH_END_EVENTS
from ingather.ports.event_log import LogRange

EVENT = "progress"
"""Name of every event but the last."""
LAST_EVENT = "complete"
_END_MARK = "-end"
"""Behind the number in the id of the last event: a client that has that one has all."""


class JobWording(SseTalk):
    """Words one client's stream. It begins behind ``Last-Event-ID``, else with the oldest event that is retained.

    Args:
        last_event_id: as the client sent it.
        status: the job's status now, for a stream whose client had all events but the last.
    """

    def __init__(self, job_id: str, last_event_id: str | None, status: Callable[[], Awaitable[JobStatus]]) -> None:
        self._job_id = job_id
        number, mark, _ = (last_event_id or "").partition(_END_MARK)
        self._cursor = parse_cursor(number)
        self._had_end = bool(mark)
        self._status = status
        self._teller = JobTeller(job_id, begun=False)
        self._held: tuple[Frame, bool] | None = None
        """The batch's end, until it is certain that no retry follows, and whether it came to a start before."""

    def start(self, known: LogRange) -> Start:
        cursor = self._cursor
        is_there = cursor is not None and 0 < cursor <= known.latest and cursor >= known.oldest - 1
        # Where the beginning is no longer retained, it is not made up.
        self._teller.begun = is_there or not (known.complete or not known.latest)
        return Start(Mode.REPLAY, (cursor or 0) if is_there else max(known.oldest - 1, 0))

    def has_all(self, latest: int) -> bool:
        return self._had_end and self._cursor == latest

    def opened(self, start: Start, known: LogRange) -> bytes:
        if start.mode is Mode.WAITING:
            return comment("waiting for the event log")
        return comment(f"events {start.after + 1} to {known.latest}, then what comes")

    def reset(self, start: Start, known: LogRange) -> bytes:
        return comment(f"the events before {known.oldest} are not retained ({start.reason})")

    async def snapshot(self) -> bytes:
        return comment("the job itself says how far it is")

    def burst(self, burst: Burst) -> bytes:
        return b"".join(map(self.frame, burst.frames))

    def frame(self, frame: Frame) -> bytes:
        said = b""
        if self._held is not None:
            # It went on after all: that end was not the end.
            (_, self._teller.begun), self._held = self._held, None
        if frame.type in BATCH_END_EVENTS:
            self._held = (frame, self._teller.begun)
        else:
            said = self._worded(frame)
        return said

    def lagged(self, last: int | None) -> bytes:
        return comment(f"too far behind at event {last}") + _retry(RETRY_MS)

    def draining(self) -> bytes:
        return _retry(draining_retry_ms())

    async def end(self, last: int | None) -> bytes:
        said = b""
        if self._held is not None:
            (frame, _), self._held = self._held, None
            said = self._worded(frame)
            status = final_status_told(frame.event)
        else:
            status = await self._status()
        return said + _frame(LAST_EVENT, orjson.dumps({"status": status}), f"{last or 0}{_END_MARK}")

    def _worded(self, frame: Frame) -> bytes:
        """Worded once for all clients that have come as far."""
        key = (EVENT, self._teller.begun)
        if key not in frame.said:
            told = self._teller.tell(frame.event)
            # What one of ours says in two frames is resumed before both or after both.
            ids = [None] * (len(told) - 1) + [str(frame.seq)]
            chunk = b"".join(_frame(EVENT, body, id_) for body, id_ in zip(told, ids, strict=False))
            frame.said[key] = (chunk, self._teller.begun)
        said: bytes
        said, self._teller.begun = frame.said[key]
        return said


def _frame(name: str, data: bytes, id_: str | None) -> bytes:
    head = f"id: {id_}\nevent: {name}\n" if id_ else f"event: {name}\n"
    return head.encode() + b"data: %s\n\n" % data


def _retry(milliseconds: int) -> bytes:
    return b"retry: %d\n\n" % milliseconds

"""What the events so far say about a batch."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ingather.client.models import FINAL_STATUSES, Batch, DocumentCounts, StreamEvent, parse_time

RATE_WINDOW = 10.0
"""Seconds over which documents a second are measured."""
KEPT_FAILURES = 4

_ENDED = frozenset({"document.succeeded", "document.failed", "document.skipped", "document.cancelled"})

Clock = Callable[[], float]


class BatchPicture:
    """What the events so far say about a batch."""

    def __init__(self, batch: Batch, clock: Clock = time.monotonic) -> None:
        self.batch_id = batch.id
        self.name = batch.name
        self.collection = batch.collection
        self.status = batch.status
        self.counts = batch.counts
        self.waiting_for = batch.waiting_for
        self.estimated_at = batch.estimated_completion_at
        """When it should be done; None while nobody can tell."""
        self.files: dict[int, tuple[str, str, float]] = {}
        """Ordinal → name, stage, when it started, of the documents being worked on."""
        self.failures: deque[tuple[str, str, str]] = deque(maxlen=KEPT_FAILURES)
        """Name, code and advice of the newest failures."""
        self._clock = clock
        self._ended: deque[tuple[float, int]] = deque([(clock(), batch.counts.ended)])

    def apply(self, event: StreamEvent) -> None:
        data = event.data
        if event.type == "stream.snapshot":
            self.files.clear()
            self._take_state(data)
        elif event.type.startswith("batch."):
            self._take_state(data)
        elif event.type.startswith("document."):
            self._take_document(event)

    def look(self, batch: Batch) -> None:
        """Take in what events do not tell; an answer about another state is older or newer than they are."""
        if batch.status == self.status:
            self.waiting_for, self.estimated_at = batch.waiting_for, batch.estimated_completion_at

    def _take_state(self, data: Mapping[str, Any]) -> None:
        status = str(data.get("status") or self.status)
        if status != self.status or "waiting_for" in data:
            self.waiting_for = data.get("waiting_for")
            self.estimated_at = parse_time(data.get("estimated_completion_at"))
        self.status = status
        if isinstance(data.get("counts"), Mapping):
            self.counts = DocumentCounts.from_json(data["counts"])
            self._ended.append((self._clock(), self.counts.ended))
        for item in data.get("files") or ():
            if isinstance(item, Mapping) and isinstance(item.get("ordinal"), int):
                self._take_file(item["ordinal"], item)
        if self.status in FINAL_STATUSES:
            self.files.clear()

    def _take_document(self, event: StreamEvent) -> None:
        ordinal = event.data.get("ordinal")
        if not isinstance(ordinal, int):
            return
        if event.type in _ENDED:
            self.files.pop(ordinal, None)
            if event.type == "document.failed":
                self.failures.appendleft(failure_of(event.data))
        else:
            self._take_file(ordinal, event.data)

    def _take_file(self, ordinal: int, data: Mapping[str, Any]) -> None:
        name, stage, since = self.files.get(ordinal, ("", "", self._clock()))
        name = str(data.get("filename") or name or f"document {ordinal}")
        self.files[ordinal] = (name, str(data.get("stage") or stage), since)

    @property
    def rate(self) -> float:
        """Documents that ended in a second, over the last ten."""
        now = self._clock()
        while len(self._ended) > 2 and now - self._ended[0][0] > RATE_WINDOW:
            self._ended.popleft()
        started, before = self._ended[0]
        ended = self._ended[-1][1] - before
        return ended / (now - started) if ended > 0 and now > started else 0.0

    @property
    def seconds_left(self) -> float | None:
        left = self.counts.total - self.counts.ended
        return left / self.rate if self.rate and self.status == "running" else None


def failure_of(data: Mapping[str, Any]) -> tuple[str, str, str]:
    """Name, code and advice of a ``document.failed`` event."""
    error = data.get("error")
    facts: Mapping[str, Any] = error if isinstance(error, Mapping) else data
    name = str(data.get("filename") or f"document {data.get('ordinal')}")
    return name, str(facts.get("code") or "unknown"), str(facts.get("action") or "")

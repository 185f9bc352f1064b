"""How a stream is read to its end over any number of connections: never a silent gap, never a duplicate.

Decides; whoever does the IO connects, hands on what arrives, and waits.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from ingather.client.calls import LONGEST_WAIT, Call, event_stream
from ingather.client.errors import ClientError, StillRunningError, StreamLostError
from ingather.client.models import Batch, StreamEvent
from ingather.client.retries import is_passing

STREAM_SILENCE = 45.0
"""Seconds without a byte after which a stream counts as lost; the server sends a comment every 15."""
PATIENCE = 300.0
"""Seconds without a connection after which following gives up."""
WAITS = (0.5, 1.0, 2.0, 3.0)
"""Seconds between attempts to connect again; the last one repeats."""
SHORTEST_POLL = 1.0
"""Seconds from one question to the next while waiting for an end."""
LONGEST_RETRY = 30.0
"""Seconds of a server's own wish that are granted."""

Clock = Callable[[], float]
OnLost = Callable[[str], None]
"""Told why a connection was lost."""


class Patience:
    """How long to wait between attempts to connect, and when to give up.

    Args:
        what: what is followed, in a word.
        its_id: and which.
        on_lost: told why a connection was lost, before the next attempt.
        clock: for tests.
    """

    def __init__(self, what: str, its_id: str, on_lost: OnLost | None = None, clock: Clock = time.monotonic) -> None:
        self._what = what
        self._its_id = its_id
        self._on_lost = on_lost
        self._clock = clock
        self._heard_at = clock()
        self._attempt = 0
        self.wish: float | None = None
        """Seconds the server wants the next attempt to wait."""

    def heard(self) -> None:
        """The server is there, and tells something."""
        self._heard_at, self._attempt = self._clock(), 0

    def answered(self) -> None:
        """The server is there."""
        self._heard_at = self._clock()

    def lost(self, reason: str) -> float:
        """Seconds until the next attempt.

        Raises:
            StreamLostError: nobody answered for ``PATIENCE``.
        """
        if self._clock() - self._heard_at > PATIENCE:
            raise StreamLostError(self._what, self._its_id, PATIENCE, reason)
        wait = WAITS[min(self._attempt, len(WAITS) - 1)]
        self._attempt += 1
        wish, self.wish = self.wish, None
        if self._on_lost is not None:
            self._on_lost(reason)
        return wait if wish is None else min(wish, LONGEST_RETRY)


class Waiting:
    """How a batch's end is waited for: asked for with a long poll, again and again.

    Args:
        timeout: seconds it may take altogether; None is for ever.
        clock: for tests.
    """

    def __init__(self, timeout: float | None, clock: Clock = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._began_at = self._asked_at = clock()

    def seconds(self) -> float:
        """How long the next answer may be held back."""
        self._asked_at = self._clock()
        return LONGEST_WAIT if self._timeout is None else max(0.0, min(LONGEST_WAIT, self._left))

    def pause(self, batch: Batch) -> float | None:
        """Seconds until it is asked for again; None when it has ended.

        Raises:
            StillRunningError: the time is up.
        """
        if batch.is_final:
            return None
        if self._timeout is not None and self._left <= 0:
            raise StillRunningError(batch.id, batch.status, self._timeout)
        # A server that is going away, or a proxy that drops the wish, answers at once.
        return max(0.0, SHORTEST_POLL - (self._clock() - self._asked_at))

    @property
    def _left(self) -> float:
        return (self._timeout or 0.0) - (self._clock() - self._began_at)


class Following:
    """Where a reader of one batch's events stands.

    Args:
        batch_id: whose events.
        after: ``seq`` behind which to go on; None starts with a snapshot of now, 0 with the first event.
        on_lost: told why a connection was lost, before the next attempt.
    """

    def __init__(self, batch_id: str, after: int | None, on_lost: OnLost | None = None) -> None:
        self._batch_id = batch_id
        self.after = after
        self.is_over = False
        """The batch's last event was read, or there was none left."""
        self._previous = after
        """The event that the next one must follow; None where any may come."""
        self._gap_before: int | None = None
        """The event before which some were missing on the connection before."""
        self._opened_behind: int | None = None
        """The last event that the snapshot to come has in it."""
        self._was_told = False
        """An event came over this connection."""
        self._had_ended = False
        """The batch had ended before this connection was made."""
        self._patience = Patience("batch", batch_id, on_lost)
        self._reason = ""

    def call(self) -> Call[None]:
        """The next connection."""
        self._reason, self._was_told = "", False
        return event_stream(self._batch_id, self.after)

    @property
    def must_leave(self) -> bool:
        """This connection tells nothing more that can be used."""
        return bool(self._reason)

    def take(self, name: str, data: str) -> list[StreamEvent]:
        """What is to be told of a frame: nothing of one that was told before."""
        event = StreamEvent.from_json(name, _object(data))
        if event.seq is None:
            self._take_frame(event)
            return [event]
        told: list[StreamEvent] = []
        if self._previous is not None:
            if event.seq <= self._previous:
                return []
            if event.seq > self._previous + 1:
                if self._gap_before != event.seq:
                    # What is missing may have been lost on the way: it is asked for again.
                    self._gap_before = event.seq
                    self._reason = f"the events before {event.seq} did not arrive"
                    return []
                told.append(_gap(self._previous, event.seq))
        self._gap_before, self._was_told = None, True
        self.after = self._previous = event.seq
        self._patience.heard()
        return [*told, event]

    def closed(self, *, is_final: bool) -> None:
        """The server ended the connection without ``stream.end``, and says whether the batch has ended.

        What happened between the two is asked for once more; it is over where there was none.
        """
        self._patience.answered()
        self.is_over = self._had_ended and not self._was_told
        self._had_ended = is_final

    def lost(self, error: ClientError | None) -> float:
        """Seconds until the next connection; the error is None where the server ended this one.

        Raises:
            ClientError: the server refused the stream for good, or was away too long.
        """
        if error is not None:
            if not is_passing(error):
                raise error
            self._reason = error.title
            self._patience.wish = error.retry_after
        reason = self._reason or "the server closed the stream"
        return self._patience.lost(reason)

    def _take_frame(self, event: StreamEvent) -> None:
        match event.type:
            case "stream.end":
                self.is_over = True
            case "stream.reset":
                # Our cursor means nothing to the server any more; the snapshot that follows starts anew.
                self.after = self._previous = self._opened_behind = None
            case "stream.open":
                is_known = event.data.get("mode") != "waiting"
                self._opened_behind = _integer(event.data.get("latest_seq")) if is_known else None
            case "stream.snapshot":
                self._previous = None
                if self.after is None:
                    self.after = self._opened_behind
            case "stream.draining" | "stream.lagged":
                retry_ms = _integer(event.data.get("retry_ms"))
                self._patience.wish = None if retry_ms is None else retry_ms / 1000


def _gap(previous: int, seq: int) -> StreamEvent:
    """What the server did not say: that events are missing, and will not come."""
    data: Mapping[str, Any] = {"reason": "missing", "oldest_seq": seq, "latest_seq": seq, "last_seq": previous}
    return StreamEvent("stream.reset", None, data, {"type": "stream.reset", "data": data})


def _object(data: str) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) else None

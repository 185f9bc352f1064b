"""How a stream speaks: our own frames, or a contract's, about the same events.

The session decides what a client gets and when; its wording, one for each client, says it.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from api.streams.frames import RETRY_MS, comment, control_frame, retry_frame
from api.streams.subscription import Burst, Frame
from ingather.domain.event_cursor import Mode, Start, decide
from ingather.models.errors import IngatherError
from ingather.models.events import ControlFrame
from ingather.ports.event_log import LogRange

RenderBatch = Callable[[], Awaitable[dict[str, Any]]]
"""The whole batch as its resource, JSON-ready."""

DRAINING_RETRY_MS = (1_000, 6_000)
_SIGN_OF_LIFE = b":\n\n"
"""A comment: proxies and clients see that the connection is not dead."""


class Wording(Protocol):
    """Encoded frames for one client. An empty answer is nothing to send."""

    def begun(self) -> bytes:
        """The first word, before anything is known."""
        ...

    def alive(self) -> bytes:
        """Nothing happened for a while."""
        ...

    def waiting(self) -> bytes:
        """Nothing can be told until the event log can be read again."""
        ...

    def start(self, known: LogRange) -> Start:
        """Where the stream begins, given what the log holds. What is no replay begins with a snapshot."""
        ...

    def has_all(self, latest: int) -> bool:
        """The client has seen all there is of a batch that is over: it is told so, instead of a stream."""
        ...

    def opened(self, start: Start, known: LogRange) -> bytes: ...

    def reset(self, start: Start, known: LogRange) -> bytes:
        """What comes does not follow what the client has."""
        ...

    async def snapshot(self) -> bytes: ...

    def burst(self, burst: Burst) -> bytes:
        """Events that follow what the client has."""
        ...

    def frame(self, frame: Frame) -> bytes:
        """The same of a single one."""
        ...

    def lagged(self, last: int | None) -> bytes:
        """The client was too slow; it may come again."""
        ...

    def draining(self) -> bytes:
        """The process goes away; the client may come again."""
        ...

    async def end(self, last: int | None) -> bytes:
        """The batch is over, and so is the stream."""
        ...


class SseTalk:
    """What is said between events on every SSE connection."""

    def begun(self) -> bytes:
        return retry_frame()

    def alive(self) -> bytes:
        return _SIGN_OF_LIFE

    def waiting(self) -> bytes:
        return comment("waiting for the event log")


class OurWording(SseTalk):
    """Envelopes as they are logged, and control frames.

    Args:
        cursor: the last event the client saw, as ``parse_cursor`` reads it.
        render: for snapshots.
    """

    def __init__(self, cursor: int | None, render: RenderBatch) -> None:
        self._cursor = cursor
        self._render = render

    def start(self, known: LogRange) -> Start:
        return decide(self._cursor, known.oldest, known.latest, complete=known.complete)

    def has_all(self, latest: int) -> bool:
        return self._cursor == latest

    def opened(self, start: Start, known: LogRange) -> bytes:
        data = {"mode": start.mode, "oldest_seq": known.oldest, "latest_seq": known.latest}
        return control_frame(ControlFrame.OPEN, data)

    def reset(self, start: Start, known: LogRange) -> bytes:
        data = {"reason": start.reason, "oldest_seq": known.oldest, "latest_seq": known.latest}
        return control_frame(ControlFrame.RESET, data)

    async def snapshot(self) -> bytes:
        try:
            return control_frame(ControlFrame.SNAPSHOT, await self._render())
        except IngatherError as error:
            # The next batch.progress has absolute numbers, so the stream is worth keeping open.
            return comment(f"no snapshot: {error.code}")

    def burst(self, burst: Burst) -> bytes:
        return burst.sse  # the very bytes that others get

    def frame(self, frame: Frame) -> bytes:
        return frame.sse

    def lagged(self, last: int | None) -> bytes:
        return control_frame(ControlFrame.LAGGED, {"last_seq": last, "retry_ms": RETRY_MS})

    def draining(self) -> bytes:
        retry_ms = draining_retry_ms()
        return control_frame(ControlFrame.DRAINING, {"retry_ms": retry_ms}, retry_ms=retry_ms)

    async def end(self, last: int | None) -> bytes:
        return control_frame(ControlFrame.END, {"last_seq": last}, cursor=last)


WAITING = Start(Mode.WAITING, 0)
"""The log cannot be read at the moment."""


def draining_retry_ms() -> int:
    """When to come again after a process went away: not all at once."""
    return random.randint(*DRAINING_RETRY_MS)

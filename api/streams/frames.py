"""How events look on an SSE connection."""

from typing import Any

import orjson

from ingather.domain.event_stream import one_line
from ingather.models.events import ControlFrame
from ingather.ports.event_log import LoggedEvent

SEPARATOR = "\n"
RETRY_MS = 3_000

HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
MEDIA_TYPE = "text/event-stream"


def event_frame(event: LoggedEvent) -> bytes:
    """An event with its cursor. The body is JSON on one line, so no name in it can break out of the frame."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), event.body)


def control_frame(
    kind: ControlFrame, data: dict[str, Any], *, retry_ms: int | None = None, cursor: int | None = None
) -> bytes:
    """A frame about the stream itself. Only ``stream.end`` carries a cursor, so that a reconnect is told to stop."""
    head = b"id: %d\n" % cursor if cursor is not None else b""
    if retry_ms is not None:
        head += b"retry: %d\n" % retry_ms
    body = one_line(orjson.dumps(data, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS))
    return head + b"event: %s\ndata: %s\n\n" % (kind.value.encode(), body)


def retry_frame() -> bytes:
    """How long a browser waits before it reconnects."""
    return b"retry: %d\n\n" % RETRY_MS


def comment(text: str) -> bytes:
    """A line that clients ignore."""
    return f": {text}\n\n".encode()

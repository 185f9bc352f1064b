"""The response that carries a stream: slow clients, shutdown."""

from collections.abc import AsyncIterable, Callable

import anyio
import structlog
from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from api.streams.frames import HEADERS, SEPARATOR

log = structlog.get_logger(__name__)

SEND_TIMEOUT_SECONDS = 20.0
SHUTDOWN_GRACE_SECONDS = 4.0


class StreamResponse(EventSourceResponse):
    """Frames as they come, already encoded.

    Args:
        frames: what to send.
        shutdown: set when the server was asked to stop; ``frames`` then ends by itself.
        on_closed: called once, however the stream ends.
    """

    def __init__(self, frames: AsyncIterable[bytes], *, shutdown: anyio.Event, on_closed: Callable[[], None]) -> None:
        super().__init__(
            frames,
            headers=HEADERS,
            sep=SEPARATOR,
            ping=0,  # ``frames`` has its own signs of life; a timer and a task for each client would cost more
            send_timeout=SEND_TIMEOUT_SECONDS,
            shutdown_event=shutdown,
            shutdown_grace_period=SHUTDOWN_GRACE_SECONDS,
        )
        self._on_closed = on_closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            # The connection is given up without an end, so the client reconnects with its cursor.
            log.info("stream.stalled", seconds=SEND_TIMEOUT_SECONDS)
        finally:
            self._on_closed()

"""The response that carries a stream: slow clients, shutdown."""

import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping
from contextlib import aclosing

import anyio
import structlog
from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from api.streams.frames import HEADERS, SEPARATOR

log = structlog.get_logger(__name__)

SEND_TIMEOUT_SECONDS = 20.0
SHUTDOWN_GRACE_SECONDS = 4.0
WELCOME_SECONDS = 10.0
"""Between two looks at the credential of an open stream: less than between two signs of life."""


async def while_welcome(
    frames: AsyncGenerator[bytes], is_welcome: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes]:
    """The frames as long as the client's credential is accepted. Asked with the first frame after a while: one comes at
    the latest as a sign of life. A client that comes again is told why it was left.
    """
    asked_at = time.monotonic()
    async with aclosing(frames):
        async for chunk in frames:
            if time.monotonic() - asked_at >= WELCOME_SECONDS:
                if not await is_welcome():
                    log.info("stream.credential_ended")
                    return
                asked_at = time.monotonic()
            yield chunk


class StreamResponse(EventSourceResponse):
    """Frames as they come, already encoded.

    Args:
        frames: what to send.
        shutdown: set when the server was asked to stop; ``frames`` then ends by itself.
        on_closed: called once, however the stream ends.
        headers: beside the ordinary ones, or in their place.
    """

    def __init__(
        self,
        frames: AsyncIterable[bytes],
        *,
        shutdown: anyio.Event,
        on_closed: Callable[[], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            frames,
            headers={**HEADERS, **(headers or {})},
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

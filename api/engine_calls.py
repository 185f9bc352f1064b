"""What every call to the engine has in common: a deadline around all its tries, and our word for an engine that is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from ingather.models.errors import EngineUnavailableError

READ_TIMEOUT = timedelta(seconds=2)
"""For everything that one read asks the engine."""
SILENT_SECONDS = 1.5
"""How long it is remembered that the engine did not answer: whoever reads meanwhile does not wait for it again."""

_NOT_CONNECTED = "Failed client connect"
"""How the SDK's error begins where nobody answers a client that was never connected."""


@asynccontextmanager
async def reached(within: timedelta) -> AsyncIterator[None]:
    """Raises ``EngineUnavailableError`` where no connection is made, or the block takes longer.

    The SDK repeats refused calls on a clock of its own, for ten seconds and more, and connects without one.
    """
    try:
        async with asyncio.timeout(within.total_seconds()) as deadline:
            yield
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise EngineUnavailableError("The workflow engine did not answer in time.") from error
    except RuntimeError as error:
        if not str(error).startswith(_NOT_CONNECTED):
            raise
        raise EngineUnavailableError("The workflow engine cannot be reached.") from error

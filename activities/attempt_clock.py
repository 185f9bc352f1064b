"""How long one attempt at a document may take, where its batch bounds the whole of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingather.models.content import Stage
from ingather.models.errors import DocumentTimeoutError

_IN_PARSER = frozenset({Stage.DETECTING, Stage.PARSING, Stage.CHUNKING, Stage.EMBEDDING})
_GRACE_SECONDS = 1.0
"""A parser that is out of time says so itself, with its stage and what it used: it is let speak first."""


class AttemptClock:
    """Wall clock of an attempt. It stands still while the document stands in line behind others.

    Args:
        limit_seconds: what the attempt may take; None where nothing but its stages is bounded.
    """

    def __init__(self, limit_seconds: float | None) -> None:
        self._limit_seconds = limit_seconds
        self._used_seconds = 0.0
        self._runs_since: float | None = None
        self._timer: asyncio.Timeout | None = None

    @property
    def left_seconds(self) -> float | None:
        """What is left of the attempt's time, no less than nothing; None where it has no limit."""
        if self._limit_seconds is None:
            return None
        return max(0.0, self._limit_seconds - self._used())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Count the time of the block. Raises ``DocumentTimeoutError`` in it when the attempt's is used up."""
        if self._limit_seconds is None:
            yield
            return
        timer = asyncio.timeout(None)
        try:
            async with timer:
                self._timer = timer
                self._run()
                yield
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise DocumentTimeoutError(
                f"The attempt took longer than the {self._limit_seconds:g} seconds it may.",
                timeout_seconds=self._limit_seconds,
            ) from error
        finally:
            self._stand()
            self._timer = None

    def enter(self, stage: Stage) -> None:
        """A stage begins: in line nothing counts."""
        if self._timer is None or self._timer.expired():
            return
        self._stand()
        if stage is Stage.WAITING:
            self._timer.reschedule(None)
        else:
            self._run(_GRACE_SECONDS if stage in _IN_PARSER else 0.0)

    def _run(self, grace_seconds: float = 0.0) -> None:
        assert self._timer is not None  # only counted inside a block
        now = asyncio.get_running_loop().time()
        self._timer.reschedule(now + (self.left_seconds or 0.0) + grace_seconds)
        self._runs_since = now

    def _stand(self) -> None:
        self._used_seconds, self._runs_since = self._used(), None

    def _used(self) -> float:
        if self._runs_since is None:
            return self._used_seconds
        return self._used_seconds + asyncio.get_running_loop().time() - self._runs_since

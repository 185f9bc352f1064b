"""Progress of batches of sheets, where everybody can read it: told once, kept for an hour after the last word."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from ingather.models.sheets import StageEvent, ToldEvent

KEPT_SECONDS: Final = 3_600
"""After the last event."""
MOST_EVENTS: Final = 50_000
"""Of one batch that are retained, the latest."""


class SheetProgress(Protocol):
    """A log a batch. What is lost in it is lost to watchers alone: no batch depends on it.

    Methods raise ``EventLogUnavailableError``.
    """

    async def tell(self, event: StageEvent) -> bool:
        """Keep an event and publish it, both or neither.

        Idempotent by ``mark``. False where it was not told: told before, of a stage that is over, or too soon after
        the last one (``at_most_every``).
        """
        ...

    async def read(self, batch_id: str, after: int = 0, limit: int = 1_000) -> list[ToldEvent]:
        """Events behind a number, in order; none for an unknown batch."""
        ...

    async def latest(self, batch_id: str) -> ToldEvent | None:
        """The last one; None where none is retained."""
        ...

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Ids of batches of which something was told, as it is told. What is missed is found by reading again."""
        ...

    async def close(self) -> None: ...

"""Where documents are handed on to workers that are not ours."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from ingather.models.handoff import HandedOn

MARKERS_LAST = timedelta(days=30)
"""How long after a batch's latest push it is remembered which of its documents were pushed."""


class HandoffQueue(Protocol):
    """A list a tenant: pushed on the left, read from the right by whoever the tenant has reading.

    Methods raise ``HandoffUnavailableError``; none blocks the event loop.
    """

    async def push(
        self, tenant_id: str, batch_id: str, documents: Mapping[int, HandedOn], *, again: str = ""
    ) -> tuple[int, ...]:
        """Push documents of one batch, given by ordinal, in the order given; the ordinals of those pushed now.

        Each is pushed once: that it was is noted in the same step, so a repeat, or two callers at once, push
        nothing. ``again`` names a later push of documents pushed before, which is once for that name.
        """
        ...

    async def pushed(self, tenant_id: str, batch_id: str, ordinals: Sequence[int]) -> tuple[int, ...]:
        """Which of these documents are marked as pushed, the first time; none of them once the markers are gone."""
        ...

    async def close(self) -> None: ...

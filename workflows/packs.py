"""Which documents run next, and which of them share an activity.

One activity a document is the rule, and what a person sees in the Temporal UI. Where a
batch has very many small documents, or asks for it, up to 16 of them share one: an activity
costs the server and the SDK more than such a document costs the parser.
"""

from collections import deque
from collections.abc import Iterable
from itertools import islice

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from ingather.domain.ledger import Ledger
    from ingather.models.document import DocumentStatus
    from ingather.models.engine import PACK_DOCUMENTS

LOOK_AHEAD = 64
"""Pending documents looked at for a pack: the order of a batch is kept as far as packs, and large documents, allow."""

PACKS_FOR_ALL = 24
"""A short batch makes at least so many packs, so that they occupy more than one worker."""

PACKS_IN_FLIGHT = 12
"""So many keep workers busy, and a pause takes effect soon."""

LARGE_AT_ONCE = 4
"""So many large documents at most are under way before their turn."""


def pack_limit(document_count: int) -> int:
    """How many documents may share an activity where a batch of this size asks for packs."""
    return max(1, min(PACK_DOCUMENTS, -(-document_count // PACKS_FOR_ALL)))


def large_at_once(window: int) -> int:
    """How many large documents are under way before their turn, of so many activities: the others go on beside them."""
    return min(LARGE_AT_ONCE, window // 2)


class PackPlan:
    """Chooses from a ledger's pending documents, by their place in it.

    Args:
        packable: documents small enough to share an activity.
        limit: how many may share one; 1 for none.
        large: documents that begin before their turn.
        ahead: how many of these at a time.
        leaves_sent_back: documents that a pack sends back are for somebody else to run.
    """

    def __init__(
        self,
        packable: Iterable[int] = (),
        limit: int = 1,
        *,
        large: Iterable[int] = (),
        ahead: int = LARGE_AT_ONCE,
        leaves_sent_back: bool = False,
    ) -> None:
        self.leaves_sent_back = leaves_sent_back
        self._packable = set(packable) if limit > 1 else set()
        self._limit = limit
        self._large = deque(large)
        """Those not yet begun before their turn, rising."""
        self._most_ahead = ahead
        self._ahead: list[int] = []
        """Those that were begun so, and may be in flight."""
        self._alone: set[int] = set()
        self._sent_back: set[int] = set()
        self._kills: dict[int, int] = {}

    @property
    def alone(self) -> list[int]:
        """Documents that were told to run alone, rising."""
        return sorted(self._alone)

    @property
    def all_kills(self) -> dict[int, int]:
        """How often a document killed its parser while it shared an activity, where it did."""
        return dict(sorted(self._kills.items()))

    @property
    def sent_back(self) -> list[int]:
        """Documents that a pack sent back, and nobody asked for since, rising."""
        return sorted(self._sent_back)

    @property
    def has_sent_back(self) -> bool:
        """Whether there is any."""
        return bool(self._sent_back)

    @property
    def packs(self) -> bool:
        """Whether any documents share activities."""
        return bool(self._packable)

    def window(self, wanted: int) -> int:
        """Activities in flight at once."""
        return min(wanted, PACKS_IN_FLIGHT) if self.packs else wanted

    def kills(self, position: int) -> int:
        """How often a document killed its parser while it shared an activity."""
        return self._kills.get(position, 0)

    def run_alone(self, position: int, *, kills: int = 0) -> None:
        """From now on this document gets an activity of its own."""
        self._packable.discard(position)
        self._alone.add(position)
        if kills:
            self._kills[position] = self._kills.get(position, 0) + kills

    def send_back(self, position: int, *, kills: int = 0) -> None:
        """The same for one that a pack could not settle: when the others have begun."""
        self.run_alone(position, kills=kills)
        self._sent_back.add(position)

    def forgive(self, position: int) -> None:
        """A person asked to run it again: what it killed before no longer counts."""
        self.run_alone(position)
        self._sent_back.discard(position)
        self._kills.pop(position, None)

    def is_through(self, ledger: Ledger) -> bool:
        """Whether no pending document is left to run."""
        if self.leaves_sent_back:
            return ledger.count(DocumentStatus.PENDING) == len(self._sent_back)
        return ledger.next_pending() is None

    def next(self, ledger: Ledger, *, others_first: bool) -> list[int]:
        """The next pending document, with those that share its activity; empty when none is left to run.

        ``others_first`` is whether one that was sent back waits until all others have begun: it may take all the time
        there is, and a dozen of them would keep everything waiting.
        """
        first = ledger.next_pending()
        if first is None or self.is_through(ledger):
            return []
        if (large := self._next_large(ledger)) is not None:
            return [large]
        if others_first and first in self._sent_back:
            pending = ledger.where(DocumentStatus.PENDING, first)
            first = next((position for position in pending if position not in self._sent_back), first)
        if first not in self._packable:
            return [first]
        following = islice(ledger.where(DocumentStatus.PENDING, first), LOOK_AHEAD)
        return list(islice((position for position in following if position in self._packable), self._limit))

    def _next_large(self, ledger: Ledger) -> int | None:
        """A large document that begins before its turn; None where none is left, or enough of them are under way."""
        self._ahead = [position for position in self._ahead if ledger[position] is DocumentStatus.IN_FLIGHT]
        while self._large and len(self._ahead) < self._most_ahead:
            position = self._large.popleft()
            if ledger[position] is DocumentStatus.PENDING:
                self._ahead.append(position)
                return position
        return None

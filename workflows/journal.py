"""What happened to a batch, in order: the poller reads on from where it was."""

from collections.abc import Iterable

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from ingather.models.batch import BatchProgress, BatchState
    from ingather.models.document import DocumentStatus
    from ingather.models.messages import JOURNAL_ENTRY, JournalEntry, JournalKind, OutcomesPage

PAGE_SIZE = 1_000
CARRIED_BYTES = 350_000
"""What a continue-as-new takes along: both ends of a thousand documents, and with the ledger of a million half of what
the server warns at. A child that ran a few failed documents out of very many may take a kilobyte."""


class Journal:
    """Append-only, positions never used twice for a batch, across runs and retries.

    Args:
        first: position of the first entry.
        entries: what an earlier run carried over.
    """

    def __init__(self, first: int = 0, entries: Iterable[JournalEntry] = ()) -> None:
        self._first = first
        self._entries = list(entries)

    @property
    def next(self) -> int:
        return self._first + len(self._entries)

    def state(self, state: BatchState) -> None:
        self._entries.append(JournalEntry(kind=JournalKind.STATE, at=workflow.now(), state=state))

    def started(self, ordinal: int) -> None:
        self._entries.append(JournalEntry(kind=JournalKind.STARTED, at=workflow.now(), ordinal=ordinal))

    def ended(self, ordinal: int, status: DocumentStatus, code: str | None) -> None:
        self._entries.append(
            JournalEntry(kind=JournalKind.ENDED, at=workflow.now(), ordinal=ordinal, status=status, code=code)
        )

    def child_started(self, index: int, retry_round: int) -> None:
        self._child(JournalKind.CHILD_STARTED, index, retry_round)

    def child_ended(self, index: int, retry_round: int, ordinals: str) -> None:
        self._child(JournalKind.CHILD_ENDED, index, retry_round, ordinals)

    def _child(self, kind: JournalKind, index: int, retry_round: int, ordinals: str | None = None) -> None:
        self._entries.append(
            JournalEntry(kind=kind, at=workflow.now(), child=index, retry_round=retry_round, ordinals=ordinals)
        )

    def page(self, after: int) -> tuple[int, tuple[JournalEntry, ...]]:
        """Position of the first entry answered, and up to ``PAGE_SIZE`` entries from ``after`` on."""
        start = min(max(after, self._first), self.next)
        offset = start - self._first
        return start, tuple(self._entries[offset : offset + PAGE_SIZE])

    def answer(self, after: int, progress: BatchProgress) -> OutcomesPage:
        """What the query ``outcomes(after)`` answers."""
        first, entries = self.page(after)
        return OutcomesPage(
            first=first,
            next=first + len(entries),
            entries=entries,
            more=len(entries) == PAGE_SIZE,
            progress=progress,
        )

    def tail(self) -> tuple[int, tuple[JournalEntry, ...]]:
        """What a continue-as-new carries, and its position."""
        left = CARRIED_BYTES
        first = len(self._entries)
        while first and (left := left - len(JOURNAL_ENTRY.dump_json(self._entries[first - 1])) - 1) >= 0:
            first -= 1
        return self._first + first, tuple(self._entries[first:])

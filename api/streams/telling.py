"""From journals and catalog rows to a batch's story: what a poller read is worded, written, and not told again.

A large batch has a journal of its own, which says when children began and ended, and one for each
child at work. What a child told after the last look at it is in the catalog: a closed workflow is
never asked. Only a page of anything is in memory at a time.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice

from api.streams.writer import EventWriter
from ingather.domain.bitmap import decode_bitmap
from ingather.domain.event_stream import Draft, final_data
from ingather.domain.live_progress import ChildKey
from ingather.domain.story import ended_in
from ingather.domain.told import Told
from ingather.models.batch import MAX_DOCUMENTS_PER_WORKFLOW, BatchProgress, BatchState
from ingather.models.document import DocumentRecord
from ingather.models.messages import JournalEntry, JournalKind, OutcomesPage
from ingather.models.source import SourceRef
from ingather.ports.catalog import Catalog

BACKLOG_DOCUMENTS = 10_000
"""More documents than this are not told at once: each is two events, and they would push each other out of the log.

The oldest are left out, and the gap in the numbers says so.
"""
SLICE_DOCUMENTS = 1_000

_CHILD_KINDS = frozenset({JournalKind.CHILD_STARTED, JournalKind.CHILD_ENDED})


class Teller:
    """Tells what one poller found out about its batch."""

    def __init__(self, batch_id: str, catalog: Catalog, writer: EventWriter) -> None:
        self._batch_id = batch_id
        self._catalog = catalog
        self._writer = writer
        self.names: dict[int, str] = {}
        """File names of documents in flight."""
        self.sources: dict[int, SourceRef] = {}
        """Which files of connected sources they are."""

    def begin_anew(self) -> None:
        self.names.clear()
        self.sources.clear()

    async def tell_page(self, page: OutcomesPage) -> None:
        """A page of the batch's own journal."""
        story = self._writer.story
        if page.first > story.position and not self._writer.is_silent:
            await self._tell_let_go(page)
        # A workflow that was reset has a shorter journal: go on from its end.
        story.position = page.first
        passed_over = await self._too_much(page.entries)
        plain: list[JournalEntry] = []
        for position, entry in enumerate(page.entries, start=page.first):
            if entry.kind not in _CHILD_KINDS:
                plain.append(entry)
                continue
            await self._tell_plain(plain, position)
            plain = []
            await self._tell_child_entry(entry, page.progress, passed_over=position - page.first in passed_over)
            story.position = position + 1
            await self._writer.flush()
        await self._tell_plain(plain, page.next)

    async def tell_children(self, pages: Mapping[ChildKey, OutcomesPage]) -> None:
        """Pages of children's journals, a thousand entries at a time, by the time they happened."""
        story = self._writer.story
        some: dict[ChildKey, OutcomesPage] = {}
        for child, page in pages.items():
            if sum(len(each.entries) for each in some.values()) + len(page.entries) > SLICE_DOCUMENTS:
                await self._tell_together(some)
                some = {}
            some[child] = page
        await self._tell_together(some)
        self.names = {ordinal: name for ordinal, name in self.names.items() if ordinal in story.running}
        self.sources = {ordinal: source for ordinal, source in self.sources.items() if ordinal in story.running}

    async def tell_rest(self, progress: BatchProgress, created_at: datetime) -> None:
        """What the closed workflow can no longer be asked, then the last event."""
        writer, story = self._writer, self._writer.story
        writer.is_silent = False
        story.children.clear()
        ended_at = progress.ended_at or datetime.now(UTC)
        if story.state is None:
            begun: list[Draft | None] = [story.tell_state(BatchState.PENDING, created_at)]
            if progress.started_at is not None:
                begun.append(story.tell_state(BatchState.RUNNING, progress.started_at))
            writer.put([draft for draft in begun if draft is not None])
            await writer.flush()
        elif progress.state is BatchState.CANCELLED:
            # What is told now was cancelled with the batch, whether or not anybody saw that begin.
            story.state = BatchState.CANCELLING
        count = progress.counts.total
        was_retried = progress.retry_round > 0 or story.version > 0
        # A retry that met documents of running children alone is no round of the batch's own.
        is_large = count > MAX_DOCUMENTS_PER_WORKFLOW
        # A large batch of which everything was retried while nobody watched tells of what was not done before alone.
        with_all = was_retried and not is_large
        unsettled = story.told.unsettled(count, with_failed=is_large, with_retriable=was_retried, with_all=with_all)
        for ordinals in self._slices(unsettled, count):
            records = await self._catalog.get_documents(self._batch_id, ordinals)
            writer.put(story.tell_missed(records, ended_at))
            await writer.flush()
        # Also where it ends a second time as it did the first: the retry between the two went unseen.
        story.state = None
        story.version = progress.version
        last = story.tell_state(progress.state, ended_at, **final_data(progress))
        writer.put([last] if last else [])
        await writer.flush()

    # --- Pages ------------------------------------------------------------------------------

    async def _tell_plain(self, entries: Sequence[JournalEntry], position: int) -> None:
        """Entries of the batch's journal that lead to ``position``."""
        records = await self._records(entries)
        # The story moves on here, and what it tells is kept in the same breath: no failure may come between.
        self._writer.put(self._writer.story.tell(entries, records))
        self._writer.story.position = position
        await self._writer.flush()

    async def _tell_together(self, pages: Mapping[ChildKey, OutcomesPage]) -> None:
        records = await self._records([entry for page in pages.values() for entry in page.entries])
        story = self._writer.story
        drafts: list[Draft] = []
        for child, page in pages.items():
            drafts += story.tell(page.entries, records)
            story.children[child] = page.next
        self._writer.put(sorted(drafts, key=lambda draft: draft.time))
        await self._writer.flush()

    async def _records(self, entries: Iterable[JournalEntry]) -> dict[int, DocumentRecord]:
        ordinals = sorted({entry.ordinal for entry in entries if entry.ordinal is not None})
        if not ordinals:
            return {}
        records = {record.ordinal: record for record in await self._catalog.get_documents(self._batch_id, ordinals)}
        self.names.update((ordinal, record.filename) for ordinal, record in records.items())
        self.sources.update((ordinal, each.source) for ordinal, each in records.items() if each.source is not None)
        return records

    # --- Children -----------------------------------------------------------------------------

    async def _tell_child_entry(self, entry: JournalEntry, progress: BatchProgress, *, passed_over: bool) -> None:
        writer, story, child = self._writer, self._writer.story, ChildKey.of(entry)
        if entry.kind is JournalKind.CHILD_STARTED:
            story.begin_child(child)
            return
        open_ordinals = self._open_ordinals(entry)
        if writer.is_silent or passed_over:
            story.pass_over(open_ordinals)
            if passed_over:
                writer.leave_gap()
        else:
            records = await self._catalog.get_documents(self._batch_id, list(decode_bitmap(entry.ordinals or "")))
            is_last_round = progress.retry_round <= entry.retry_round
            records = ended_in(entry, records, is_last_round=is_last_round)
            writer.put(story.tell_missed(records, entry.at))
        story.end_child(child)

    def _open_ordinals(self, entry: JournalEntry) -> list[int]:
        told = self._writer.story.told
        return [ordinal for ordinal in decode_bitmap(entry.ordinals or "") if told.is_open(ordinal)]

    async def _too_much(self, entries: Sequence[JournalEntry]) -> frozenset[int]:
        """Ends of children, by their place in the page, that are too long ago to be told with all that came since."""
        left = BACKLOG_DOCUMENTS
        passed_over: set[int] = set()
        for index in range(len(entries) - 1, -1, -1):
            if entries[index].kind is JournalKind.CHILD_ENDED:
                left -= len(self._open_ordinals(entries[index]))
                if left < 0:
                    passed_over.add(index)
                # A thousand of them are a noticeable moment of work.
                await asyncio.sleep(0)
        return frozenset(passed_over)

    # --- From the catalog -----------------------------------------------------------------------

    async def _tell_let_go(self, page: OutcomesPage) -> None:
        """Older entries were let go by a continue-as-new; the catalog still knows how their documents ended."""
        story, count = self._writer.story, page.progress.counts.total
        if count > MAX_DOCUMENTS_PER_WORKFLOW:
            # A search for them among all rows would take long: watchers get a snapshot, and the rest at the end.
            self._writer.leave_gap()
            story.children.clear()
            return
        records = await self._catalog.get_documents(self._batch_id, range(count))
        self._writer.put(story.tell_missed(records, datetime.now(UTC), early=True))
        story.position = page.first
        await self._writer.flush()

    def _slices(self, unsettled: Iterator[int], document_count: int) -> Iterator[list[int]]:
        """Documents whose end was perhaps not told; the first of them are passed over where there are too many."""
        told = self._writer.story.told
        excess = told.count_unsettled(document_count) - BACKLOG_DOCUMENTS
        if excess > 0:
            self._writer.leave_gap()
        wanted = _without_first(unsettled, told, excess)
        while ordinals := list(islice(wanted, SLICE_DOCUMENTS)):
            yield ordinals


def _without_first(ordinals: Iterator[int], told: Told, excess: int) -> Iterator[int]:
    """``ordinals`` without the first ``excess`` open ones, which are passed over."""
    for ordinal in ordinals:
        if excess > 0 and told.is_open(ordinal):
            told.pass_over(ordinal)
            excess -= 1
        else:
            yield ordinal

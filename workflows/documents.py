"""The documents of one ledger, through their pipeline and into the index.

A batch of up to 1,000 documents runs one of these itself; a larger one runs one in each of
its children. It keeps no state that the ledger does not hold, but for what is done and not
yet searchable, and which documents may no longer share an activity.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from temporalio import workflow
from temporalio.common import Priority

with workflow.unsafe.imports_passed_through():
    from ingather.domain.bitmap import decode_bitmap, encode_bitmap
    from ingather.domain.ledger import Ledger
    from ingather.models.batch import OWN_OBJECTS, BatchSpec, ChildProgress
    from ingather.models.document import DocumentStatus
    from ingather.models.identity import activity_id_for, pack_activity_id_for
    from ingather.models.messages import (
        PACK_KILLED,
        IngestDocumentInput,
        IngestDocumentOutput,
        IngestPackInput,
        IngestPackOutput,
        ReadManifestOutput,
        RetryRequest,
    )
    from workflows.indexing import INDEX_BATCH_SIZE, IndexQueue
    from workflows.journal import Journal
    from workflows.options import fetched, pack_options
    from workflows.outcomes import has_answer, outcome_of, was_cancelled
    from workflows.packs import PackPlan
    from workflows.pipelines import PIPELINES
    from workflows.window import Window

MAX_SUMMARY_BYTES = 400
"""What the Temporal UI shows of an activity's summary."""
SHOWN_IN_FLIGHT = 48

_ENDS_HOLD = "documents that ended when a cancel came have ended"
"""The change since which they have: those whose end came in one task with the cancel counted as cancelled."""

_OTHERS_FIRST = "documents that were sent back wait for the others"
"""The change since which they do: they were begun at once, and a dozen that hang took every place."""
_OTHERS_FIRST_BEFORE = "documents that were handed back wait for the others"
"""The same change under its first name, which batches that ran in between have in their histories."""

_LARGE_FIRST = "large documents begin before their turn"
"""The change since which they do: one in the middle of a batch went on alone when all others had ended."""

_PACK_STATUSES = {"d": DocumentStatus.DONE, "f": DocumentStatus.FAILED, "s": DocumentStatus.SKIPPED}


@dataclass(frozen=True)
class Share:
    """The documents one workflow runs itself.

    Args:
        ordinals: their numbers in the batch, rising; everything else goes by the place in this list.
        filenames: for the summaries people read in the Temporal UI.
        plan: which of them share an activity.
        window: activities in flight at once.
        in_sources: those that are fetched from a connected source first.
        index_batch_size: how many are made searchable in one write.
    """

    ordinals: Sequence[int]
    filenames: Sequence[str]
    plan: PackPlan
    window: int
    in_sources: Collection[int] = frozenset()
    index_batch_size: int = INDEX_BATCH_SIZE


class DocumentRun:
    """Dispatches pending documents, records how they end, makes finished ones searchable.

    Args:
        spec: what the batch asked for.
        ledger: where every document of the share stands; changed here, in place.
        share: which documents they are.
        journal: where starts and ends are noted.
        on_change: called once an activation in which something changed.
    """

    def __init__(
        self, spec: BatchSpec, ledger: Ledger, share: Share, journal: Journal, on_change: Callable[[], None]
    ) -> None:
        self.priority = spec.priority
        self.retry_round = 0
        self.again = False
        """Somebody ran these documents before and came to nothing."""
        self.paused = False
        self.draining = False
        """Start nothing more, so that the workflow can continue as new."""
        self._spec = spec
        self._ledger = ledger
        self._share = share
        self._journal = journal
        self._on_change = on_change
        self._pipeline = PIPELINES[spec.pipeline]
        self._options = self._pipeline.options(spec.options)
        self._fetch_options = fetched(self._options)
        self._pack_options = pack_options(spec.options)
        self._window = Window(share.plan.window(share.window))
        self._index = IndexQueue(
            spec,
            self._temporal_priority,
            self._not_searchable,
            self.wake,
            share.index_batch_size,
        )
        self._positions = {ordinal: position for position, ordinal in enumerate(share.ordinals)}
        self._stopping = False
        self._holds = 0
        self._ticks = 0

    @property
    def plan(self) -> PackPlan:
        """Which documents share an activity, and which may no longer."""
        return self._share.plan

    @property
    def in_flight(self) -> tuple[int, ...]:
        """Ordinals being worked on, the first of them."""
        positions = self._ledger.where(DocumentStatus.IN_FLIGHT)
        return tuple(self._share.ordinals[position] for position in islice(positions, SHOWN_IN_FLIGHT))

    @property
    def is_busy(self) -> bool:
        """Whether any document is in flight."""
        return bool(len(self._window))

    @property
    def is_under_way(self) -> bool:
        """Whether any document is in flight, or done and not yet searchable."""
        return not self._is_settled

    @property
    def children(self) -> tuple[ChildProgress, ...]:
        """None: it runs its documents itself."""
        return ()

    @property
    def searchable_count(self) -> int:
        """Done documents that search can find."""
        return self._ledger.count(DocumentStatus.DONE) - len(self._index)

    @property
    def should_drain(self) -> bool:
        """The server says that history grew long."""
        return workflow.info().is_continue_as_new_suggested()

    @contextmanager
    def dispatch_held(self) -> Iterator[None]:
        """Start nothing while the block runs."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self.wake()

    def wake(self) -> None:
        """Have the dispatcher look again: something changed."""
        self._ticks += 1

    async def run(self) -> None:
        """Work until nothing is left to run, in flight or unindexed; or, when draining, until nothing is under way."""
        while True:
            seen = self._ticks
            self._dispatch()
            self._index.write_what_is_due(nothing_comes=self._nothing_comes)
            self._on_change()
            if self._is_settled and (self.draining or self._share.plan.is_through(self._ledger)):
                break
            await workflow.wait_condition(lambda seen=seen: self._ticks != seen)  # type: ignore[misc]  # bound default
        self._index.stop_timer()

    async def stop(self) -> None:
        """Stop what is in flight, and start nothing more.

        An activity that is cancelled in the task that brings its end loses it in the SDK: first what has ended ends.
        """
        self._stopping = True
        if len(self._window) and workflow.patched(_ENDS_HOLD):
            await workflow.wait_condition(lambda: True)
        self._window.cancel()
        self._index.hurry()
        await self._window.drained()

    async def flush(self) -> None:
        """Make searchable what was finished before the stop."""
        while len(self._index):
            seen = self._ticks
            self._index.write_what_is_due(nothing_comes=True)
            await workflow.wait_condition(lambda seen=seen: self._ticks != seen)  # type: ignore[misc]  # bound default
        self._index.stop_timer()

    def cancel_pending(self) -> None:
        """What has not started will not."""
        for position in self._ledger.move_all(DocumentStatus.PENDING, DocumentStatus.CANCELLED):
            self._journal.ended(self._share.ordinals[position], DocumentStatus.CANCELLED, None)

    def forgive(self, positions: Sequence[int]) -> None:
        """These run again because somebody asked for it: each in an activity of its own."""
        for position in positions:
            self._share.plan.forgive(position)

    async def retry_running(self, request: RetryRequest) -> None:
        """Nothing to pass on: there are no children."""

    @property
    def _nothing_comes(self) -> bool:
        return not len(self._window) and (self.paused or self.draining or self._share.plan.is_through(self._ledger))

    @property
    def _is_settled(self) -> bool:
        return not len(self._window) and not len(self._index)

    # --- Dispatch -------------------------------------------------------------------------

    def _dispatch(self) -> None:
        while not (self.paused or self.draining or self._holds) and self._window.has_room:
            positions = self._share.plan.next(self._ledger, others_first=self._others_first)
            if not positions:
                return
            for position in positions:
                self._ledger.move(position, DocumentStatus.IN_FLIGHT)
                self._journal.started(self._share.ordinals[position])
            if len(positions) == 1:
                self._start_document(positions[0])
            else:
                self._start_pack(positions)

    @property
    def _others_first(self) -> bool:
        plan = self._share.plan
        if plan.leaves_sent_back or not plan.has_sent_back:
            return plan.leaves_sent_back
        return workflow.patched(_OTHERS_FIRST) or workflow.patched(_OTHERS_FIRST_BEFORE)

    def _start_document(self, position: int) -> None:
        spec, ordinal = self._spec, self._share.ordinals[position]
        handle = workflow.start_activity_method(
            self._pipeline.process_document,
            IngestDocumentInput(
                tenant_id=spec.tenant_id,
                batch_id=spec.batch_id,
                ordinal=ordinal,
                collection=spec.collection,
                options=spec.options,
                retry_round=self.retry_round,
                kills=self._share.plan.kills(position),
                actor=spec.created_by,
                again=self.again,
                max_file_bytes=spec.max_file_bytes,
            ),
            activity_id=activity_id_for(ordinal, self.retry_round),
            summary=_summary(self._share.filenames[position]),
            priority=self._temporal_priority(),
            **(self._fetch_options if position in self._share.in_sources else self._options),
        )
        self._window.add(position, handle, lambda task: self._document_ended(position, task))

    def _start_pack(self, positions: Sequence[int]) -> None:
        spec = self._spec
        ordinals = [self._share.ordinals[position] for position in positions]
        names = [self._share.filenames[position] for position in positions]
        assert self._pipeline.process_pack is not None  # the plan has no packs otherwise
        handle = workflow.start_activity_method(
            self._pipeline.process_pack,
            IngestPackInput(
                tenant_id=spec.tenant_id,
                batch_id=spec.batch_id,
                ordinals=encode_bitmap(ordinals),
                collection=spec.collection,
                options=spec.options,
                actor=spec.created_by,
                own_objects=spec.contract in OWN_OBJECTS,
                again=self.again,
            ),
            activity_id=pack_activity_id_for(ordinals[0], self.retry_round),
            summary=_summary(f"{len(names)} small documents: {names[0]} … {names[-1]}"),
            priority=self._temporal_priority(len(names)),
            **self._pack_options,
        )
        self._window.add(positions[0], handle, lambda task: self._pack_ended(positions, task))

    def _temporal_priority(self, documents: int = 1) -> Priority:
        """Tenants take turns by documents, not by activities: one that carries many counts for as many turns."""
        return Priority(
            priority_key=self.priority,
            fairness_key=self._spec.tenant_id,
            fairness_weight=self._spec.fairness_weight / documents,
        )

    # --- Ends -----------------------------------------------------------------------------

    def _document_ended(self, position: int, task: "asyncio.Task[IngestDocumentOutput]") -> None:
        status, code = outcome_of(task)
        is_blank = has_answer(task) and not task.result().chunk_count
        if self._stopping and not has_answer(task):
            # No worker could tell that it stopped (it died, or storage was away): it is stopped all the same.
            status, code = DocumentStatus.CANCELLED, None
        self._end(position, status, code, is_blank=is_blank)
        self.wake()

    def _pack_ended(self, positions: Sequence[int], task: "asyncio.Task[IngestPackOutput]") -> None:
        if has_answer(task):
            self._take_answers(positions, task.result())
        elif self._stopping or was_cancelled(task):
            for position in positions:
                self._end(position, DocumentStatus.CANCELLED, None)
        else:
            # Whatever is wrong with the pack, each of its documents gets its own chance.
            for position in positions:
                self._run_alone(position)
        self.wake()

    def _take_answers(self, positions: Sequence[int], output: IngestPackOutput) -> None:
        codes = {place: code for code, bitmap in output.failures.items() for place in decode_bitmap(bitmap)}
        for place, (position, letter) in enumerate(zip(positions, output.statuses, strict=True)):
            status = _PACK_STATUSES.get(letter)
            if status is None:
                self._send_back(position, kills=int(letter == PACK_KILLED))
            else:
                self._end(position, status, codes.get(place), is_blank=not self._pipeline.indexes_blank)

    def _run_alone(self, position: int) -> None:
        """One of a pack that failed as a whole: here, also where documents that were sent back are somebody else's."""
        plan = self._share.plan
        (plan.run_alone if plan.leaves_sent_back else plan.send_back)(position)
        self._ledger.move(position, DocumentStatus.PENDING)

    def _send_back(self, position: int, *, kills: int = 0) -> None:
        self._share.plan.send_back(position, kills=kills)
        self._ledger.move(position, DocumentStatus.PENDING)

    def _end(self, position: int, status: DocumentStatus, code: str | None, *, is_blank: bool = False) -> None:
        ordinal = self._share.ordinals[position]
        self._ledger.move(position, status, code)
        self._journal.ended(ordinal, status, code)
        is_wanted = self._pipeline.indexed and (self._pipeline.indexes_blank or not is_blank)
        if status is DocumentStatus.DONE and is_wanted:
            self._index.add(ordinal)

    def _not_searchable(self, ordinal: int, code: str) -> None:
        self._end(self._positions[ordinal], DocumentStatus.FAILED, code)


def begins_early(manifest: ReadManifestOutput, ahead: int) -> Iterator[int]:
    """Places of the documents that begin before their turn, so many at a time: where one activity runs, all have their turn."""
    has_turns = not ahead or not manifest.large or not workflow.patched(_LARGE_FIRST)
    return decode_bitmap("" if has_turns else manifest.large)


def _summary(text: str) -> str:
    return text.encode()[:MAX_SUMMARY_BYTES].decode(errors="ignore")

"""The documents of a large batch, through its children: up to 1,000 each, several at a time.

The parent's ledger holds every document. A child takes the next pending ones, which are
in flight until it returns how each ended; nothing else is kept, so children of a retry are
composed in the same way. A child that came to nothing (somebody terminated it) is made
again. All of its documents run once more, and go on from what they left; watchers hear of
their ends a second time. What packs sent back may take all the time there is: children leave it
to the last, so that none of them lasts for it while others wait.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import TemporalError
from temporalio.workflow import ChildWorkflowCancellationType, ChildWorkflowHandle, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from ingather.domain.bitmap import encode_bitmap
    from ingather.domain.ledger import Ledger
    from ingather.models.batch import MAX_DOCUMENTS_PER_WORKFLOW, BatchSpec, ChildProgress
    from ingather.models.document import DocumentStatus
    from ingather.models.engine import WORKFLOW_TASK_TIMEOUT
    from ingather.models.errors import IngatherError
    from ingather.models.identity import child_workflow_id_for
    from ingather.models.messages import ChildQuiet, ChunkInput, ChunkOutput, RetryRequest, SteerRequest
    from workflows.chunk import ChunkWorkflow
    from workflows.journal import Journal
    from workflows.outcomes import has_answer, was_cancelled
    from workflows.window import MAX_IN_FLIGHT

CHILDREN_OF_A_BATCH = 32
MIN_CHILD_DOCUMENTS = 250
"""A child costs as much as several packs: its start and end, its own manifest page, its last write to the index."""
MAX_HISTORY_EVENTS = 8_000
"""A child costs its parent about nine events; the server warns at 10,240."""
MAX_CHILD_FAILURES = 3
"""A document whose children came to nothing more often fails."""
MAX_SENT_BACK = 10_000
"""Documents kept for the last; past so many, children run theirs themselves."""
_LEFT_TO_THE_LAST = "pending documents of a child's answer are left to the last"
"""The change since which they are: they were as any others, where a worker of before took such an answer."""
_KNOWN_FIRST = "a cancel waits for children that are being started"
"""The change since which it does: it gave them up, and they ran on beside the report."""
_STAYS_PAUSED = "a new priority lets a paused batch stay paused"
"""The change since which it does: it was told as pausing and paused once more."""


def child_size(document_count: int) -> int:
    """Documents a child, for a batch of so many."""
    wanted = -(-document_count // CHILDREN_OF_A_BATCH)
    return max(MIN_CHILD_DOCUMENTS, min(wanted, MAX_DOCUMENTS_PER_WORKFLOW))


@dataclass
class _Child:
    index: int
    retry_round: int
    ordinals: list[int]
    told: SteerRequest
    sent_back: bool = False
    """Its documents are some that packs sent back."""
    quiet_since: int = -1
    """Number of the word to pause since which it has had nothing in flight."""
    handle: ChildWorkflowHandle[ChunkWorkflow, ChunkOutput] | None = None
    """Set once the server knows it."""

    @property
    def is_quiet(self) -> bool:
        """It heard the last word to pause, and has nothing in flight since."""
        return self.quiet_since >= self.told.number


class ChildRun:
    """Starts children, steers them, records how their documents ended.

    The same words as ``DocumentRun``, so that a batch does not care which of them it has.

    Args:
        spec: what the batch asked for.
        ledger: where every document stands; changed here, in place.
        journal: where starts and ends of children are noted.
        on_change: called once an activation in which something changed.
        first_index: index of the first child, past those of an earlier run.
        sent_back: documents that packs sent back, and how often each killed its parser there.
    """

    def __init__(
        self,
        spec: BatchSpec,
        ledger: Ledger,
        journal: Journal,
        on_change: Callable[[], None],
        *,
        first_index: int = 0,
        sent_back: Mapping[int, int] | None = None,
    ) -> None:
        self.priority = spec.priority
        self.retry_round = 0
        self.paused = False
        self.draining = False
        self.next_index = first_index
        self._spec = spec
        self._ledger = ledger
        self._journal = journal
        self._on_change = on_change
        self._size = child_size(len(ledger))
        self._at_once = min(spec.children_at_once, spec.options.workers or MAX_IN_FLIGHT)
        self._word_number = 0
        self._running: dict[int, _Child] = {}
        self._tasks: dict[int, asyncio.Task[ChunkOutput]] = {}
        self._steering: set[asyncio.Task[None]] = set()
        # Also of what an earlier run left: a worker of before would give it to its next child among the others.
        self._sent_back = dict(sent_back) if sent_back and workflow.patched(_LEFT_TO_THE_LAST) else {}
        self._children_leave_some = True
        """False once this history shows that a worker of before put such documents among the others."""
        self._lost: Counter[int] = Counter()
        """By ordinal, how many children a document was given to that came to nothing."""
        self._holds = 0
        self._ticks = 0

    @property
    def in_flight(self) -> tuple[int, ...]:
        """Known to the children alone."""
        return ()

    @property
    def children(self) -> tuple[ChildProgress, ...]:
        """Those at work."""
        return tuple(
            ChildProgress(index=child.index, retry_round=child.retry_round, document_count=len(child.ordinals))
            for child in self._running.values()
        )

    @property
    def sent_back(self) -> dict[int, int]:
        """Documents that packs sent back and that have not ended since, with how often each killed its parser there."""
        return dict(sorted(self._sent_back.items()))

    @property
    def is_under_way(self) -> bool:
        """Whether any child runs."""
        return bool(self._running)

    @property
    def is_busy(self) -> bool:
        """Whether any child may still have a document in flight."""
        return not all(child.is_quiet for child in self._running.values())

    @property
    def _are_known(self) -> bool:
        return all(child.handle is not None for child in self._running.values())

    def note_quiet(self, word: ChildQuiet) -> None:
        """A paused child has nothing in flight any more."""
        child = self._running.get(word.index)
        if child is not None:
            child.quiet_since = max(child.quiet_since, word.number)
            self.wake()

    @property
    def searchable_count(self) -> int:
        """A child ends when search can find what it did."""
        return self._ledger.count(DocumentStatus.DONE)

    @property
    def should_drain(self) -> bool:
        """History is near its limit; or grew long, and nothing is under way anyhow."""
        info = workflow.info()
        is_long = info.get_current_history_length() >= MAX_HISTORY_EVENTS
        return is_long or (not self._running and info.is_continue_as_new_suggested())

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
        """Work until nothing is pending and no child runs; or, when draining, until no child runs."""
        while True:
            seen = self._ticks
            self._dispatch()
            self._steer()
            self._on_change()
            if not self._running and (self.draining or self._ledger.next_pending() is None):
                break
            await workflow.wait_condition(lambda seen=seen: self._ticks != seen)  # type: ignore[misc]  # bound default
        await workflow.wait_condition(lambda: not self._steering)

    async def stop(self) -> None:
        """Cancel the children; each returns what it did.

        One that the server does not know yet could not be asked to; one that has ended by now keeps its answer.
        """
        if self._running and workflow.patched(_KNOWN_FIRST):
            await workflow.wait_condition(lambda: self._are_known)
        for task in self._tasks.values():
            task.cancel()
        await workflow.wait_condition(lambda: not self._running)

    async def flush(self) -> None:
        """Nothing left to do: every child made searchable what it had finished."""

    def cancel_pending(self) -> None:
        """What has not started will not."""
        self._ledger.move_all(DocumentStatus.PENDING, DocumentStatus.CANCELLED)

    def forgive(self, positions: Sequence[int]) -> None:
        """These run again because somebody asked for it, or have ended."""
        # Few are known here, nearly always none, and positions may be a million.
        for ordinal in (self._lost.keys() | self._sent_back.keys()).intersection(positions):
            self._lost.pop(ordinal, None)
            self._sent_back.pop(ordinal, None)

    async def retry_running(self, request: RetryRequest) -> None:
        """Pass a retry on to the children at work; one that ended meanwhile has told its failures."""
        for child in list(self._running.values()):
            if child.handle is not None:
                await _signalled(child.handle.signal(ChunkWorkflow.retry_failed, request))

    # --- Children -------------------------------------------------------------------------

    def _dispatch(self) -> None:
        while not (self.paused or self.draining or self._holds) and len(self._running) < self._at_once:
            ordinals = self._next_share()
            if not ordinals:
                return
            for ordinal in ordinals:
                self._ledger.move(ordinal, DocumentStatus.IN_FLIGHT)
            told = SteerRequest(paused=self.paused, priority=self.priority, number=self._word_number)
            child = _Child(self.next_index, self.retry_round, ordinals, told, ordinals[0] in self._sent_back)
            self.next_index += 1
            self._running[child.index] = child
            self._journal.child_started(child.index, child.retry_round)
            task = asyncio.create_task(self._run_child(child))
            self._tasks[child.index] = task
            task.add_done_callback(lambda ended, child=child: self._child_ended(child, ended))  # type: ignore[misc]  # bound default

    def _next_share(self) -> list[int]:
        """The next pending documents; those that packs sent back when all others of the batch have ended."""
        first = self._ledger.next_pending()
        if first is None:
            return []
        pending = self._ledger.where(DocumentStatus.PENDING, first)
        if not self._sent_back:
            return list(islice(pending, self._size))
        others = list(islice((ordinal for ordinal in pending if ordinal not in self._sent_back), self._size))
        if others or not all(child.sent_back for child in self._running.values()):
            return others
        return list(islice(self._ledger.where(DocumentStatus.PENDING, first), self._size_of_the_last))

    @property
    def _has_enough_for_the_last(self) -> bool:
        return len(self._sent_back) >= MAX_SENT_BACK

    @property
    def _size_of_the_last(self) -> int:
        """Of a child with documents that were sent back: where each child may do few at once, all children have some."""
        if self._spec.options.workers is None:
            return self._size
        return min(self._size, -(-len(self._sent_back) // self._at_once))

    async def _run_child(self, child: _Child) -> ChunkOutput:
        spec = self._spec
        child.handle = await workflow.start_child_workflow(
            ChunkWorkflow.run,
            ChunkInput(
                spec=spec,
                index=child.index,
                retry_round=child.retry_round,
                ordinals=encode_bitmap(child.ordinals),
                window=self._window(),
                steer=child.told,
                again=any(ordinal in self._lost for ordinal in child.ordinals),
                returns_sent_back=self._children_leave_some
                and not child.sent_back
                and not self._has_enough_for_the_last,
                sent_back=child.sent_back,
                kills={ordinal: kills for ordinal in child.ordinals if (kills := self._sent_back.get(ordinal))},
            ),
            id=child_workflow_id_for(spec.batch_id, child.index, child.retry_round),
            cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
            parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
            static_summary=_summary(child),
            priority=Priority(
                priority_key=child.told.priority,
                fairness_key=spec.tenant_id,
                fairness_weight=spec.fairness_weight,
            ),
            task_timeout=WORKFLOW_TASK_TIMEOUT,
        )
        self.wake()
        return await child.handle

    def _window(self) -> int:
        """Of each child, so that all of them together keep to what the batch may have."""
        wanted = self._spec.options.workers
        return MAX_IN_FLIGHT if wanted is None else wanted // self._at_once

    def _child_ended(self, child: _Child, task: "asyncio.Task[ChunkOutput]") -> None:
        del self._running[child.index]
        del self._tasks[child.index]
        if has_answer(task):
            settled = self._take_answer(child, task.result())
        else:
            settled = child.ordinals
            self._give_back(child, cancelled=was_cancelled(task))
        self._journal.child_ended(child.index, child.retry_round, encode_bitmap(settled))
        self.wake()

    def _take_answer(self, child: _Child, output: ChunkOutput) -> list[int]:
        """Take in how its documents ended; answers which did, without those that packs sent back."""
        self._ledger.apply(child.ordinals, output.ledger, output.failures)
        left = [ordinal for ordinal in child.ordinals if self._ledger[ordinal] is DocumentStatus.PENDING]
        if left and not workflow.patched(_LEFT_TO_THE_LAST):
            # They were put among the others in this history: whoever takes them next must settle them.
            left, self._children_leave_some = [], False
        self._sent_back.update((ordinal, output.kills.get(ordinal, 0)) for ordinal in left)
        settled = sorted(set(child.ordinals).difference(left))
        self.forgive(settled)
        return settled

    def _give_back(self, child: _Child, *, cancelled: bool) -> None:
        """It was never started, or somebody ended it from outside."""
        for ordinal in child.ordinals:
            self._lost[ordinal] += 1
            if not cancelled and self._lost[ordinal] <= MAX_CHILD_FAILURES:
                self._ledger.move(ordinal, DocumentStatus.PENDING)
                continue
            self._sent_back.pop(ordinal, None)
            if cancelled:
                self._ledger.move(ordinal, DocumentStatus.CANCELLED)
            else:
                self._ledger.move(ordinal, DocumentStatus.FAILED, IngatherError.code)

    # --- Steering -------------------------------------------------------------------------

    def _steer(self) -> None:
        for child in self._running.values():
            if child.handle is not None and (child.told.paused, child.told.priority) != (self.paused, self.priority):
                self._word_number += 1
                is_still = child.is_quiet and child.told.paused and self.paused
                child.told = SteerRequest(paused=self.paused, priority=self.priority, number=self._word_number)
                # A new priority sets nothing in motion. Visible to replay: asked only where it makes a difference.
                if is_still and workflow.patched(_STAYS_PAUSED):
                    child.quiet_since = child.told.number
                task = asyncio.create_task(_signalled(child.handle.signal(ChunkWorkflow.steer, child.told)))
                self._steering.add(task)
                task.add_done_callback(self._steering.discard)


def _summary(child: _Child) -> str:
    documents = f"{len(child.ordinals)} documents"
    return f"{documents} that packs sent back" if child.sent_back else f"{documents} from {child.ordinals[0]} on"


async def _signalled(signal: Awaitable[None]) -> None:
    """A child that has just ended needs no signal."""
    try:
        await signal
    except TemporalError:
        workflow.logger.debug("a child ended before it heard the signal")

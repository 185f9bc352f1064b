"""How a batch shows itself outside: memo, search attributes, details in the Temporal UI.

The memo is what ``describe()`` answers when no worker does, and what lists show. Each upsert is
an event of history, so it is throttled: at most one a second, and none before another fortieth of
the time since the first has passed. A run of a month writes 500; after ten hours they are a quarter
of an hour apart. Beside those a change of state is shown at once, and the growth of an open batch after a
second.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey

with workflow.unsafe.imports_passed_through():
    from ingather.models.batch import BatchProblem, BatchProgress, BatchSpec
    from ingather.models.engine import MEMO_PROGRESS

BATCH_STATE = SearchAttributeKey.for_keyword("BatchState")
DOCUMENTS_TOTAL = SearchAttributeKey.for_int("DocumentsTotal")
DOCUMENTS_FAILED = SearchAttributeKey.for_int("DocumentsFailed")

SHORTEST_INTERVAL = timedelta(seconds=1)
SHARE_OF_THE_RUN = 0.025
"""An interval is this part of the time since the first memo."""
GROWS_IN_STEPS = "growth is shown once a second"
"""The change since which an open batch does not write a memo for each signal that tells of more documents."""
SHOWS_GROWTH = "until its growth is shown"
"""The timer's name in the Temporal UI."""
MEMO_BYTES = 1_900
"""The server warns at 2 KB."""
MAX_MESSAGE_IN_MEMO = 300


def progress_memo(progress: BatchProgress) -> Mapping[str, Any]:
    """The memo of a snapshot: without lists of what runs, and with as many sources and codes as there is room for."""
    slim = progress.model_copy(update={"in_flight": (), "children": (), "problem": _shortened(progress.problem)})
    memo = _memo(slim)
    while slim.sources and len(json.dumps(memo)) > MEMO_BYTES:
        slim = slim.model_copy(update={"sources": slim.sources[: len(slim.sources) // 2]})
        memo = _memo(slim)
    while len(slim.failures_by_code) > 1 and len(json.dumps(memo)) > MEMO_BYTES:
        # Most frequent first, so the rare ones go.
        kept = dict(list(slim.failures_by_code.items())[: len(slim.failures_by_code) // 2])
        slim = slim.model_copy(update={"failures_by_code": kept})
        memo = _memo(slim)
    return {MEMO_PROGRESS: memo}


def _memo(progress: BatchProgress) -> dict[str, Any]:
    dumped = progress.model_dump(mode="json", exclude_defaults=True)
    # All numbers, zeros included: people read them in the Temporal UI.
    return dumped | {"counts": progress.counts.model_dump()}


def _shortened(problem: BatchProblem | None) -> BatchProblem | None:
    if problem is None or len(problem.message) <= MAX_MESSAGE_IN_MEMO:
        return problem
    return problem.model_copy(update={"message": problem.message[:MAX_MESSAGE_IN_MEMO]})


class MemoPace:
    """When a memo may be written, beside those that a change of state asks for."""

    def __init__(self) -> None:
        self._first_at: datetime | None = None
        self._next_at: datetime | None = None
        self._last_at: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        return self._next_at is None or now >= self._next_at

    def rest(self, now: datetime) -> timedelta:
        """How long until a second has passed since the last one."""
        return timedelta() if self._last_at is None else max(timedelta(), self._last_at + SHORTEST_INTERVAL - now)

    def wrote(self, now: datetime) -> None:
        self._last_at = now
        self._first_at = self._first_at or now
        self._next_at = now + max(SHORTEST_INTERVAL, (now - self._first_at) * SHARE_OF_THE_RUN)


class Visibility:
    """Publishes snapshots as often as history can afford."""

    def __init__(self, spec: BatchSpec) -> None:
        self._spec = spec
        self._pace = MemoPace()
        self._published: BatchProgress | None = None
        self._has_grown = False

    @property
    def growth_due_in(self) -> timedelta | None:
        """How long until the growth of an open batch may be shown; None where all of it is."""
        return self._pace.rest(workflow.now()) if self._has_grown else None

    def publish(self, progress: BatchProgress) -> None:
        """Show a snapshot: the details always, memo and search attributes when due."""
        last = self._published
        if last is not None and (last.version, last.state) == (progress.version, progress.state):
            return
        workflow.set_current_details(_details(self._spec, progress))
        new_state = last is None or last.state is not progress.state or self._shows_growth(last, progress)
        if not new_state and not self._pace.is_due(workflow.now()):
            return
        self._has_grown = False
        self._pace.wrote(workflow.now())
        if new_state or (last is not None and last.counts.failed != progress.counts.failed):
            workflow.upsert_search_attributes(
                [
                    BATCH_STATE.value_set(progress.state.value),
                    DOCUMENTS_TOTAL.value_set(progress.counts.total),
                    DOCUMENTS_FAILED.value_set(progress.counts.failed),
                ]
            )
        workflow.upsert_memo(progress_memo(progress))
        self._published = progress

    def _shows_growth(self, last: BatchProgress, progress: BatchProgress) -> bool:
        """Whether there are more documents, or fewer, that are to be shown now."""
        if last.counts.total == progress.counts.total:
            return False
        # Only an open batch grows often. All others learn once how many there are, and may then wait for long.
        is_too_soon = progress.waiting_for == "seal" and self._pace.rest(workflow.now()) > timedelta()
        # Visible to replay: asked only where it makes a difference.
        self._has_grown = is_too_soon and workflow.patched(GROWS_IN_STEPS)
        return not self._has_grown


def _details(spec: BatchSpec, progress: BatchProgress) -> str:
    """Markdown for the Temporal UI. Names and numbers only."""
    counts = progress.counts
    lines = [
        f"**{spec.name}** is **{progress.state.value}**: {counts.ended} of {counts.total} documents ended",
        "",
        "| pending | in flight | done | failed | skipped | cancelled |",
        "|---|---|---|---|---|---|",
        f"| {counts.pending} | {counts.in_flight} | {counts.done} | {counts.failed} | {counts.skipped} | {counts.cancelled} |",
    ]
    if progress.failures_by_code:
        lines += ["", "Failures: " + ", ".join(f"{code} × {n}" for code, n in progress.failures_by_code.items())]
    if progress.problem is not None:
        lines += ["", f"Problem: `{progress.problem.code}` {progress.problem.message}"]
    return "\n".join(lines)

"""How a batch shows itself outside: memo, search attributes, details in the Temporal UI.

The memo is what ``describe()`` answers when no worker does. Each upsert is an event of
history, so it is throttled: at most one a second, the interval doubling every 100, and
none past 500 a run except for a change of state.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

with workflow.unsafe.imports_passed_through():
    from ingather.models.batch import BatchProgress, BatchSpec
    from ingather.models.engine import MEMO_PROGRESS

TENANT_ID = SearchAttributeKey.for_keyword("TenantId")
BATCH_STATE = SearchAttributeKey.for_keyword("BatchState")
PIPELINE = SearchAttributeKey.for_keyword("Pipeline")
CREATED_BY = SearchAttributeKey.for_keyword("CreatedBy")
DOCUMENTS_TOTAL = SearchAttributeKey.for_int("DocumentsTotal")
DOCUMENTS_FAILED = SearchAttributeKey.for_int("DocumentsFailed")

MEMOS_PER_STEP = 100
MAX_MEMOS = 500
MAX_SOURCES_IN_MEMO = 5


def initial_search_attributes(spec: BatchSpec, progress: BatchProgress) -> TypedSearchAttributes:
    """What a batch is found by, from its first moment."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(TENANT_ID, spec.tenant_id),
            SearchAttributePair(PIPELINE, spec.pipeline),
            SearchAttributePair(CREATED_BY, spec.created_by),
            SearchAttributePair(BATCH_STATE, progress.state.value),
            SearchAttributePair(DOCUMENTS_TOTAL, progress.counts.total),
            SearchAttributePair(DOCUMENTS_FAILED, progress.counts.failed),
        ]
    )


def progress_memo(progress: BatchProgress) -> Mapping[str, Any]:
    """The memo of a snapshot: without the in-flight list, and small (the server warns at 2 KB)."""
    slim = progress.model_copy(update={"in_flight": (), "sources": progress.sources[:MAX_SOURCES_IN_MEMO]})
    return {MEMO_PROGRESS: slim.model_dump(mode="json", exclude_defaults=True) | {"counts": slim.counts.model_dump()}}


class Visibility:
    """Publishes snapshots as often as history can afford."""

    def __init__(self, spec: BatchSpec) -> None:
        self._spec = spec
        self._memos = 0
        self._next_memo_at: datetime | None = None
        self._published: BatchProgress | None = None

    def publish(self, progress: BatchProgress) -> None:
        """Show a snapshot: the details always, memo and search attributes when due."""
        last = self._published
        if last is not None and last.version == progress.version:
            return
        workflow.set_current_details(_details(self._spec, progress))
        new_state = last is None or last.state is not progress.state or last.counts.total != progress.counts.total
        if new_state:
            workflow.upsert_search_attributes(
                [
                    BATCH_STATE.value_set(progress.state.value),
                    DOCUMENTS_TOTAL.value_set(progress.counts.total),
                    DOCUMENTS_FAILED.value_set(progress.counts.failed),
                ]
            )
        if new_state or self._memo_is_due():
            self._memos += 1
            self._next_memo_at = workflow.now() + timedelta(seconds=2 ** (self._memos // MEMOS_PER_STEP))
            workflow.upsert_memo(progress_memo(progress))
            self._published = progress

    def _memo_is_due(self) -> bool:
        return self._memos < MAX_MEMOS and (self._next_memo_at is None or workflow.now() >= self._next_memo_at)


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

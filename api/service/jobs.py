"""One user's batches that came through one door: listed by place, and added up.

What has ended is added up by the catalog, and what waits, in one statement with the ids of what does more than that; the
engine says where those stand. However many wait, those are few.
"""

import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime

from api.resources import BatchSnapshot
from api.service.batches import BatchService
from ingather.models.batch import BatchProgress, BatchState
from ingather.models.errors import EngineUnavailableError
from ingather.ports.catalog import BatchFilter, Catalog


@dataclass(frozen=True, slots=True)
class Whose:
    """The batches of one user that came through one door."""

    tenant_id: str
    contract: str
    user: str

    def filter(self, before: datetime | None = None) -> BatchFilter:
        """Those made before a moment, or all."""
        cursor = None if before is None else (before, "")
        return BatchFilter(self.tenant_id, contract=self.contract, created_by=self.user, before=cursor)


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some batches of a list, newest first."""

    snapshots: list[BatchSnapshot]
    total: int
    has_more: bool
    stale: bool = False
    """Of what was last known, where the engine did not answer."""


@dataclass(frozen=True, slots=True)
class JobSums:
    """All batches of a user, added up; those that run as far as they are."""

    by_state: dict[BatchState, int] = field(default_factory=dict)
    by_priority: dict[int, int] = field(default_factory=dict)
    by_source_type: dict[str, int] = field(default_factory=dict)
    """Documents."""
    done: int = 0
    failed: int = 0
    skipped: int = 0
    ran_count: int = 0
    """Batches that have ended and had begun to run."""
    ran_ms: int = 0
    """How long those took, all together."""
    stale: bool = False
    """Batches that run are counted as the catalog last knew them: the engine did not answer."""


@dataclass(frozen=True, slots=True)
class JobService:
    """Lists and sums."""

    catalog: Catalog
    batches: BatchService

    async def page(
        self,
        whose: Whose,
        states: frozenset[BatchState] | None,
        limit: int,
        offset: int,
        before: datetime | None = None,
    ) -> JobPage:
        """Batches in these states (None for all) from a place in the list on.

        With ``before`` the list is that of a moment: what is created later shifts nothing.
        """
        where, is_guessed = whose.filter(before), False
        if states is not None:
            if not states:
                return JobPage([], 0, has_more=False)
            is_guessed = not all(state.is_final for state in states) and await self._has_unheard(where)
            where = await self.batches.in_states_now(replace(where, states=tuple(sorted(states))))
        records = await self.catalog.list_batches(where, limit, offset)
        total = await self.catalog.count_batches(where)
        snapshots = await self.batches.overlaid(whose.tenant_id, records)
        stale = is_guessed or any(snapshot.stale for snapshot in snapshots)
        return JobPage(snapshots, total, has_more=offset + len(records) < total, stale=stale)

    async def ended_since(self, whose: Whose, since: datetime, most: int) -> tuple[list[str], bool]:
        """Ids of batches that ended at a moment or later, the ``most`` that did so last, and whether there are more."""
        found = await self.catalog.list_ended(whose.filter(), since, most + 1)
        return found[:most], len(found) > most

    async def sums(self, whose: Whose) -> JobSums:
        """Everything at once; exact, as far as the engine answers."""
        tally = await self.catalog.tally_batches(whose.filter())
        heard = await self._under_way(whose.tenant_id) if tally.noted else {}
        if heard:
            # Asked again now that it is known of whom: one that has ended meanwhile counts as it ended.
            tally = await self.catalog.tally_batches(whose.filter(), heard)
        by_state = Counter(tally.by_state) + Counter(tally.noted)
        done, failed, skipped = tally.done, tally.failed, tally.skipped
        for batch_id in tally.open:
            progress = (heard or {})[batch_id]
            by_state[progress.state] += 1
            done += progress.counts.done
            failed += progress.counts.failed
            skipped += progress.counts.skipped
        return JobSums(
            by_state=dict(by_state),
            by_priority=tally.by_priority,
            by_source_type=tally.by_source_type,
            done=done,
            failed=failed,
            skipped=skipped,
            ran_count=tally.ran_count,
            ran_ms=tally.ran_ms,
            stale=heard is None,
        )

    async def _has_unheard(self, where: BatchFilter) -> bool:
        """Whether some of these have not ended and the engine does not say what they do."""
        return await self.batches.has_open(where) and await self._under_way(where.tenant_id) is None

    async def _under_way(self, tenant_id: str) -> dict[str, BatchProgress] | None:
        with contextlib.suppress(EngineUnavailableError):
            return await self.batches.under_way(tenant_id)
        return None

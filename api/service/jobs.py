"""One user's batches that came through one door: listed by place, and added up.

What has ended is added up by the catalog, and what waits, in one statement with the ids of what does more than that; the
engine says where those stand. However many wait, those are few.
"""

import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import NAMESPACE_OID, uuid5

from api.resources import BatchSnapshot
from api.service.batches import BatchService
from ingather.models.batch import BatchProgress, BatchState
from ingather.models.errors import EngineUnavailableError
from ingather.ports.catalog import BatchFilter, Catalog
from ingather.ports.short_memory import ShortMemory

WALK_SECONDS = 600
"""How long a user may look at a page before the next one is taken for a list of its own."""


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
    as_of: datetime
    """The list is that of this moment."""
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
class _Walk:
    """One user's way through a list, page by page: where each page ended, and which moment's list it was."""

    memory: ShortMemory
    whose: Whose
    states: frozenset[BatchState] | None
    limit: int

    async def moment_at(self, offset: int) -> datetime | None:
        """Of the page that ended here; None for a first page, which is always one of now."""
        word = await self.memory.recall(self._key(offset)) if offset else None
        return datetime.fromisoformat(word) if word else None

    async def went_to(self, offset: int, as_of: datetime) -> None:
        await self.memory.remember(self._key(offset), as_of.isoformat(), WALK_SECONDS)

    def _key(self, offset: int) -> str:
        which = None if self.states is None else sorted(self.states)
        of_the_list = (self.whose.tenant_id, self.whose.contract, self.whose.user, which, self.limit)
        return f"page/{uuid5(NAMESPACE_OID, repr(of_the_list))}/{offset}"


@dataclass(frozen=True, slots=True)
class JobService:
    """Lists and sums."""

    catalog: Catalog
    batches: BatchService
    memory: ShortMemory

    async def page(
        self,
        whose: Whose,
        states: frozenset[BatchState] | None,
        limit: int,
        offset: int,
        before: datetime | None = None,
    ) -> JobPage:
        """Batches in these states (None for all) from a place in the list on.

        The list is that of a moment, so that what is created later shifts nothing: of ``before``; or of the last page that
        ended where this one begins, if the same user was given one of the same list within ten minutes; or of now.
        """
        walk = _Walk(self.memory, whose, states, limit)
        as_of = before or await walk.moment_at(offset) or datetime.now(UTC)
        page = await self._page(whose.filter(as_of), as_of, states, limit, offset)
        if page.has_more:
            await walk.went_to(offset + limit, as_of)
        return page

    async def _page(
        self, where: BatchFilter, as_of: datetime, states: frozenset[BatchState] | None, limit: int, offset: int
    ) -> JobPage:
        is_guessed = False
        if states is not None:
            if not states:
                return JobPage([], 0, has_more=False, as_of=as_of)
            is_guessed = not all(state.is_final for state in states) and await self._has_unheard(where)
            where = await self.batches.in_states_now(replace(where, states=tuple(sorted(states))))
        records = await self.catalog.list_batches(where, limit, offset)
        total = await self.catalog.count_batches(where)
        snapshots = await self.batches.overlaid(where.tenant_id, records)
        stale = is_guessed or any(snapshot.stale for snapshot in snapshots)
        return JobPage(snapshots, total, has_more=offset + len(records) < total, as_of=as_of, stale=stale)

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

"""A tenant's open batches, added up: the catalog counts those that wait, the engine says how far the others are."""

from collections import Counter
from dataclasses import dataclass

from api.service.batches import BatchService
from ingather.models.batch import BatchState
from ingather.ports.catalog import Catalog


@dataclass(frozen=True, slots=True)
class OpenSums:
    """However many there are."""

    by_state: dict[BatchState, int]
    documents_left: int
    """That have not ended."""


async def open_sums(catalog: Catalog, batches: BatchService, tenant_id: str) -> OpenSums:
    """Each batch counts once, whatever happens meanwhile. Raises ``EngineUnavailableError``, ``CatalogUnavailableError``."""
    heard = await batches.under_way(tenant_id)
    tally = await catalog.tally_open(tenant_id, heard)
    by_state, documents_left = Counter(tally.noted), tally.documents_left
    for batch_id in tally.open:
        progress = heard[batch_id]
        by_state[progress.state] += 1
        documents_left += progress.counts.total - progress.counts.ended
    return OpenSums(dict(by_state), documents_left)

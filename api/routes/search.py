"""``/v1/search``: questions to the index."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from api.access import GuardedRoute
from api.dependencies import Parts, Tenant
from api.problems import invalid
from ingather.models.batch import MAX_COLLECTION_LENGTH
from ingather.models.search import SearchHit, SearchQuery

router = APIRouter(prefix="/v1/search", tags=["search"], route_class=GuardedRoute)

_METADATA_FILTER = re.compile(r"metadata\[(.{1,200})\]")


class SearchAnswer(BaseModel):
    """Chunks that answer, best first."""

    data: list[SearchHit]


@router.get("")
async def search(
    *,
    request: Request,
    parts: Parts,
    tenant: Tenant,
    q: Annotated[str, Query(min_length=1, max_length=2_000, description="What to look for.")],
    collection: Annotated[str | None, Query(max_length=MAX_COLLECTION_LENGTH)] = None,
    batch_id: Annotated[str | None, Query(max_length=36)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> SearchAnswer:
    """Hybrid search: vectors and full text. Filter by metadata with `metadata[<name>]=<value>`."""
    metadata = {
        match.group(1): value
        for name, value in request.query_params.items()
        if (match := _METADATA_FILTER.fullmatch(name))
    }
    if len(metadata) > 20:
        raise invalid("query:metadata", "A search takes at most 20 metadata filters.", "too_many_filters")
    if not q.strip():
        raise invalid("query:q", "The question is blank.", "blank")
    query = SearchQuery(
        tenant_id=tenant, text=q, collection=collection, batch_id=batch_id, metadata=metadata, limit=limit
    )
    return SearchAnswer(data=await parts.search.search(query))

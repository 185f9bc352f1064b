"""``/search``: passages of documents that answer."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from markupsafe import Markup, escape
from starlette.responses import Response

from api.access import public
from api.dashboard.public_api import Api, ApiRefusal
from api.dashboard.rendering import page

router = APIRouter(include_in_schema=False)

LIMIT = 20
_WORD = re.compile(r"\w{2,}")


def marked(text: str, question: str) -> Markup:
    """The text with the words of the question marked, and all that could be markup escaped."""
    words = sorted({re.escape(word) for word in _WORD.findall(question)}, key=len, reverse=True)
    if not words:
        return escape(text)
    parts = re.split(rf"\b({'|'.join(words)})", text, flags=re.IGNORECASE)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


@router.get("/search")
@public
async def search(
    request: Request,
    api: Api,
    q: Annotated[str, Query(max_length=2_000)] = "",
    collection: Annotated[str, Query(max_length=255)] = "",
    batch_id: Annotated[str, Query(max_length=36)] = "",
) -> Response:
    """The question, and the passages that answer it, best first."""
    hits, problem = None, None
    if q.strip():
        try:
            answer = await api.get("/v1/search", q=q, collection=collection, batch_id=batch_id, limit=LIMIT)
            hits = [{**hit, "marked": marked(hit["text"], q)} for hit in answer["data"]]
        except ApiRefusal as refusal:
            if refusal.status == 401:
                raise
            problem = refusal.problem
    return await page(
        request,
        api,
        "search.html",
        title="Search",
        hits=hits,
        problem=problem,
        chosen={"q": q, "collection": collection, "batch_id": batch_id},
    )

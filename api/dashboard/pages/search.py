"""``/search``: passages of documents that answer."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from markupsafe import Markup, escape
from starlette.responses import Response

from api.access import public
from api.dashboard.public_api import Api, ApiRefusal, Json
from api.dashboard.rendering import page

router = APIRouter(include_in_schema=False)

LIMIT = 20
TAGS_SHOWN = 6
_WORD = re.compile(r"\w{2,}")
_STEM = 4
"""Letters from which on a word is also marked where it only begins another one."""
_COMMON = frozenset(
    _WORD.findall(
        "an and are as at be because been but by can did do does for from had has have how if in into is it "
        "its may must of on or shall should so than that the their then there these they this to was we were "
        "what when where which who why will with would you your"
    )
)


def marked(text: str, question: str) -> Markup:
    """The text with the words of the question marked, and all that could be markup escaped.

    Words that stand in every text are marked only where the question has no others.
    """
    said = {word.lower() for word in _WORD.findall(question)}
    words = sorted(said - _COMMON or said, key=len, reverse=True)
    if not words:
        return escape(text)
    sought = (re.escape(word) + ("" if len(word) >= _STEM else r"\b") for word in words)
    parts = re.split(rf"\b({'|'.join(sought)})", text, flags=re.IGNORECASE)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def tags_of(metadata: Json) -> list[tuple[str, str]]:
    """The first fields of a passage's document that can be said in a few words."""
    said = [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in metadata.items()
        if not isinstance(value, dict)
    ]
    return said[:TAGS_SHOWN]


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
            hits = [
                {**hit, "marked": marked(hit["text"], q), "tags": tags_of(hit["metadata"])} for hit in answer["data"]
            ]
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

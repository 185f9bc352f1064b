"""``/batches/{id}/documents/{id}``: what became of one document, and what was read in it."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.public_api import Api, ApiRefusal, Json, together
from api.dashboard.rendering import form_of, see
from api.dashboard.rendering import page as whole_page

router = APIRouter(include_in_schema=False, prefix="/batches/{batch_id}/documents/{file_id}")

CHUNKS_SHOWN = 30
BEFORE = 2
"""Chunks shown before the one that was jumped to."""
_DRAWN = frozenset({"application/pdf", "image/*"})


@router.get("")
@public
async def show_document(
    *,
    request: Request,
    api: Api,
    batch_id: str,
    file_id: str,
    page: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    chunk: Annotated[int | None, Query(ge=0)] = None,
    cursor: str = "",
) -> Response:
    """The document; a page of it with the chunks that begin there, or chunks from somewhere on."""
    where = f"/v1/batches/{quote(batch_id, safe='')}"
    own = f"{where}/documents/{quote(file_id, safe='')}"
    document, batch = await together(api.get(own), api.get(where))
    is_drawn = document["media_type"] in _DRAWN and document["pages"] and document["links"]["raw"] is not None
    shown_page = min(page or 1, document["pages"]) if is_drawn else None
    first = max((chunk or 0) - BEFORE, 0) if not is_drawn else 0
    chunks: Json | None = None
    if document["links"]["text"] is not None:
        try:
            chunks = await api.get(
                f"{own}/chunks", page=shown_page, first=first or None, limit=CHUNKS_SHOWN, cursor=cursor
            )
        except ApiRefusal as refusal:
            if refusal.status == 401:
                raise
    return await whole_page(
        request,
        api,
        "document.html",
        title=document["filename"],
        document=document,
        batch=batch,
        own=own,
        where=f"/batches/{batch['id']}/documents/{document['id']}",
        is_drawn=is_drawn,
        shown_page=shown_page,
        chunks=chunks,
        sought=chunk,
    )


@router.post("/retry")
@public
async def retry_document(request: Request, api: Api, batch_id: str, file_id: str) -> Response:
    """Run this one again."""
    await form_of(request, api)
    where = f"/v1/batches/{quote(batch_id, safe='')}"
    document = await api.get(f"{where}/documents/{quote(file_id, safe='')}")
    body = {"ordinals": [document["ordinal"]], "include_cancelled": document["status"] == "cancelled"}
    await api.send("POST", f"{where}/retry", body)
    return see(request, f"/batches/{quote(batch_id, safe='')}", f"{document['filename']} runs again.")

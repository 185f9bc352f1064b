"""``POST /v1/batches`` and what adds to an open batch: multipart as a stream, NDJSON line by line, JSON inline."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from api.access import GuardedRoute, access
from api.body import UNLIMITED_BODY, RequestBody
from api.dependencies import (
    SECRET_HEADER,
    ApiParts,
    BatchIdPath,
    BatchTenant,
    CurrentCaller,
    IdempotencyKey,
    LinksOf,
    Parts,
    Tenant,
    WaitSeconds,
    require_not_draining,
)
from api.feeds import InlineDocument, JsonDocuments, JsonFeed, JsonSubmission, MultipartFeed
from api.multipart import boundary_of
from api.ndjson import NDJSON_MEDIA_TYPES, NdjsonFeed
from api.preview import SubmissionPreview
from api.rates import Rate
from api.reception import Feed
from api.resources import Batch
from api.routes.batches import batch_response
from ingather.models.errors import RequestError, UnsupportedMediaTypeError
from ingather.models.source import FileSelection, SourceType

router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=GuardedRoute)


class Addition(BaseModel):
    """Documents that an open batch has taken in: durable, and part of it from now on."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    documents_added: int
    """By this request, archives counted as one each."""
    bytes_added: int
    documents: int
    """In the batch so far."""
    bytes: int


def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """FastAPI collects no model of a body that the route reads itself, so what only this body uses stands within
    its schema, and what other answers use is referred to.
    """
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    own = schema.pop("$defs")
    schema["properties"]["documents"]["items"] = own[InlineDocument.__name__]
    selection = own[FileSelection.__name__]
    selection["properties"]["source_type"] = own[SourceType.__name__]
    schema["properties"]["sources"]["items"] = selection
    return schema


def _body_schema(json_model: type[BaseModel], *, makes_batch: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "files": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "The documents; ZIP archives are expanded. Repeat the field.",
        },
        "metadata": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "JSON object: file name to metadata object.",
        },
    }
    spec_line = ""
    if makes_batch:
        fields["spec"] = {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "JSON object: name, collection, priority, hold, open, options, metadata, webhook_url, webhook_secret.",
        }
        spec_line = ' The first line may be the batch\'s spec: `{"spec": {…}}`.'
    lines = "A document a line: `{filename, content (base64) or text, metadata}`." + spec_line
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": fields}},
            "application/x-ndjson": {"schema": {"type": "string", "description": lines}},
            "application/json": {"schema": _json_schema(json_model)},
        },
    }


@router.post(
    "",
    status_code=202,
    response_model=Batch,
    responses={200: {"model": Batch | SubmissionPreview, "description": "Ended in time (`Prefer: wait`), or dry run"}},
    openapi_extra={"requestBody": _body_schema(JsonSubmission, makes_batch=True)},
    max_body_size=UNLIMITED_BODY,
)
@access(rate=Rate.UPLOADS, makes_job=True)
async def submit_batch(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    tenant: Tenant,
    links: LinksOf,
    wait: WaitSeconds,
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[bool, Query(description="Say what would happen and keep nothing.")] = False,
) -> Response:
    """Submit documents as a batch. Answers 202 once it is durable and started."""
    async with _body_of(request, parts, tenant, makes_batch=True) as feed:
        if dry_run:
            preview = await parts.submissions.preview(tenant, feed)
            return Response(orjson.dumps(preview.model_dump(mode="json")), media_type="application/json")
        accepted = await parts.submissions.submit(
            tenant, idempotency_key, feed, created_by=caller.user, by=caller.actor
        )
    headers = {"Idempotency-Replayed": "true"} if accepted.was_replayed else {}
    if accepted.webhook_secret is not None:
        headers |= {SECRET_HEADER: accepted.webhook_secret, "Cache-Control": "no-store"}
    if not accepted.was_replayed:
        parts.metrics.submitted(accepted.file_count, accepted.upload_bytes)
    snapshot = accepted.snapshot
    if wait and not snapshot.is_final:
        headers["Preference-Applied"] = f"wait={wait:.0f}"
        snapshot = await parts.batches.wait_for(tenant, snapshot.record.batch_id, wait, lambda now: now.is_final)
    return batch_response(snapshot, links, 200 if wait and snapshot.is_final else 202, headers)


@router.post(
    "/{batch_id}/documents",
    status_code=202,
    response_model=Addition,
    openapi_extra={"requestBody": _body_schema(JsonDocuments, makes_batch=False)},
    max_body_size=UNLIMITED_BODY,
)
@access(rate=Rate.UPLOADS)
async def add_documents(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    tenant: BatchTenant,
    links: LinksOf,
    batch_id: BatchIdPath,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Add documents to an open batch. Answers 202 once they are durable; they run when the batch is sealed."""
    async with _body_of(request, parts, tenant, makes_batch=False) as feed:
        added = await parts.additions.add(tenant, batch_id, idempotency_key, feed, by=caller.actor)
    headers = {"Location": links.batch(batch_id)}
    if added.was_replayed:
        headers["Idempotency-Replayed"] = "true"
    else:
        parts.metrics.added(added.part.document_count, added.part.size_bytes)
    answer = Addition(
        batch_id=batch_id,
        documents_added=added.part.document_count,
        bytes_added=added.part.size_bytes,
        documents=added.totals.document_count,
        bytes=added.totals.size_bytes,
    )
    return Response(answer.model_dump_json(), status_code=202, headers=headers, media_type="application/json")


@router.post("/{batch_id}/seal", status_code=202, response_model=Batch)
async def seal_batch(
    *, parts: Parts, caller: CurrentCaller, tenant: BatchTenant, links: LinksOf, batch_id: BatchIdPath
) -> Response:
    """No more documents come to an open batch: let it run. Sealing again changes nothing."""
    return batch_response(await parts.additions.seal(tenant, batch_id, by=caller.actor), links, 202)


@asynccontextmanager
async def _body_of(request: Request, parts: ApiParts, tenant: str, *, makes_batch: bool) -> AsyncIterator[Feed]:
    """What reads the body, by its content type. After a refusal the rest of it is read and let go."""
    require_not_draining(parts)
    own = (await parts.gate.tenants.get(tenant)).limits
    most = own.max_request_bytes or parts.limits.max_request_bytes
    body, feed = _feed_of(request, parts, tenant, most, makes_batch=makes_batch)
    with parts.metrics.uploads_open.track_inprogress():
        async with body.taken_in():
            yield feed


def _feed_of(
    request: Request, parts: ApiParts, tenant: str, max_request_bytes: int, *, makes_batch: bool
) -> tuple[RequestBody, Feed]:
    content_type = request.headers.get("content-type", "")
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind == "application/json":
        body = RequestBody(request, parts.limits.max_json_bytes, "max_json_bytes")
        check = partial(parts.connections.check_selections, tenant)
        return body, JsonFeed(body, parts.json_room, tenant, check, makes_batch=makes_batch).read
    body = RequestBody(request, max_request_bytes, "max_request_bytes")
    if kind == "multipart/form-data":
        boundary = boundary_of(content_type)
        if boundary is None:
            raise RequestError("The multipart Content-Type names no boundary.")
        form = MultipartFeed(body.chunks(), boundary, parts.json_room, tenant, makes_batch=makes_batch)
        return body, form.read
    if kind in NDJSON_MEDIA_TYPES:
        most = parts.limits.max_line_bytes
        lines = NdjsonFeed(body.chunks(), parts.json_room, tenant, max_line_bytes=most, makes_batch=makes_batch)
        return body, lines.read
    raise UnsupportedMediaTypeError(
        "Documents are submitted as multipart/form-data, application/x-ndjson or application/json."
    )

"""``/v1/tus``: large files over tus 1.0.0, resumed where a connection broke off.

With the extensions creation, creation-with-upload, termination, expiration and checksum. A finished upload is named in
``uploads`` of ``POST /v1/batches``.
"""

import base64
import binascii
from collections.abc import Callable, Coroutine
from email.utils import format_datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response

from api.access import Caller, GuardedRoute, access, admitted
from api.body import UNLIMITED_BODY, RequestBody
from api.dependencies import ApiParts, CurrentCaller, LinksOf, Parts, TenantHeader, require_not_draining
from api.multipart import MAX_NAME_CHARACTERS
from api.problems import problem_for_error, problem_for_status
from api.rates import Rate
from api.service.tus_uploads import ALGORITHMS, Checksum
from ingather.models.errors import IngatherError, ProtocolVersionError, RequestError, UnsupportedMediaTypeError
from ingather.models.upload import Upload

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
CONTENT_TYPE = "application/offset+octet-stream"
MAX_METADATA_BYTES = 8 * 1024

_RESUMABLE = {"Tus-Resumable": VERSION}


class TusRoute(GuardedRoute):
    """Speaks one version of the protocol, and says so with every answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def resumable(request: Request) -> Response:
            await admitted(request)
            try:
                if request.method != "OPTIONS" and request.headers.get("tus-resumable") != VERSION:
                    raise ProtocolVersionError(f"The request is not one of tus {VERSION}.")
                response = await handle(request)
            except IngatherError as error:
                if error.http_status >= 500:
                    raise
                response = problem_for_error(request.scope, error)
                if isinstance(error, ProtocolVersionError):
                    response.headers["Tus-Version"] = VERSION
            response.headers.update(_RESUMABLE)
            return response

        return resumable


router = APIRouter(prefix="/v1/tus", tags=["uploads"], route_class=TusRoute)

UploadId = Annotated[str, Path(description="The upload's id, from the `Location` of its creation.")]
Resumable = Annotated[
    str | None, Header(alias="Tus-Resumable", description="`1.0.0`.", json_schema_extra={"example": VERSION})
]
ChecksumHeader = Annotated[
    str | None,
    Header(alias="Upload-Checksum", description=f"Algorithm ({', '.join(ALGORITHMS)}) and checksum in base64."),
]

_BYTES = {
    "requestBody": {"content": {CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}},
}


@router.options("", status_code=204, response_class=Response)
async def describe_tus(parts: Parts) -> Response:
    """What is spoken here."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(parts.tus_uploads.limits.max_upload_bytes),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }
    return Response(status_code=204, headers=headers)


@router.post("", status_code=201, response_class=Response, openapi_extra=_BYTES, max_body_size=UNLIMITED_BODY)
@access(rate=Rate.UPLOADS)
async def create_upload(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    links: LinksOf,
    _tenant_id: TenantHeader = None,
    _resumable: Resumable = None,
    upload_length: Annotated[
        int | None,
        Header(
            alias="Upload-Length",
            ge=0,
            description="Bytes of the whole file; it must be known.",
            json_schema_extra={"example": 1},
        ),
    ] = None,
    upload_metadata: Annotated[
        str | None,
        Header(
            alias="Upload-Metadata",
            max_length=MAX_METADATA_BYTES,
            description="Pairs of key and base64; `filename` names it.",
        ),
    ] = None,
    upload_checksum: ChecksumHeader = None,
) -> Response:
    """Create an upload; its first bytes may come along."""
    require_not_draining(parts)
    if upload_length is None:
        raise RequestError("Upload-Length is missing; a length that is told later is not served.")
    known = parse_metadata(upload_metadata or "")
    name = (known.get("filename") or known.get("name") or b"").decode("utf-8", "replace")[-MAX_NAME_CHARACTERS:]
    has_body = request.headers.get("content-type", "").split(";", 1)[0].strip().lower() == CONTENT_TYPE
    checksum = parse_checksum(upload_checksum)
    details = {"upload_metadata": upload_metadata or ""}
    upload = await parts.tus_uploads.create(caller.tenant_id, caller.user, upload_length, name, details)
    headers = {"Location": f"{links.base_url}{router.prefix}/{upload.upload_id}"}
    if has_body:
        upload = await _take(request, parts, upload, 0, checksum)
    return Response(status_code=201, headers=headers | _headers(upload))


@router.head("/{upload_id}", response_class=Response)
async def read_offset(
    *,
    parts: Parts,
    caller: CurrentCaller,
    upload_id: UploadId,
    _tenant_id: TenantHeader = None,
    _resumable: Resumable = None,
) -> Response:
    """How far the upload is: `Upload-Offset`."""
    upload = await _found(parts, caller, upload_id)
    headers = {"Upload-Length": str(upload.length), "Cache-Control": "no-store"}
    if upload.details.get("upload_metadata"):
        headers["Upload-Metadata"] = upload.details["upload_metadata"]
    return Response(status_code=200, headers=headers | _headers(upload))


@router.patch(
    "/{upload_id}", status_code=204, response_class=Response, openapi_extra=_BYTES, max_body_size=UNLIMITED_BODY
)
@access(rate=Rate.UPLOADS)
async def append_bytes(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    upload_id: UploadId,
    _tenant_id: TenantHeader = None,
    _resumable: Resumable = None,
    upload_offset: Annotated[
        int | None,
        Header(
            alias="Upload-Offset",
            ge=0,
            description="Where the bytes begin: where the upload ends so far.",
            json_schema_extra={"example": 0},
        ),
    ] = None,
    upload_checksum: ChecksumHeader = None,
) -> Response:
    """Add bytes. Where the connection breaks off, what came stays, unless there is a checksum."""
    return await _append(request, parts, caller, upload_id, offset=upload_offset, checksum=upload_checksum)


@router.delete("/{upload_id}", status_code=204, response_class=Response)
async def remove_upload(
    *,
    parts: Parts,
    caller: CurrentCaller,
    upload_id: UploadId,
    _tenant_id: TenantHeader = None,
    _resumable: Resumable = None,
) -> Response:
    """Give an upload up. One that a batch was made of stays (409)."""
    await parts.tus_uploads.remove(await _found(parts, caller, upload_id))
    return Response(status_code=204)


@router.post("/{upload_id}", status_code=204, response_class=Response, max_body_size=UNLIMITED_BODY)
@access(rate=Rate.UPLOADS)
async def with_another_method(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    upload_id: UploadId,
    _tenant_id: TenantHeader = None,
    _resumable: Resumable = None,
    x_http_method_override: Annotated[
        str | None, Header(alias="X-HTTP-Method-Override", description="`PATCH` or `DELETE`.")
    ] = None,
    upload_offset: Annotated[int | None, Header(alias="Upload-Offset", ge=0)] = None,
    upload_checksum: ChecksumHeader = None,
) -> Response:
    """For clients whose network lets no `PATCH` or `DELETE` through."""
    match (x_http_method_override or "").upper():
        case "PATCH":
            return await _append(request, parts, caller, upload_id, offset=upload_offset, checksum=upload_checksum)
        case "DELETE":
            await parts.tus_uploads.remove(await _found(parts, caller, upload_id))
            return Response(status_code=204)
    await _found(parts, caller, upload_id)
    return problem_for_status(request.scope, 405, headers={"Allow": "DELETE, HEAD, PATCH"})


async def _append(
    request: Request,
    parts: ApiParts,
    caller: Caller,
    upload_id: str,
    *,
    offset: int | None,
    checksum: str | None,
) -> Response:
    require_not_draining(parts)
    upload = await _found(parts, caller, upload_id)
    if request.headers.get("content-type", "").split(";", 1)[0].strip().lower() != CONTENT_TYPE:
        raise UnsupportedMediaTypeError(f"Bytes are sent as {CONTENT_TYPE}.")
    if offset is None:
        raise RequestError("Upload-Offset is missing.")
    upload = await _take(request, parts, upload, offset, parse_checksum(checksum))
    return Response(status_code=204, headers=_headers(upload))


async def _take(request: Request, parts: ApiParts, upload: Upload, offset: int, checksum: Checksum | None) -> Upload:
    body = RequestBody(request, max(0, (upload.length or 0) - offset), "Upload-Length")
    with parts.metrics.uploads_open.track_inprogress():
        async with body.taken_in():
            return await parts.tus_uploads.append(upload, offset, body.chunks(), checksum)


async def _found(parts: ApiParts, caller: Caller, upload_id: str) -> Upload:
    return await parts.tus_uploads.find(upload_id, caller.tenant_id if caller.is_narrowed else None)


def _headers(upload: Upload) -> dict[str, str]:
    return {
        "Upload-Offset": str(upload.received_bytes),
        "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
    }


def parse_metadata(header: str) -> dict[str, bytes]:
    """``Upload-Metadata``: pairs of a key and its value in base64, which may be left out. Raises ``RequestError``."""
    found: dict[str, bytes] = {}
    for pair in filter(None, (each.strip() for each in header.split(","))):
        key, _, value = pair.partition(" ")
        try:
            decoded = base64.b64decode(value.strip(), validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError("Upload-Metadata holds a value that is not base64.") from error
        if key in found:
            raise RequestError("Upload-Metadata holds a key twice.")
        found[key] = decoded
    return found


def parse_checksum(header: str | None) -> Checksum | None:
    """``Upload-Checksum``: an algorithm and the checksum in base64. Raises ``RequestError``."""
    if header is None:
        return None
    algorithm, _, value = header.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise RequestError(f"Checksums are made with one of {', '.join(ALGORITHMS)}.")
    try:
        return Checksum(algorithm, base64.b64decode(value.strip(), validate=True))
    except (binascii.Error, ValueError) as error:
        raise RequestError("Upload-Checksum holds a value that is not base64.") from error

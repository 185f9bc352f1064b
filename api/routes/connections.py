"""``/v1/connections``: ways to sources. Credentials go in and never come out."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.access import GuardedRoute
from api.cursors import time_and_id
from api.dependencies import CurrentCaller, IdempotencyKey, PageSize, Parts, Tenant, require_json
from ingather.models.errors import InvalidCursorError
from ingather.models.source import Connection, ConnectionId, SourceFile, SourceType

router = APIRouter(prefix="/v1/connections", tags=["connections"], route_class=GuardedRoute)

MASK = "********"

_EXAMPLE: JsonDict = {"source_type": "http", "settings": {"urls": ["https://www.example.org/handbook.pdf"]}}


class NewConnection(BaseModel):
    """A connection to make."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    connection_id: ConnectionId | None = None
    """Made when left out. Letters, digits, dot, dash, underscore and colon."""
    source_type: SourceType
    settings: dict[str, Any] = Field(repr=False)
    """What this kind of source needs: see the connections reference."""


class ConnectionView(BaseModel):
    """A connection without its credentials."""

    connection_id: str
    source_type: SourceType
    settings: dict[str, Any]
    """Those that are set; credentials are masked."""
    created_by: str
    created_at: AwareDatetime


class ConnectionPage(BaseModel):
    """Connections, newest first."""

    data: list[ConnectionView]
    has_more: bool = False
    next_cursor: str | None = None


class ConnectionTest(BaseModel):
    """What came of trying a connection."""

    connection_id: str
    ok: bool
    message: str
    """What is wrong, in words."""
    code: str | None = None
    """Null where nothing is wrong."""
    action: str | None = None
    took_ms: float


class SourceFilePage(BaseModel):
    """Files and folders right below a folder, in the source's own order."""

    data: list[SourceFile]
    has_more: bool = False
    next_cursor: str | None = None


@router.post("", status_code=201, response_model=ConnectionView, dependencies=[Depends(require_json)])
async def create_connection(
    *, parts: Parts, caller: CurrentCaller, body: NewConnection, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make a connection. Nothing is asked of the source: `POST …/test` does."""
    made = await parts.connections.create(
        caller, body.connection_id, body.source_type, body.settings, key=idempotency_key
    )
    headers = {"Location": f"/v1/connections/{made.connection.connection_id}"}
    if made.was_replayed:
        headers["Idempotency-Replayed"] = "true"
    content = orjson.dumps(_view(made.connection).model_dump(mode="json"))
    return Response(content, status_code=201, headers=headers, media_type="application/json")


@router.get("")
async def list_connections(
    *, parts: Parts, tenant: Tenant, limit: PageSize, cursor: str | None = None
) -> ConnectionPage:
    """The tenant's connections, newest first."""
    filters = {"list": "connections", "tenant": tenant}
    before = time_and_id(parts.cursors.decode(cursor, filters)) if cursor else None
    found, has_more = await parts.connections.page(tenant, limit, before)
    next_cursor = None
    if has_more:
        next_cursor = parts.cursors.encode([found[-1].created_at.isoformat(), found[-1].connection_id], filters)
    return ConnectionPage(data=[_view(each) for each in found], has_more=has_more, next_cursor=next_cursor)


@router.get("/{connection_id}")
async def read_connection(parts: Parts, tenant: Tenant, connection_id: str) -> ConnectionView:
    """One connection."""
    return _view(await parts.connections.connection(tenant, connection_id))


@router.delete("/{connection_id}", status_code=204, response_class=Response)
async def delete_connection(parts: Parts, caller: CurrentCaller, connection_id: str) -> Response:
    """Forget a connection and its credentials. Documents still to be fetched through it fail with `connection_gone`."""
    await parts.connections.delete(caller, connection_id)
    return Response(status_code=204)


@router.post("/{connection_id}/test")
async def try_connection(parts: Parts, tenant: Tenant, connection_id: str) -> ConnectionTest:
    """Use a connection as a batch would, and say what is wrong."""
    tested = await parts.connections.test(tenant, connection_id)
    problem = tested.problem
    return ConnectionTest(
        connection_id=connection_id,
        ok=problem is None,
        message=problem.message if problem else "The connection works.",
        code=problem.code if problem else None,
        action=tested.action,
        took_ms=tested.took_ms,
    )


@router.get("/{connection_id}/files")
async def list_source_files(
    *,
    parts: Parts,
    tenant: Tenant,
    connection_id: str,
    limit: PageSize,
    folder: Annotated[
        str | None, Query(max_length=4_096, description="Id of a folder; the connection's root when left out.")
    ] = None,
    cursor: str | None = None,
) -> SourceFilePage:
    """Files and folders of the source, so that a selection can be made."""
    filters = {"list": "files", "tenant": tenant, "connection": connection_id, "folder": folder or ""}
    after = _source_cursor(parts.cursors.decode(cursor, filters)) if cursor else None
    page = await parts.connections.browse(tenant, connection_id, folder or None, after, limit)
    next_cursor = parts.cursors.encode([page.next_cursor], filters) if page.next_cursor else None
    return SourceFilePage(data=list(page.files), has_more=next_cursor is not None, next_cursor=next_cursor)


def _view(connection: Connection) -> ConnectionView:
    return ConnectionView(
        connection_id=connection.connection_id,
        source_type=connection.source_type,
        settings={**connection.settings, **dict.fromkeys(connection.secret_names, MASK)},
        created_by=connection.created_by,
        created_at=connection.created_at,
    )


def _source_cursor(position: list[Any]) -> str:
    if len(position) != 1 or not isinstance(position[0], str):
        raise InvalidCursorError("The cursor belongs to another list.")
    return position[0]

"""A deployment that asks for credentials, with two tenants: one has everything there is, the other asks for it."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
from cryptography.fernet import Fernet
from pydantic import SecretStr

from api.streams.clients import OpenStreams, StreamClient
from api.streams.wording import Wording
from ingather.domain.api_keys import key_hash, new_key
from ingather.domain.artifact import encode
from ingather.domain.keys import artifact_key, sheet_csv_key, sheet_rows_key, skipped_files_key
from ingather.models.accounts import ApiKey, Scope, Tenant, User
from ingather.models.batch import BatchRecord
from ingather.models.content import ParsedDocument
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.identity import batch_id_for, file_id_for
from ingather.models.source import Connection, SourceType
from ingather.models.webhook import DeliveryStatus, WebhookDelivery
from ingather.settings import AuthSettings, Limits, Settings, SourceSettings
from tests.support.api import ApiInProcess, api_in_process

OWNER, STRANGER = "11111111-1111-7111-8111-111111111111", "22222222-2222-7222-8222-222222222222"
SECRET_WORD = "quetzalcoatl"
"""In every name and text of the owner's: nobody else may ever read it."""
MADE_UP = {
    "batch_name": "01900000-0000-7000-8000-0000000000e5",
    "uuid": "99999999-9999-7999-8999-999999999999",
    "key_id": "zzzzzzzz",
    "page": "1000003",
}

Json = dict[str, Any]


class QuietStreams:
    """Streams on which nothing happens; they note what is followed."""

    def __init__(self) -> None:
        self.hub = SimpleNamespace(drain_begun=asyncio.Event())
        self.sockets = OpenStreams(per_tenant=None)
        self.followed: list[str] = []

    async def follow(self, record: BatchRecord, _wording: Wording) -> AsyncIterator[bytes]:
        self.followed.append(record.batch_id)
        await asyncio.Event().wait()
        yield b""

    def socket_closed(self, tenant_id: str, client: StreamClient | None) -> None:
        self.sockets.closed(tenant_id, client)


@dataclass
class TwoTenants:
    """The deployment, the owner's ids by the names routes use for them, and a key for everybody."""

    api: ApiInProcess
    ids: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """``owner``, ``owner_admin``, ``stranger``, ``stranger_admin``."""
    cursors: dict[str, str] = field(default_factory=dict)
    """The owner's, by path."""
    streams: QuietStreams = field(default_factory=QuietStreams)

    async def call(self, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"X-API-Key": self.keys[who], **options.pop("headers", {})}
        return await self.api.http.request(method, path, headers=headers, **options)


@asynccontextmanager
async def two_tenants() -> AsyncIterator[TwoTenants]:
    """Everything in memory, in this process."""
    keys = (SecretStr(Fernet.generate_key().decode()),)
    # Nothing ends here by itself, so nobody waits for it.
    limits = Limits(text_answer_seconds=0.01)
    settings = Settings(auth=AuthSettings(mode="required"), sources=SourceSettings(keys=keys), limits=limits)
    async with api_in_process(settings) as api:
        world = TwoTenants(api)
        api.app.state.streams = world.streams
        for tenant_id, who in ((OWNER, "owner"), (STRANGER, "stranger")):
            name = f"{SECRET_WORD} {who}" if who == "owner" else who
            await api.catalog.accounts.add_tenant(Tenant(tenant_id=tenant_id, name=name, created_at=datetime.now(UTC)))
            await _add_key(world, who, tenant_id, frozenset({Scope.READ, Scope.WRITE}))
            await _add_key(world, f"{who}_admin", tenant_id, frozenset(Scope))
        await _furnish(world)
        yield world


async def _add_key(world: TwoTenants, who: str, tenant_id: str, scopes: frozenset[Scope]) -> None:
    key_id, key = new_key()
    name = f"{SECRET_WORD} key" if who == "owner" else who
    facts = ApiKey(key_id=key_id, tenant_id=tenant_id, name=name, scopes=scopes, created_at=datetime.now(UTC))
    await world.api.catalog.accounts.add_key(facts, key_hash(key))
    world.keys[who] = key
    if who == "owner":
        world.ids["key_id"] = key_id


async def _furnish(world: TwoTenants) -> None:
    """Give the owner a batch that ended, with a document that has bytes and text, one that is open, and a user."""
    body = {"name": f"{SECRET_WORD} batch", "documents": [{"filename": f"{SECRET_WORD}.txt", "content": "aGVsbG8="}]}
    batch = (await world.call("owner", "POST", "/v1/batches", json=body)).json()
    await world.call("owner", "POST", "/v1/batches", json=body)
    user = User(user_id=str(uuid.uuid4()), tenant_id=OWNER, username=SECRET_WORD, created_at=datetime.now(UTC))
    await world.api.catalog.accounts.add_user(user, "no password fits")
    second = user.model_copy(update={"user_id": str(uuid.uuid4()), "username": f"{SECRET_WORD} two"})
    await world.api.catalog.accounts.add_user(second, "no password fits")
    connection = {"source_type": "http", "settings": {"urls": [f"https://{SECRET_WORD}.example/a.txt"]}}
    for name in ("shelf-1", "shelf-2"):
        await world.call("owner", "POST", "/v1/connections", json={"connection_id": name, **connection})
    file_id = file_id_for(batch["id"], 0)
    await _store_document(world, batch["id"], file_id)
    world.ids |= {
        "batch_id": batch["id"],
        "job_id": batch["id"],
        "file_id": file_id,
        "tenant_id": OWNER,
        "page": MADE_UP["page"],
        "user_id": user.user_id,
        "connection_id": "shelf-1",
    }
    await _make_webhooks(world)
    await _make_source_job(world)
    await _make_texts(world)
    await _make_uploads(world)
    page = await world.call("owner", "GET", "/v1/batches", params={"limit": 1})
    world.cursors["/v1/batches"] = page.json()["next_cursor"]
    for path in ("/v1/audit", "/v1/users", "/v1/api-keys", "/v1/connections", "/v1/webhook-endpoints"):
        page = await world.call("owner", "GET", path, params={"limit": 1})
        world.cursors[path] = page.json()["next_cursor"]


async def _make_webhooks(world: TwoTenants) -> None:
    """Two endpoints; what was sent to the second is in its log."""
    for _ in range(2):
        body = {"url": f"https://{SECRET_WORD}.example/hook", "description": SECRET_WORD}
        webhook = (await world.call("owner", "POST", "/v1/webhook-endpoints", json=body)).json()
    now = datetime.now(UTC)
    delivery = WebhookDelivery(
        delivery_id=str(uuid.uuid4()),
        tenant_id=OWNER,
        webhook_id=webhook["webhook_id"],
        event_id=f"evt_{SECRET_WORD}",
        event_type="batch.completed",
        payload={"type": SECRET_WORD},
        status=DeliveryStatus.FAILED,
        created_at=now,
        ended_at=now,
    )
    await world.api.catalog.webhooks.add_deliveries([delivery])
    world.ids |= {"webhook_id": webhook["webhook_id"], "delivery_id": delivery.delivery_id}


async def _make_source_job(world: TwoTenants) -> None:
    """A job over a connected source, of the user that the owner's key stands for."""
    made = Connection(
        connection_id=f"{SECRET_WORD}-shelf", tenant_id=OWNER, source_type=SourceType.S3, created_at=datetime.now(UTC)
    )
    await world.api.catalog.connections.add_connection(made)
    user = f"key:{SECRET_WORD} key"
    selection = {"connection_id": made.connection_id, "source_type": "s3", "file_ids": [f"{SECRET_WORD}.txt"]}
    body = {"user_id": user, "name": f"{SECRET_WORD} job", "file_selections": [selection]}
    job = (await world.call("owner", "POST", "/batch/jobs", json=body)).json()
    world.ids |= {"source jobs/user_id": user, "source jobs/job_id": job["job_id"]}


async def _make_texts(world: TwoTenants) -> None:
    """A batch of one text, under a name of its owner's."""
    body = {"requests": [{"operation": "sentiment", "text": f"{SECRET_WORD} is a word."}], "batch_id": SECRET_WORD}
    batch_id = batch_id_for(OWNER, "texts", SECRET_WORD)
    answer = await world.call("owner", "POST", "/batch_process", json=body)
    assert answer.status_code == 202, answer.text
    world.ids["batch_name"] = batch_id


async def _make_uploads(world: TwoTenants) -> None:
    """One over tus and one in chunks, of which something is missing; and a batch of sheets with what it came to."""
    name = base64.b64encode(f"{SECRET_WORD}.pdf".encode()).decode()
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "9", "Upload-Metadata": f"filename {name}"}
    made = await world.call("owner", "POST", "/v1/tus", headers=headers)
    fields = {
        "chunk_index": "0",
        "total_chunks": "2",
        "filename": f"{SECRET_WORD}.zip",
        "upload_type": "zip_with_qr",
        "notes": SECRET_WORD,
    }
    form = {"data": fields, "files": {"chunk": ("blob", b"hello")}}
    chunked = await world.call("owner", "POST", "/api/batches/upload-chunk", **form)
    form["data"] = fields | {"total_chunks": "1"}
    batch_id = (await world.call("owner", "POST", "/api/batches/upload-chunk", **form)).json()["batch_id"]
    results = (
        sheet_csv_key(OWNER, batch_id, 0),
        sheet_rows_key(OWNER, batch_id, 0),
        skipped_files_key(OWNER, batch_id),
    )
    for key in results:
        await world.api.blobs.put(key, SECRET_WORD.encode())
    world.ids |= {
        "uploads/upload_id": made.headers["Location"].rsplit("/", 1)[-1],
        "scanned sheets/upload_id": chunked.json()["upload_id"],
        "scanned sheets/batch_id": batch_id,
    }


async def _store_document(world: TwoTenants, batch_id: str, file_id: str) -> None:
    sha256, fingerprint, raw_key = "ab" * 32, "cd" * 8, f"raw/{OWNER}/{file_id}/{'ab' * 32}"
    parsed = ParsedDocument(media_type="text/plain", text=SECRET_WORD)
    await world.api.blobs.put(raw_key, SECRET_WORD.encode())
    content = encode(parsed, [], np.zeros((0, 2), np.float32), quality=1.0, embedder="e", versions={})
    await world.api.blobs.put(artifact_key(OWNER, sha256, fingerprint), content)
    record = DocumentRecord(
        file_id=file_id,
        tenant_id=OWNER,
        batch_id=batch_id,
        ordinal=0,
        filename=f"{SECRET_WORD}.txt",
        collection="default",
        status=DocumentStatus.DONE,
        sha256=sha256,
        fingerprint=fingerprint,
        size_bytes=len(SECRET_WORD),
        raw_key=raw_key,
    )
    await world.api.catalog.add_documents([record])


@dataclass(frozen=True)
class Operation:
    """One line of the OpenAPI document."""

    method: str
    path: str
    described: Json = field(compare=False, repr=False)
    schemas: Json = field(compare=False, repr=False)

    @property
    def is_public(self) -> bool:
        return self.described.get("security") == []

    @property
    def path_names(self) -> list[str]:
        return [p["name"] for p in self.described.get("parameters", []) if p["in"] == "path"]

    def own(self, ids: dict[str, str]) -> dict[str, str]:
        """The ids as this route means them: under one name, contracts have ids of their own (``tag/name``)."""
        tags = self.described.get("tags", [])
        said = {name.split("/", 1)[1]: one for name, one in ids.items() if name.split("/", 1)[0] in tags}
        return {name: one for name, one in ids.items() if "/" not in name} | said

    def request(self, ids: dict[str, str]) -> Json:
        """A request that fits the schema and names these things wherever something can be named."""
        ids = self.own(ids)
        parameters = self.described.get("parameters", [])
        query = {
            p["name"]: ids.get(p["name"]) or example_of(p["schema"], self.schemas, ids)
            for p in parameters
            if p["in"] == "query" and (p.get("required") or p["name"] in ids)
        }
        request: Json = {"method": self.method, "path": self.path.format(**ids), "params": query}
        said = {p["name"]: p["schema"] for p in parameters if p["in"] == "header"}
        headers = {name: str(schema["example"]) for name, schema in said.items() if "example" in schema}
        if headers:
            request["headers"] = headers
        content = self.described.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            request["json"] = example_of(content["application/json"]["schema"], self.schemas, ids)
        elif "multipart/form-data" in content:
            request |= _form_of(content["multipart/form-data"]["schema"], self.schemas, ids)
        elif "application/offset+octet-stream" in content:
            request["content"] = b"x"
            request["headers"] = headers | {"Content-Type": "application/offset+octet-stream"}
        elif "application/x-www-form-urlencoded" in content:
            schema = content["application/x-www-form-urlencoded"]["schema"]
            request["data"] = example_of(schema, self.schemas, ids)
        return request


def _form_of(schema: Json, schemas: Json, ids: dict[str, str]) -> Json:
    """Required fields and those that name something, and the first that takes bytes."""
    fields, bytes_in = {}, []
    for name, each in schema["properties"].items():
        if each.get("format") == "binary" or each.get("items", {}).get("format") == "binary":
            bytes_in.append((name, ("a.txt", b"hello", "text/plain")))
        elif name in schema.get("required", ()) or name in ids:
            fields[name] = str(example_of(each, schemas, ids, name))
    return {"data": fields, "files": bytes_in[:1]}


def operations(document: Json) -> Iterator[Operation]:
    """All of them."""
    schemas = document.get("components", {}).get("schemas", {})
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            yield Operation(method.upper(), path, described, schemas)


def example_of(schema: Json, schemas: Json, ids: dict[str, str], name: str = "") -> Any:
    """The smallest thing that fits, with the ids in fields of their names."""
    if name in ids:
        return ids[name]
    while "$ref" in schema or "anyOf" in schema:
        schema = schema["anyOf"][0] if "anyOf" in schema else schemas[schema["$ref"].rsplit("/", 1)[1]]
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema or schema.get("default") or "const" in schema:
        return schema.get("const", (schema.get("enum") or [schema.get("default")])[0])
    if schema.get("type") == "object":
        needed = {*schema.get("required", ()), *ids, "documents", "name"}
        properties = schema.get("properties", {})
        return {each: example_of(properties[each], schemas, ids, each) for each in properties if each in needed}
    if schema.get("type") == "array":
        return [example_of(schema["items"], schemas, ids)] * max(1, schema.get("minItems", 0))
    return _plain_example(schema, name)


def _plain_example(schema: Json, name: str) -> Any:
    match schema.get("type"):
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
    return "YWJj" if name == "content" else str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def shape_of(response: httpx.Response, ids: dict[str, str]) -> Json:
    """What an answer tells, without what differs between any two: ids, times, numbers of the request."""
    fickle = {
        "x-request-id",
        "date",
        "content-length",
        "ratelimit",
        "ratelimit-policy",
        "location",
        "etag",
        "set-cookie",
    }
    text = response.text
    for one in ids.values():
        text = text.replace(one, "ID")
    try:
        body: Any = json.loads(text)
    except ValueError:
        body = text
    if isinstance(body, dict):
        body.pop("request_id", None)
    headers = {name: value for name, value in response.headers.items() if name not in fickle}
    is_error = response.status_code >= 400
    return {"status": response.status_code, "headers": headers, "body": body if is_error else _skeleton(body)}


def _skeleton(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _skeleton(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_skeleton(each) for each in value]
    return type(value).__name__

"""``/connections``: ways to sources, what lies behind them, and batches of what was chosen there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.forms import Mistakes, lines_of, mistakes_of, once, repeated_key
from api.dashboard.public_api import Api, ApiRefusal, Json, PublicApi, within
from api.dashboard.rendering import form_of, fragment, page, see
from api.dashboard.words import plural

router = APIRouter(include_in_schema=False, prefix="/connections")

PAGE_SIZE: Final = 50
FILES_SHOWN: Final = 100
AT_ONCE_SECONDS: Final = 0.2
"""How long the page waits for the source before it is shown without its files, which then come by themselves."""
PATIENT_SECONDS: Final = 30.0
MOST_CHOSEN: Final = 20_000


@dataclass(frozen=True, slots=True)
class Field:
    """One of a kind's settings."""

    name: str
    label: str
    hint: str = ""
    kind: str = "text"
    """``text``, ``secret``, ``secret_text`` for several lines, ``lines`` for a list, ``headers`` for names with values."""
    required: bool = False
    placeholder: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of source."""

    label: str
    text: str
    fields: tuple[Field, ...]


_PATH_HINT = "Absolute, as the workers see it, below one of the folders this deployment allows."

KINDS: Final[Mapping[str, Kind]] = {
    "local_directory": Kind(
        "Folder", "On the workers' disk", (Field("path", "Path", _PATH_HINT, required=True, placeholder="/srv/in"),)
    ),
    "local_zip": Kind(
        "ZIP archive",
        "On the workers' disk",
        (Field("path", "Path", _PATH_HINT, required=True, placeholder="/srv/in/archive.zip"),),
    ),
    "s3": Kind(
        "S3",
        "A bucket, or a prefix of one",
        (
            Field("bucket", "Bucket", required=True),
            Field("prefix", "Prefix", "Ends in a slash where it is a folder.", placeholder="reports/2026/"),
            Field("endpoint_url", "Endpoint", "AWS's own when empty.", placeholder="https://s3.example.org"),
            Field("region", "Region", placeholder="us-east-1"),
            Field("access_key_id", "Access key id", "Without one it is read as the public may."),
            Field("secret_access_key", "Secret access key", kind="secret"),
            Field("session_token", "Session token", kind="secret"),
        ),
    ),
    "http": Kind(
        "Web addresses",
        "A list of them, or all below one",
        (
            Field("base_url", "Base address", "Files are named by their path below it.", placeholder="https://…/"),
            Field("urls", "Or a list of addresses", "One a line, in place of a base address.", kind="lines"),
            Field("headers", "Headers", "One a line, such as “Authorization: Bearer …”. All are kept secret.", kind="headers"),
        ),
    ),
    "google_drive": Kind(
        "Google Drive",
        "As a user or a service account",
        (
            Field("service_account", "Service account", "The key file's JSON.", kind="secret_text"),
            Field("subject", "Acts for", "The user the service account stands in for, where the domain allows it."),
            Field("client_id", "Client id", "In place of a service account: these three."),
            Field("client_secret", "Client secret", kind="secret"),
            Field("refresh_token", "Refresh token", kind="secret"),
            Field("folder_id", "Folder id", "Where browsing begins; all of it when empty."),
            Field("drive_id", "Shared drive id"),
        ),
    ),
}  # fmt: skip
SECRET_KINDS: Final = frozenset({"secret", "secret_text", "headers"})


def settings_of(kind: Kind, fields: Mapping[str, str], mistakes: Mistakes) -> Json:
    """What was entered, as the API takes it; empty fields are left out."""
    settings: Json = {}
    for field in kind.fields:
        text = fields.get(field.name, "").strip()
        if not text:
            continue
        match field.kind:
            case "lines":
                settings[field.name] = lines_of(text)
            case "headers":
                settings[field.name] = _headers(text, mistakes)
            case _:
                settings[field.name] = text
    return settings


def _headers(text: str, mistakes: Mistakes) -> dict[str, str]:
    found = {}
    for line in lines_of(text):
        name, colon, value = line.partition(":")
        if not colon:
            mistakes.by_field["headers"] = "Each line is a name, a colon and a value."
        found[name.strip()] = value.strip()
    return found


def whereabouts(connection: Json) -> str:
    """Where a connection leads, on one line."""
    settings: Mapping[str, Any] = connection["settings"]
    match connection["source_type"]:
        case "local_directory" | "local_zip":
            return str(settings.get("path", ""))
        case "s3":
            return f"s3://{settings.get('bucket', '')}/{settings.get('prefix', '')}"
        case "http":
            urls: Sequence[str] = settings.get("urls") or ()
            return str(
                settings.get("base_url") or (urls[0] if len(urls) == 1 else plural(len(urls), "address", "addresses"))
            )
        case "google_drive":
            folder = settings.get("folder_id")
            return f"folder {folder}" if folder else "the whole drive"
        case _:
            return ""


def kind_label(source_type: str) -> str:
    """An unknown one as it is: kinds are open."""
    kind = KINDS.get(source_type)
    return kind.label if kind else source_type.replace("_", " ")


def trail_of(flat: Sequence[str]) -> list[Json]:
    """Folders on the way to where one is, from ids and names by turns; each with what leads back to it."""
    pairs = list(zip(flat[::2], flat[1::2], strict=False))
    return [
        {"id": folder, "name": name, "flat": [part for pair in pairs[: index + 1] for part in pair]}
        for index, (folder, name) in enumerate(pairs)
    ]


@router.get("")
@public
async def list_connections(request: Request, api: Api, cursor: str = "") -> Response:
    """The tenant's connections."""
    listed = await api.get("/v1/connections", limit=PAGE_SIZE, cursor=cursor)
    for each in listed["data"]:
        each |= {"where": whereabouts(each), "kind": kind_label(each["source_type"])}
    return await page(
        request, api, "connections/list.html", title="Connections", listed=listed, chosen={"cursor": cursor}
    )


@router.get("/new")
@public
async def show_new(request: Request, api: Api, kind: str = "local_directory") -> Response:
    """The form for a connection of a kind."""
    kind = kind if kind in KINDS else "local_directory"
    return await _form(request, api, kind, {}, Mistakes())


@router.post("/new")
@public
async def create(request: Request, api: Api, kind: str = "local_directory") -> Response:
    """Make a connection, and try it at once."""
    fields = await form_of(request, api)
    kind = kind if kind in KINDS else "local_directory"
    mistakes = Mistakes()
    body: Json = {"source_type": kind, "settings": settings_of(KINDS[kind], fields, mistakes)}
    if name := fields.get("connection_id", "").strip():
        body["connection_id"] = name
    if mistakes.is_empty:
        try:
            made = await api.send("POST", "/v1/connections", body, headers=repeated_key(fields))
        except ApiRefusal as refusal:
            if refusal.status not in {409, 422}:
                raise
            names = {field.name for field in KINDS[kind].fields} | {"connection_id"}
            mistakes = mistakes_of(refusal.problem, names)
        else:
            where = f"/connections/{quote(made.body['connection_id'], safe='')}"
            return see(request, f"{where}?tested=now", "The connection was made.")
    return await _form(request, api, kind, fields, mistakes, status=422)


async def _form(
    request: Request, api: PublicApi, kind: str, fields: Mapping[str, str], mistakes: Mistakes, *, status: int = 200
) -> Response:
    shown = {field.name for field in KINDS[kind].fields if field.kind not in SECRET_KINDS} | {"connection_id"}
    return await page(
        request,
        api,
        "connections/new.html",
        title="Add a connection",
        status=status,
        kinds=KINDS,
        kind=kind,
        # What is secret is entered again: a page never holds it.
        given={name: value for name, value in fields.items() if name in shown},
        mistakes=mistakes,
        once=once(),
    )


@router.get("/{connection_id}")
@public
async def show_connection(
    *,
    request: Request,
    api: Api,
    connection_id: str,
    trail: Annotated[list[str], Query(max_length=128)] = [],  # noqa: B006 - FastAPI copies it
    cursor: str = "",
    tested: str = "",
    fragment_name: Annotated[str, Query(alias="fragment")] = "",
) -> Response:
    """A connection, and the files of a folder behind it."""
    if fragment_name == "outcome":
        return await _tested(request, api, connection_id)
    seconds = PATIENT_SECONDS if fragment_name == "files" else AT_ONCE_SECONDS
    context = await _context(api, connection_id, trail, cursor, seconds)
    if fragment_name == "files":
        return fragment(request, "connections/files.html", me=await api.get("/v1/me"), **context)
    return await _page(request, api, context, tests_now=tested == "now")


@router.post("/{connection_id}/test")
@public
async def test(request: Request, api: Api, connection_id: str) -> Response:
    """Use the connection as a batch would, and say what is wrong."""
    await form_of(request, api)
    if "hx-request" in request.headers:
        return await _tested(request, api, connection_id)
    outcome = (await api.send("POST", f"{_path(connection_id)}/test")).body
    context = await _context(api, connection_id, [], "", AT_ONCE_SECONDS)
    return await _page(request, api, context, outcome=outcome)


@router.post("/{connection_id}/delete")
@public
async def delete(request: Request, api: Api, connection_id: str) -> Response:
    """Forget it and its credentials."""
    await form_of(request, api)
    await api.send("DELETE", _path(connection_id))
    return see(request, "/connections", "The connection and its credentials are gone.")


@router.post("/{connection_id}/batch")
@public
async def submit_chosen(request: Request, api: Api, connection_id: str) -> Response:
    """Make a batch of the files that were chosen."""
    fields = await form_of(request, api)
    file_ids = chosen_files(fields.get("chosen", ""), (await request.form()).getlist("file"))
    back = await _context(api, connection_id, [], "", AT_ONCE_SECONDS)
    if not file_ids:
        return await _page(request, api, back, status=422, refused={"detail": "Choose at least one file."})
    selection = {
        "connection_id": connection_id,
        "source_type": back["connection"]["source_type"],
        "file_ids": file_ids,
    }
    body: Json = {"sources": [selection]}
    body |= {name: fields[name].strip() for name in ("name", "collection") if fields.get(name, "").strip()}
    if fields.get("priority", "").isdecimal():
        body["priority"] = int(fields["priority"])
    try:
        made = await api.send("POST", "/v1/batches", body, headers=repeated_key(fields))
    except ApiRefusal as refusal:
        if refusal.status == 401:
            raise
        return await _page(request, api, back, status=refusal.status, refused=refusal.problem)
    return see(request, f"/batches/{made.body['id']}", f"{plural(len(file_ids), 'file')} will be fetched.")


def chosen_files(remembered: str, ticked: Sequence[Any]) -> list[str]:
    """Ids of files, each once: those that the page's script remembers from all folders, else those ticked on the page."""
    try:
        found = json.loads(remembered) if remembered else list(ticked)
    except ValueError:
        found = list(ticked)
    if not isinstance(found, list):
        return []
    return list(dict.fromkeys(each for each in found if isinstance(each, str) and each))[:MOST_CHOSEN]


async def _tested(request: Request, api: PublicApi, connection_id: str) -> Response:
    outcome = (await api.send("POST", f"{_path(connection_id)}/test")).body
    return fragment(request, "connections/outcome.html", outcome=outcome)


async def _context(api: PublicApi, connection_id: str, trail: Sequence[str], cursor: str, seconds: float) -> Json:
    """The connection and its files; without them where the source takes longer than ``seconds``."""
    connection = await api.get(_path(connection_id))
    folders = trail_of(trail)
    asked = api.get(
        f"{_path(connection_id)}/files",
        folder=folders[-1]["id"] if folders else None,
        cursor=cursor,
        limit=FILES_SHOWN,
    )
    listed = trouble = None
    try:
        listed = await within(seconds, asked)
    except TimeoutError:
        if seconds >= PATIENT_SECONDS:
            trouble = {
                "detail": f"The source has not answered within {seconds:.0f} seconds.",
                "action": "Test the connection.",
            }
    except ApiRefusal as refusal:
        if refusal.status == 401:
            raise
        trouble = refusal.problem
    return {
        "connection": connection | {"kind": kind_label(connection["source_type"]), "where": whereabouts(connection)},
        "listed": listed,
        "trouble": trouble,
        "folders": folders,
        "flat": list(folders[-1]["flat"]) if folders else [],
        "cursor": cursor,
        "here": f"/connections/{quote(connection_id, safe='')}",
        "once": once(),
    }  # fmt: skip


async def _page(
    request: Request,
    api: PublicApi,
    context: Json,
    *,
    status: int = 200,
    outcome: Json | None = None,
    refused: Json | None = None,
    tests_now: bool = False,
) -> Response:
    title = context["connection"]["connection_id"]
    return await page(
        request,
        api,
        "connections/page.html",
        title=title,
        status=status,
        outcome=outcome,
        refused=refused,
        tests_now=tests_now,
        **context,
    )


def _path(connection_id: str) -> str:
    return f"/v1/connections/{quote(connection_id, safe='')}"

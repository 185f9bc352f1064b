"""``/limits``: what the service allows, in words, and how much of it is used."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import httpx
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.public_api import Api, Json, together
from api.dashboard.rendering import fragment, page
from api.dashboard.words import duration, number, size

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit as a person would say it."""

    label: str
    text: str = ""
    unit: str = "count"
    """``count``, ``bytes`` or ``seconds``."""


GROUPS: Final[Mapping[str, Mapping[str, Limit]]] = {
    "What runs at one time": {
        "max_concurrent_jobs": Limit("Batches at one time", "The others wait in line."),
        "max_concurrent_bytes": Limit("Bytes of running batches", "One that is larger by itself runs alone.", "bytes"),
    },
    "What is submitted": {
        "max_documents_per_batch": Limit("Documents of a batch", "With those unpacked from archives."),
        "max_files_per_batch": Limit("Files of one document upload", "At /api/v1/documents/ingest/batch."),
        "max_file_bytes": Limit("One document", "", "bytes"),
        "max_request_bytes": Limit("One upload request", "", "bytes"),
        "max_json_bytes": Limit("One JSON request", "With documents inline.", "bytes"),
        "max_json_values": Limit("Values in one JSON request"),
        "max_line_bytes": Limit("One line of NDJSON", "", "bytes"),
        "max_metadata_bytes": Limit("Metadata", "Of one document or batch.", "bytes"),
    },
    "Uploads in pieces": {
        "max_upload_bytes": Limit("One upload", "A ZIP; a document keeps its own limit.", "bytes"),
        "max_chunk_bytes": Limit("One of its chunks", "", "bytes"),
        "max_upload_chunks": Limit("Chunks of one upload"),
        "upload_lifetime_hours": Limit("Hours until it is removed", "From its last piece, unless a batch has taken it."),
    },
    "Archives": {
        "zip_entries": Limit("Entries of a ZIP"),
        "zip_unpacked_bytes": Limit("What a ZIP unpacks to", "", "bytes"),
        "zip_ratio": Limit("Unpacked to packed", "How many times as large it may become."),
        "zip_depth": Limit("Archives within archives", "1 is none."),
    },
    "Reading documents": {
        "parser_seconds": Limit("Time for one document", "Where a batch does not say.", "seconds"),
        "max_parser_seconds": Limit("The most a batch may ask for", "", "seconds"),
        "parser_memory_bytes": Limit("Memory for one document", "", "bytes"),
        "parser_pages": Limit("Pages of one document"),
        "parser_pixels": Limit("Pixels of one page", "Of a scanned sheet."),
    },
    "Texts": {
        "max_batch_requests": Limit("Texts of one request", "At /batch_process."),
        "text_concurrency": Limit("Texts of one batch at one time"),
        "text_answer_seconds": Limit("The longest wait for an answer", "After it, the batch goes on by itself.", "seconds"),
    },
    "Requests and streams": {
        "requests_per_minute": Limit("Requests a minute", "Of one key or user."),
        "anonymous_requests_per_minute": Limit("Requests a minute without a credential", "All together."),
        "uploads_per_minute": Limit("Uploads a minute", "Of one key or user."),
        "jobs_per_user_per_minute": Limit("Batches a minute", "Of one user."),
        "streams_per_client": Limit("Event streams", "Open at one time, of one tenant."),
        "streams_per_key": Limit("Event streams of one key or user", "Open at one time."),
        "streams_opened_per_minute": Limit("Event streams opened a minute", "By one key or user."),
        "websockets_per_user": Limit("WebSockets of one user"),
        "logins_per_user_per_minute": Limit("Sign-ins a minute", "Under one name, from one address."),
        "failed_credentials_per_minute": Limit("Wrong credentials a minute", "From one address."),
    },
    "Webhooks": {
        "max_webhooks": Limit("Webhooks of one tenant", "Those that single batches name are not counted."),
    },
    "Lists": {
        "page_size_default": Limit("Entries of a page", "Where a request does not say."),
        "page_size_max": Limit("The most it may ask for"),
    },
}  # fmt: skip
OTHERS: Final = "Others"
AT_ONCE_SECONDS: Final = 0.2
"""How long the page waits for what is in use; where that takes longer, it comes by itself."""
PATIENT_SECONDS: Final = 20.0
_LEFT: Final = re.compile(r'"default";r=(?P<left>\d+);t=(?P<seconds>\d+)')
_QUOTA: Final = re.compile(r'"default";q=(?P<most>\d+)')


def said(value: Any, unit: str) -> str:
    """A limit's value."""
    if not isinstance(value, int | float):
        return str(value)
    return {"bytes": size, "seconds": duration}.get(unit, number)(value)


def in_words(limits: Mapping[str, Any]) -> dict[str, list[Json]]:
    """The limits by group, in their order; those without words of their own at the end, under their names."""
    known = {name for group in GROUPS.values() for name in group}
    unknown = {name: Limit(name.replace("_", " ").capitalize()) for name in limits if name not in known}
    grouped = {}
    for title, group in [*GROUPS.items(), (OTHERS, unknown)]:
        rows = [
            {"name": name, "label": limit.label, "text": limit.text, "value": said(limits[name], limit.unit)}
            for name, limit in group.items()
            if name in limits
        ]
        if rows:
            grouped[title] = rows
    return grouped


def use(label: str, used: float, most: float, unit: str = "count", text: str = "") -> Json:
    """How much of a limit is used; ``share`` is of a thousand."""
    return {
        "label": label,
        "used": said(used, unit),
        "most": said(most, unit),
        "share": min(round(used / most * 1_000), 1_000) if most else 0,
        "tone": "bad" if used >= most else "run",
        "text": text,
    }


def requests_used(headers: httpx.Headers) -> Json | None:
    """How many of a minute's requests were made, as the headers of an answer tell; None where nobody counts."""
    left, quota = _LEFT.search(headers.get("RateLimit", "")), _QUOTA.search(headers.get("RateLimit-Policy", ""))
    if left is None or quota is None:
        return None
    most = int(quota["most"])
    text = f"All are free again within {duration(max(int(left['seconds']), 1))}"
    return use("Requests a minute", max(most - int(left["left"]), 0), most, text=text)


@router.get("/limits")
@public
async def show_limits(request: Request, api: Api, part: Annotated[str, Query(alias="fragment")] = "") -> Response:
    """Every limit that holds for who asks."""
    is_part = part == "used"
    answer, stats = await together(
        api.send("GET", "/v1/limits"), api.soon("/v1/stats", PATIENT_SECONDS if is_part else AT_ONCE_SECONDS)
    )
    used: Json = {"uses": in_use(answer.body, stats, answer.headers), "asked_in_vain": stats is None and not is_part}
    if is_part:
        return fragment(request, "limits_used.html", **used)
    return await page(request, api, "limits.html", title="Limits", groups=in_words(answer.body), **used)


def in_use(limits: Json, stats: Json | None, headers: httpx.Headers) -> list[Json]:
    """What is known of how much is used, the most telling first."""
    uses = []
    if stats is not None:
        open_ones = stats["batches_open"]
        running = sum(count for state, count in open_ones.items() if state not in {"pending", "queued"})
        waiting = open_ones.get("queued", 0)
        line = f"{number(waiting)} in line behind them" if waiting else "Nobody waits in line"
        uses.append(use("Batches at one time", running, limits["max_concurrent_jobs"], text=line))
        text = "Of documents that were handed in"
        uses.append(use("Bytes of running batches", stats["bytes_open"], limits["max_concurrent_bytes"], "bytes", text))
    if counted := requests_used(headers):
        uses.append(counted)
    return uses

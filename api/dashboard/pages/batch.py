"""``/batches/{id}``: one batch, while it happens and after, and everything that can be done to it."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.public_api import Api, ApiRefusal, Json, PublicApi, together
from api.dashboard.rendering import form_of, fragment, page, see
from api.dashboard.words import OVER, in_order, plural

router = APIRouter(include_in_schema=False, prefix="/batches/{batch_id}")

IN_FLIGHT_SHOWN = 60
DOCUMENTS_SHOWN = 25
EVENTS_SHOWN = 60
COUNTED_AT_ONCE = 5_000
"""Documents of a batch whose throughput comes with its page; that of a larger one is asked for by the page."""
DOCUMENT_STATES = ("", "done", "failed", "in_flight", "pending", "skipped", "cancelled")

_SAID = {
    "start": "The batch was started.",
    "seal": "The batch was sealed: it takes no more documents, and runs.",
    "pause": "No new documents begin; those in flight finish.",
    "resume": "The batch goes on.",
    "cancel": "The batch is being cancelled. What is done is kept.",
    "retry": "Failed documents run again.",
}


def actions_for(batch: Json) -> list[str]:
    """What can be done to a batch in its state, the most likely first."""
    status, counts = batch["status"], batch["counts"]
    if status in OVER:
        return ["retry"] if counts["failed"] or counts["cancelled"] else []
    found = []
    if status == "pending":
        found.append("seal" if batch.get("waiting_for") == "seal" else "start")
    elif status in {"pausing", "paused"}:
        found.append("resume")
    elif status in {"queued", "running", "retrying"}:
        found.append("pause")
    if counts["failed"] and status == "running":
        found.append("retry")
    return found if status == "cancelling" else [*found, "cancel"]


@dataclass(frozen=True, slots=True)
class DocumentsChosen:
    """Which documents the list shows."""

    status: str
    error_code: str
    cursor: str

    @property
    def query(self) -> Json:
        return {"status": self.status, "error_code": self.error_code, "cursor": self.cursor}


async def get_chosen(
    status: str = "",
    error_code: Annotated[str, Query(max_length=100)] = "",
    cursor: str = "",
) -> DocumentsChosen:
    return DocumentsChosen(status if status in DOCUMENT_STATES else "", error_code, cursor)


Chosen = Annotated[DocumentsChosen, Depends(get_chosen)]


@router.get("")
@public
async def show_batch(
    request: Request,
    api: Api,
    batch_id: str,
    chosen: Chosen,
    part: Annotated[str, Query(alias="fragment")] = "",
) -> Response:
    """The page, or one of its parts as it is now."""
    parts = {
        "overview": _overview,
        "flight": _flight,
        "failures": _failures,
        "documents": _documents,
        "throughput": _throughput,
        "timeline": _timeline,
        "log": _log,
        "facts": _facts,
    }
    where = f"/v1/batches/{quote(batch_id, safe='')}"
    batch = await api.get(where)
    common = {"batch": batch, "where": f"/batches/{batch['id']}", "chosen": chosen.query}
    if part in parts:
        more = await parts[part](api, where, batch, chosen)
        return fragment(request, f"batch/{part}.html", **common, **more)
    shown = [_overview, _flight, _failures, _documents, _throughput_if_quick, _timeline]
    found: Json = {}
    for more in await together(*(each(api, where, batch, chosen) for each in shown)):
        found |= more
    return await page(request, api, "batch/page.html", title=batch["name"], **common, **found)


@router.post("/{action}")
@public
async def steer(request: Request, api: Api, batch_id: str, action: str) -> Response:
    """Do something to the batch, and show it."""
    fields = await form_of(request, api)
    where, back = f"/v1/batches/{quote(batch_id, safe='')}", f"/batches/{quote(batch_id, safe='')}"
    if action == "edit":
        changes: Json = {}
        if fields.get("name", "").strip():
            changes["name"] = fields["name"].strip()
        if fields.get("priority", "").isdecimal():
            changes["priority"] = int(fields["priority"])
        await api.send("PATCH", where, changes)
        return see(request, back, "The batch was changed.")
    if action not in _SAID:
        raise ApiRefusal(404, {"title": "Nothing here", "detail": "A batch cannot be asked to do that."})
    body: Json | None = None
    if action == "retry":
        codes = [code for code in fields.get("codes", "").split(",") if code]
        body = {"codes": codes, "include_cancelled": fields.get("include_cancelled") == "true"}
    await api.send("POST", f"{where}/{action}", body)
    return see(request, back, _SAID[action])


def _patience(batch: Json) -> float:
    """Seconds that a part may keep the page waiting: of a batch that goes on it is asked for again anyway."""
    return 10.0 if batch["status"] in OVER else 1.0


async def _overview(_api: PublicApi, _where: str, batch: Json, _chosen: DocumentsChosen) -> Json:
    return {"actions": actions_for(batch)}


async def _facts(_api: PublicApi, _where: str, _batch: Json, _chosen: DocumentsChosen) -> Json:
    return {}


async def _flight(api: PublicApi, where: str, batch: Json, _chosen: DocumentsChosen) -> Json:
    """All documents by where they stand. Steps are told of those in flight that the batch names: of a large one not of all."""
    listed: Json = {"data": [], "has_more": False}
    if batch["status"] not in OVER and batch["counts"]["in_flight"]:
        listed = await api.get(f"{where}/documents", status="in_flight", limit=200)
    stages = in_order(Counter(document["stage"] for document in listed["data"]))
    if batch["counts"]["in_flight"] > len(listed["data"]) and batch["status"] not in OVER:
        stages["step not told"] = batch["counts"]["in_flight"] - len(listed["data"])
    flying = listed["data"][:IN_FLIGHT_SHOWN]
    return {"flying": flying, "stages": stages, "more_flying": listed["has_more"] or len(listed["data"]) > len(flying)}


async def _failures(api: PublicApi, where: str, batch: Json, _chosen: DocumentsChosen) -> Json:
    """By code, the most frequent first, with what the service says of the code and some of the documents."""
    counted = sorted(batch["failures_by_code"].items(), key=lambda each: -each[1])[:20]

    async def explained(code: str, count: int) -> Json:
        kind, listed = await together(
            api.get_or_none(f"/problems/{quote(code, safe='')}"),
            api.get_or_none(f"{where}/documents", status="failed", error_code=code, limit=3),
        )
        examples = listed["data"] if listed else []
        # A code of a parser or a source of later versions is not in the table; its documents know the advice.
        advice = (kind or {}).get("action") or next((d["error"]["action"] for d in examples if d["error"]), "")
        return {
            "code": code,
            "count": count,
            "title": (kind or {}).get("title", code),
            "advice": advice,
            "examples": examples,
        }

    return {"failures": await asyncio.gather(*(explained(*each) for each in counted))}


async def _documents(api: PublicApi, where: str, _batch: Json, chosen: DocumentsChosen) -> Json:
    listed = await api.get(f"{where}/documents", limit=DOCUMENTS_SHOWN, **chosen.query)
    return {"documents": listed, "document_states": DOCUMENT_STATES}


async def _throughput(api: PublicApi, where: str, _batch: Json, _chosen: DocumentsChosen) -> Json:
    return {"throughput": await api.soon(f"{where}/throughput", 10.0)}


async def _throughput_if_quick(api: PublicApi, where: str, batch: Json, _chosen: DocumentsChosen) -> Json:
    if batch["counts"]["total"] > COUNTED_AT_ONCE:
        return {"throughput": None}
    return {"throughput": await api.soon(f"{where}/throughput", 0.2)}


async def _timeline(api: PublicApi, _where: str, batch: Json, _chosen: DocumentsChosen) -> Json:
    listed = await api.soon("/v1/audit", _patience(batch), resource_type="batch", resource_id=batch["id"], limit=50)
    return {"timeline": [event | {"words": happening(event)} for event in (listed or {"data": []})["data"]]}


async def _log(api: PublicApi, where: str, _batch: Json, _chosen: DocumentsChosen) -> Json:
    """The latest events, newest first."""
    first = await api.get(f"{where}/events", after="0", limit=1)
    after = max(first["latest_seq"] - EVENTS_SHOWN, 0)
    listed = (
        first if not first["latest_seq"] else await api.get(f"{where}/events", after=str(after), limit=EVENTS_SHOWN)
    )
    # A batch may be known to have ended a moment before its last event is told.
    return {"events": listed["data"][::-1], "latest_seq": first["latest_seq"], "is_whole": listed["ended"]}


def happening(event: Json) -> str:
    """An audit event of a batch as a person would say it."""
    kind, details = event["event_type"], event["details"]
    count = plural(details.get("submitted_count") or 0, "document")
    said = {
        "BATCH_SUBMITTED": f"submitted {count}"
        if details.get("submitted_count")
        else "opened it, for documents to come",
        "BATCH_EXTENDED": f"added {count}",
        "BATCH_STARTED": "The list of documents was made" if event["actor"] == "system" else "started it",
        "BATCH_PRIORITY_CHANGED": f"changed its priority to {details.get('priority')}",
        "BATCH_RENAMED": f"renamed it, from {details.get('previous')}",
        "BATCH_RETRIED": f"had {', '.join(details.get('codes') or ()) or 'what failed'} run again",
        "BATCH_ENDED": f"It ended: {str(details.get('state', '')).replace('_', ' ')}",
    }
    return said.get(kind) or f"{kind.removeprefix('BATCH_').replace('_', ' ').lower()} it"

"""Pages and fragments as responses: templates filled, headers set, refusals of the API put into words."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode

from fastapi import FastAPI, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.dashboard import words
from api.dashboard.assets import asset
from api.dashboard.navigation import MENU
from api.dashboard.public_api import ApiRefusal, Json, PublicApi

TEMPLATES: Final = Path(__file__).parent / "templates"
NOTICE_COOKIE: Final = "ingather_notice"
CSRF_FIELD: Final = "csrf_token"
_SEEN: Final = "__seen__"

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # Nobody who sits down after a sign-out finds a page by going back.
    "Cache-Control": "private, no-store",
}


@cache
def environment() -> Environment:
    """The templates, which escape whatever they are given and fail on what is not there."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "bar": words.bar,
        "bytes": words.size,
        "chart": words.chart,
        "duration": words.duration,
        "milliseconds": words.milliseconds,
        "number": words.number,
        "percent": words.percent,
        "plural": words.plural,
        "priority": words.priority_label,
        "short": words.short,
        "stage": words.stage_label,
        "standing": words.standing,
        "state": words.state_label,
        "tone": words.state_tone,
        "utc": words.utc,
        "waiting": words.waiting_words,
    }
    made.globals |= {
        "asset": asset,
        "ended_count": words.ended_count,
        "origin": words.origin,
        "over": words.OVER,
        "priorities": words.PRIORITIES,
        "query_of": query_of,
        "rate": words.rate,
        "seconds_between": words.seconds_between,
        "seconds_left": words.seconds_left,
    }
    return made


def query_of(values: Mapping[str, Any], **changes: Any) -> str:
    """A query string with ``?``, of what is neither None nor empty; nothing where nothing is left."""
    wanted = {name: value for name, value in {**values, **changes}.items() if value not in (None, "", [])}
    return f"?{urlencode(wanted, doseq=True)}" if wanted else ""


async def page(
    request: Request, api: PublicApi, template: str, *, title: str, status: int = 200, **context: Any
) -> Response:
    """A whole page. Raises ``ApiRefusal`` where nobody is signed in and somebody has to be."""
    me = await api.get("/v1/me")
    return _filled(request, template, status, me=me, title=title, **context)


def bare_page(request: Request, template: str, *, title: str, status: int = 200, **context: Any) -> Response:
    """A page for somebody who is not known (yet)."""
    return _filled(request, template, status, me=None, title=title, **context)


def fragment(request: Request, template: str, **context: Any) -> Response:
    """Part of a page; 204 where it is what the page shows already (``seen``, which the part sends along)."""
    text = environment().get_template(template).render(_common(request, context))
    # What makes a form be taken once is another each time, and shows nothing.
    shown = text.replace(context["once"], "") if context.get("once") else text
    digest = hashlib.sha256(shown.encode()).hexdigest()[:16]
    if request.query_params.get("seen") == digest:
        return Response(status_code=204, headers=HEADERS)
    return HTMLResponse(text.replace(_SEEN, digest), headers=HEADERS)


def see(request: Request, path: str, notice: str = "") -> Response:
    """Go and look there, after something was done; ``notice`` is said on that page, once."""
    response = RedirectResponse(path, status_code=303, headers=HEADERS)
    if notice:
        response.set_cookie(
            NOTICE_COOKIE, quote(notice), max_age=30, httponly=True, samesite="strict", secure=is_secure(request)
        )
    return response


def is_secure(request: Request) -> bool:
    """Whether the browser came over TLS, so that cookies are sent over nothing else."""
    return request.url.scheme == "https"


async def form_of(request: Request, api: PublicApi) -> dict[str, str]:
    """The fields of a form of ours; its proof goes along with what is asked of the API."""
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    api.prove(fields.pop(CSRF_FIELD, ""))
    return fields


def _common(request: Request, context: Json) -> Json:
    return {
        "request": request,
        "path": request.url.path,
        "now": datetime.now(UTC),
        "menu": MENU,
        "csrf_token": (context.get("me") or {}).get("csrf_token") or "",
        "seen": _SEEN,
        **context,
    }


def _filled(request: Request, template: str, status: int, **context: Any) -> Response:
    notice = unquote(request.cookies.get(NOTICE_COOKIE, ""))[:300]
    text = environment().get_template(template).render(_common(request, {**context, "notice": notice}))
    response = HTMLResponse(text.replace(_SEEN, ""), status_code=status, headers=HEADERS)
    if notice:
        response.delete_cookie(NOTICE_COOKIE)
    return response


async def show_refusal(request: Request, refusal: Exception) -> Response:
    """What a page could not be shown for."""
    assert isinstance(refusal, ApiRefusal)
    is_fragment = "hx-request" in request.headers
    if refusal.status == 401:
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        target = f"/sign-in{query_of({'next': back if request.method == 'GET' and not is_fragment else ''})}"
        if is_fragment:
            return Response(status_code=401, headers={**HEADERS, "HX-Redirect": target})
        return RedirectResponse(target, status_code=303, headers=HEADERS)
    if is_fragment:
        return Response(status_code=refusal.status, headers=HEADERS)
    return bare_page(
        request,
        "refusal.html",
        title=str(refusal.problem.get("title", "That did not work")),
        status=refusal.status,
        problem=refusal.problem,
    )


def install(app: FastAPI) -> None:
    """Have refusals become pages."""
    app.add_exception_handler(ApiRefusal, show_refusal)

"""Sessions of browsers: a secret in a cookie that scripts cannot read, and what proves that a page of ours used it.

A cookie comes along with whatever a browser sends here, also where another site's page made it do so. So a request that
changes something, and shows no other credential, carries a token besides, derived from the secret: our own pages are told
it, another site's cannot read it. The cookie is ``SameSite=Lax``, which holds most of that off before it gets here.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final

from starlette.requests import cookie_parser

from ingather.models.errors import UnprovenRequestError

COOKIE: Final = "ingather_session"
CSRF_HEADER: Final = "X-CSRF-Token"
_PREFIX: Final = "ing_session_"
_FORM: Final = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}")
_CHANGES_NOTHING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def new_session() -> str:
    """A secret of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def looks_like_session(credential: str) -> bool:
    return _FORM.fullmatch(credential) is not None


def session_hash(secret: str) -> str:
    """What the catalog knows it by: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def session_of(headers: Mapping[str, str]) -> str | None:
    """The secret in a request's cookie; None where there is none, or one that cannot be ours."""
    found = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
    return found if looks_like_session(found) else None


def csrf_token(secret: str) -> str:
    """What proves that a page was read by whoever has the session."""
    return hashlib.sha256(f"csrf\n{secret}".encode()).hexdigest()


def check_proof(headers: Mapping[str, str], method: str) -> None:
    """Raises ``UnprovenRequestError`` where a cookie alone asks for a change."""
    if method in _CHANGES_NOTHING or headers.get("authorization") or headers.get("x-api-key"):
        return
    secret = session_of(headers)
    if secret is None:
        return
    shown = headers.get(CSRF_HEADER.lower(), "")
    is_foreign = headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}
    if is_foreign or not hmac.compare_digest(shown.encode(), csrf_token(secret).encode()):
        raise UnprovenRequestError("The session's cookie came without the proof that a page of this service sent it.")

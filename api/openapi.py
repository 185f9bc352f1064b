"""What the OpenAPI document says about credentials, taken from what routes ask of their callers."""

from collections.abc import Sequence
from typing import Any

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from api.access import rules_of

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`ing_live_…`), or an access token from `POST /v1/tokens`.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
}


def describe_security(document: dict[str, Any], routes: Sequence[BaseRoute]) -> None:
    """Add both ways to present a credential, and which operations ask for one."""
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    document["security"] = [{name: []} for name in _SCHEMES]
    for path, method in _public_operations(routes):
        operation = document["paths"].get(path, {}).get(method)
        if operation is not None:
            operation["security"] = []


def _public_operations(routes: Sequence[BaseRoute]) -> list[tuple[str, str]]:
    return [
        (route.path or "", method.lower())
        for route in iter_route_contexts(routes)
        if rules_of(route.endpoint).is_public
        for method in route.methods or ()
    ]

"""The menu."""

from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts


@dataclass(frozen=True, slots=True)
class Entry:
    """A place in the menu."""

    path: str
    label: str
    icon: str
    """Of ``templates/parts/icons.html``."""
    prefixes: tuple[str, ...] = ()
    """Of further pages that belong to it."""
    scope: str | None = None
    """Shown to those who have it alone."""
    route: str | None = None
    """Of the API: where it is not served, neither is the page."""
    is_apart: bool = False
    """It begins a group of its own."""

    def is_current(self, path: str) -> bool:
        """Whether a page belongs to it."""
        return path == self.path or any(path.startswith(prefix) for prefix in self.prefixes)


MENU: tuple[Entry, ...] = (
    Entry("/", "Batches", "stack", ("/batches/",)),
    Entry("/submit", "Submit", "upload"),
    Entry("/search", "Search", "search"),
    Entry("/connections", "Connections", "plug", ("/connections/",), is_apart=True),
    Entry("/webhooks", "Webhooks", "bell", ("/webhooks/",), route="/v1/webhook-endpoints"),
    Entry("/limits", "Limits", "gauge"),
    Entry("/keys", "Keys", "key", ("/keys/",), is_apart=True),
    Entry("/users", "Users", "people", ("/users/",), scope="admin"),
    Entry("/tenants", "Tenants", "building", ("/tenants/",), scope="admin"),
    Entry("/system", "System", "server", scope="admin"),
    Entry("/audit", "Audit", "book"),
)


def menu_of(app: FastAPI) -> tuple[Entry, ...]:
    """The places whose routes this deployment serves."""
    return tuple(entry for entry in MENU if entry.route is None or serves(app, entry.route))


def serves(app: FastAPI, route: str) -> bool:
    """Whether the API has a path."""
    return any(context.path == route for context in iter_route_contexts(app.routes))

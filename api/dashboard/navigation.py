"""The menu."""

from dataclasses import dataclass


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
    Entry("/webhooks", "Webhooks", "bell", ("/webhooks/",)),
    Entry("/limits", "Limits", "gauge"),
    Entry("/keys", "Keys", "key", ("/keys/",), is_apart=True),
    Entry("/users", "Users", "people", ("/users/",), scope="admin"),
    Entry("/tenants", "Tenants", "building", ("/tenants/",), scope="admin"),
    Entry("/system", "System", "server", scope="admin"),
    Entry("/audit", "Audit", "book"),
)

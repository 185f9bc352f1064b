"""Who holds how many event streams open in this process."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ingather.models.errors import TooManyStreamsError


@dataclass(frozen=True, slots=True)
class StreamClient:
    """A key or user, and how many streams it may hold open."""

    subject: str
    most: int
    limit: str = "streams_per_key"
    """The setting behind it."""
    is_welcome: Callable[[], Awaitable[bool]] | None = None
    """Whether its credential still is accepted; None where that never changes."""


class OpenStreams:
    """Counts streams by tenant, and by key or user where there is one.

    Args:
        per_tenant: how many a tenant may hold open; None where only its users are limited.
    """

    def __init__(self, per_tenant: int | None) -> None:
        self._per_tenant = per_tenant
        self._tenants: Counter[str] = Counter()
        self._clients: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Open now."""
        return self._tenants.total()

    def opened(self, tenant_id: str, client: StreamClient | None) -> None:
        """One more. Raises ``TooManyStreamsError`` where that is too many."""
        if self._per_tenant is not None and self._tenants[tenant_id] >= self._per_tenant:
            raise _too_many("this tenant", "streams_per_client", self._per_tenant)
        if client is not None and self._clients[client.subject] >= client.most:
            raise _too_many("this key or user", client.limit, client.most)
        self._tenants[tenant_id] += 1
        if client is not None:
            self._clients[client.subject] += 1

    def closed(self, tenant_id: str, client: StreamClient | None) -> None:
        """One less."""
        _less(self._tenants, tenant_id)
        if client is not None:
            _less(self._clients, client.subject)


def _less(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if counter[name] <= 0:
        del counter[name]


def _too_many(whose: str, limit: str, maximum: int) -> TooManyStreamsError:
    return TooManyStreamsError(f"{maximum} event streams of {whose} are open.", limit=limit, maximum=maximum)

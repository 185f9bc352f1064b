"""What carries an event to an endpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SendResult:
    """How one request went. It never raises: that it failed is an answer."""

    status_code: int | None
    """None where there was no answer."""
    error: str | None
    """Why it did not succeed, in words; None for 2xx."""
    took_ms: float
    retry_after_seconds: float | None = None
    """What the receiver asked for."""

    @property
    def is_gone(self) -> bool:
        """The receiver wants no more."""
        return self.status_code == 410


class WebhookSender(Protocol):
    """Sends once and does not follow where an answer leads. Does not block the event loop."""

    def check(self, url: str) -> str | None:
        """Why nothing would ever be sent there, as far as that can be told without asking anybody; None where it may."""
        ...

    async def send(self, url: str, event_id: str, body: bytes, secrets: Sequence[str]) -> SendResult:
        """One signed POST, a signature for each secret."""
        ...

    async def close(self) -> None: ...

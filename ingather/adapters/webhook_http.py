"""Events to endpoints, signed as Standard Webhooks says, over the client that keeps to the public Internet."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import httpx

from ingather.adapters.guarded_http import AddressRefusedError, PrivateAddressError, check_url, guarded_client
from ingather.adapters.sources.web import retry_after
from ingather.ports.webhook_sender import SendResult

_CONNECT_SECONDS = 10.0


class HttpWebhookSender:
    """One client for all endpoints. Redirects are not followed, and of an answer only status and ``Retry-After`` are read.

    Args:
        allow_private: send to addresses that are not on the public Internet too.
        timeout: for one request, from the first look-up to the head of the answer.
    """

    def __init__(self, *, allow_private: bool = False, timeout: timedelta = timedelta(seconds=20)) -> None:
        self._allow_private = allow_private
        self._seconds = timeout.total_seconds()
        self._made: httpx.AsyncClient | None = None

    def check(self, url: str) -> str | None:
        try:
            check_url(url, allow_private=self._allow_private)
        except PrivateAddressError as refusal:
            return f"{refusal} The operator may allow it with INGATHER_WEBHOOKS__ALLOW_PRIVATE=true."
        except AddressRefusedError as refusal:
            return str(refusal)
        return None

    async def send(self, url: str, event_id: str, body: bytes, secrets: Sequence[str]) -> SendResult:
        began = time.perf_counter()
        status, error, wanted = None, None, None
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._client.stream("POST", url, content=body, headers=_headers(event_id, body, secrets)) as response,
            ):
                status, wanted = response.status_code, retry_after(response)
        except TimeoutError:
            error = f"It did not answer within {self._seconds:g} seconds."
        except AddressRefusedError as refusal:
            error = str(refusal)
        except (httpx.HTTPError, ValueError, httpx.InvalidURL) as problem:
            # A ValueError comes of an address or a secret that got here past its check: no other attempt cures it,
            # and an error would be tried for ever where an answer costs one attempt.
            error = f"It could not be reached ({type(problem).__name__})."
        if status is not None and not 200 <= status < 300:
            error = _refusal(status)
        took_ms = round((time.perf_counter() - began) * 1_000, 1)
        return SendResult(status, error, took_ms, wanted)

    async def close(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    @property
    def _client(self) -> httpx.AsyncClient:
        """Made at its first use: reading the system's certificates takes a moment."""
        if self._made is None:
            timeout = httpx.Timeout(self._seconds, connect=min(_CONNECT_SECONDS, self._seconds))
            # As many as there are requests: in line behind receivers that hang, one that answers would be out of time.
            self._made = guarded_client(allow_private=self._allow_private, timeout=timeout, max_connections=None)
        return self._made


def _headers(event_id: str, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    # Imported with the first event: most deployments' workers never send one.
    from standardwebhooks import Webhook  # noqa: PLC0415

    at = datetime.now(UTC)
    signatures = (Webhook(secret).sign(event_id, at, body.decode()) for secret in secrets)
    return {
        "Content-Type": "application/json",
        "User-Agent": "Ingather-Webhooks/1",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _refusal(status: int) -> str:
    if status == 410:
        return "It answered 410: it wants no more events."
    if 300 <= status < 400:
        return f"It redirects ({status}), and redirects are not followed: register the address that it leads to."
    return f"It answered {status}."

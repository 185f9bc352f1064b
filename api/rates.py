"""How much a caller may ask for in a minute, and the headers that say how much is left."""

import ipaddress
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ingather.models.accounts import TenantLimits
from ingather.models.errors import RateLimitedError
from ingather.ports.rate_limiter import RateLimiter, RatePolicy, RateState


class Rate(StrEnum):
    """What is counted, each by itself."""

    REQUESTS = "default"
    """Everything without a policy of its own."""
    UPLOADS = "upload"
    """Requests that bring documents."""
    STREAMS = "stream"
    """Event streams opened."""
    JOBS = "jobs"
    """Batches created."""
    LOGINS = "login"
    """Attempts under one user name from one address."""
    FAILURES = "failure"
    """Wrong credentials from one address."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How many a minute, by the names of the settings."""

    requests_per_minute: int = 600
    anonymous_requests_per_minute: int = 60_000
    uploads_per_minute: int = 600
    streams_opened_per_minute: int = 120
    jobs_per_user_per_minute: int = 60
    logins_per_user_per_minute: int = 60
    failed_credentials_per_minute: int = 120


_SETTINGS = {
    Rate.REQUESTS: "requests_per_minute",
    Rate.UPLOADS: "uploads_per_minute",
    Rate.STREAMS: "streams_opened_per_minute",
    Rate.JOBS: "jobs_per_user_per_minute",
    Rate.LOGINS: "logins_per_user_per_minute",
    Rate.FAILURES: "failed_credentials_per_minute",
}


_MOST_REFUSED = 10_000


class Rates:
    """Counts, and refuses what is too much.

    Args:
        limiter: counts for every process.
        limits: how much is too much.
        local: counts those without a name, who are all on this machine; it need not ask anybody.
    """

    def __init__(self, limiter: RateLimiter, limits: RateLimits, local: RateLimiter | None = None) -> None:
        self._limiter = limiter
        self._limits = limits
        self._local = local or limiter
        self._refused: dict[str, float] = {}
        """Addresses with too many failures, and until when on the monotonic clock."""

    async def count(
        self, rate: Rate, subject: str, own: TenantLimits | None = None, *, told: list[RateState] | None = None
    ) -> None:
        """Count one for a key or user, and add to ``told`` where it stands. Raises ``RateLimitedError``.

        Nobody is held up while the counters are away.
        """
        setting = _SETTINGS[rate]
        quota = (getattr(own, setting, None) if own else None) or getattr(self._limits, setting)
        await self._hit(self._limiter, RatePolicy(rate.value, quota), subject, setting=setting, told=told)

    async def count_anonymous(self, told: list[RateState] | None = None) -> None:
        """Count one for all who say nothing of themselves, where the deployment is open."""
        setting = "anonymous_requests_per_minute"
        policy = RatePolicy(Rate.REQUESTS.value, self._limits.anonymous_requests_per_minute)
        await self._hit(self._local, policy, "anonymous", setting=setting, told=told)

    async def count_failure(self, address: str) -> None:
        """Count a wrong credential. Each process counts for itself: a made-up one must not cost a question to others."""
        policy = RatePolicy(Rate.FAILURES.value, self._limits.failed_credentials_per_minute)
        state = await self._local.hit(policy, address)
        if state is not None and state.remaining <= 0:
            if len(self._refused) >= _MOST_REFUSED:
                self._refused.clear()
            self._refused[address] = time.monotonic() + state.reset_seconds

    def check_address(self, address: str) -> None:
        """Raises ``RateLimitedError`` while too many wrong credentials have come from there."""
        left = self._refused.get(address, 0.0) - time.monotonic()
        if left > 0:
            maximum = self._limits.failed_credentials_per_minute
            raise RateLimitedError(
                f"More than {maximum} wrong credentials in 60 seconds from one address.",
                limit=_SETTINGS[Rate.FAILURES],
                maximum=maximum,
                retry_after_seconds=math.ceil(left) + 1,
            )
        self._refused.pop(address, None)

    async def _hit(
        self, limiter: RateLimiter, policy: RatePolicy, subject: str, *, setting: str, told: list[RateState] | None
    ) -> None:
        state = await limiter.hit(policy, subject)
        if state is None:
            return
        if told is not None:
            told.append(state)
        if not state.is_allowed:
            raise RateLimitedError(
                f"More than {policy.quota} in {policy.window_seconds} seconds ({policy.name}).",
                limit=setting,
                maximum=policy.quota,
                # The window slides: a moment after its oldest entry has left there is room again.
                retry_after_seconds=math.ceil(state.reset_seconds) + 1,
            )


def address_of(scope: Mapping[str, Any]) -> str:
    """Where a connection comes from: an IPv4 address, or the /64 that one IPv6 customer has; empty where unknown."""
    host = str((scope.get("client") or ("",))[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address), 64), strict=False))


def rate_headers(states: Sequence[RateState]) -> dict[str, str]:
    """``RateLimit-Policy`` and ``RateLimit``, an entry for each policy that counted."""
    if not states:
        return {}
    policies = [f'"{state.policy.name}";q={state.policy.quota};w={state.policy.window_seconds}' for state in states]
    left = [f'"{state.policy.name}";r={state.remaining};t={math.ceil(state.reset_seconds)}' for state in states]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}

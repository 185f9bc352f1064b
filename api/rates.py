"""How much a caller may ask for in a minute, and the headers that say how much is left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

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
    """Attempts under one user name."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How many a minute, by the names of the settings."""

    requests_per_minute: int = 600
    anonymous_requests_per_minute: int = 60_000
    uploads_per_minute: int = 600
    streams_opened_per_minute: int = 120
    jobs_per_user_per_minute: int = 60
    logins_per_user_per_minute: int = 60


_SETTINGS = {
    Rate.REQUESTS: "requests_per_minute",
    Rate.UPLOADS: "uploads_per_minute",
    Rate.STREAMS: "streams_opened_per_minute",
    Rate.JOBS: "jobs_per_user_per_minute",
    Rate.LOGINS: "logins_per_user_per_minute",
}


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


def rate_headers(states: Sequence[RateState]) -> dict[str, str]:
    """``RateLimit-Policy`` and ``RateLimit``, an entry for each policy that counted."""
    if not states:
        return {}
    policies = [f'"{state.policy.name}";q={state.policy.quota};w={state.policy.window_seconds}' for state in states]
    left = [f'"{state.policy.name}";r={state.remaining};t={math.ceil(state.reset_seconds)}' for state in states]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}

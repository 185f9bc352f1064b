"""Alive is not ready: whether this process can do its work now."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[None]]
_CHECK_SECONDS = 2.0


class Readiness:
    """Asks every dependency, all at once and with a time limit; says no while the process is draining."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        self._drains: Callable[[], bool] = lambda: False

    @property
    def is_draining(self) -> bool:
        """The process is going away."""
        return self._drains()

    def drains_with(self, drains: Callable[[], bool]) -> None:
        """Ask this, from now on, whether the process is going away."""
        self._drains = drains

    async def report(self) -> dict[str, str]:
        """``ok`` or what is wrong, by part."""
        names = list(self._checks)
        results = await asyncio.gather(*(self._one(name) for name in names))
        return dict(zip(names, results, strict=True))

    async def _one(self, name: str) -> str:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._checks[name]()
        except Exception as error:  # noqa: BLE001  # whatever it is, the part cannot be used now
            log.warning("dependency.found_unready", part=name, error=type(error).__name__)
            return getattr(error, "code", "unavailable")
        return "ok"

"""Small stand-in parts for tests of the supervisor: real processes that run a line of Python."""

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ingather.stack.probes import until
from ingather.stack.process import Command

SLEEP = "import time; time.sleep(600)"


@dataclass
class ScriptPart:
    """Runs ``code``; ready when the file ``ready`` exists, or at once when ``ready`` is None."""

    name: str
    directory: Path
    code: str = SLEEP
    ready: Path | None = None
    grace_seconds: float = 1.0
    starts: list[float] = field(default_factory=list)
    cleaned_up: int = 0

    def command(self) -> Command:
        self.starts.append(asyncio.get_running_loop().time())
        return Command(self.name, (sys.executable, "-c", self.code), self.directory / f"{self.name}.log")

    async def wait_ready(self, pid: int) -> None:
        await until(self._is_ready)

    async def _is_ready(self) -> bool:
        return self.ready is None or self.ready.exists()

    def clean_up(self) -> None:
        self.cleaned_up += 1

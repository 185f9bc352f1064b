"""CPU and memory of the stack's processes, part by part, and what its servers were asked for."""

import re
import threading
import time
from collections import defaultdict
from types import TracebackType
from typing import Self

import httpx
import psutil
import redis

_SAMPLE_SECONDS = 0.5
_BUSY_PERCENT = 8.0
"""Of all cores."""


def processes_by_part(pids: dict[str, int]) -> dict[str, list[psutil.Process]]:
    """Each part's process with its children; a worker's children are the parsers."""
    parts: dict[str, list[psutil.Process]] = defaultdict(list)
    for part, pid in pids.items():
        if part == "up":
            continue
        process = psutil.Process(pid)
        parts["workers" if part.startswith("worker") else part].append(process)
        children = "parsers" if part.startswith("worker") else part
        parts[children].extend(process.children(recursive=True))
    return dict(parts)


def cpu_seconds(pids: dict[str, int]) -> dict[str, float]:
    """User and system time by part, ended children that were waited for included."""
    return {part: sum(_cpu(process) for process in processes) for part, processes in processes_by_part(pids).items()}


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    # Children that ended and were waited for: recycled parser processes are among their server's.
    return float(times.user + times.system + times.children_user + times.children_system)


def resident_bytes(pids: dict[str, int]) -> dict[str, int]:
    """Resident memory by part."""
    return {part: sum(map(_resident, processes)) for part, processes in processes_by_part(pids).items()}


class PeakMemory:
    """Samples resident memory by part while the block runs; ``peaks`` are bytes."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peaks: dict[str, int] = defaultdict(int)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            for part, size in resident_bytes(self._pids).items():
                self.peaks[part] = max(self.peaks[part], size)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def redis_calls(url: str) -> int:
    """Commands the Redis server has answered."""
    with redis.Redis.from_url(url) as client:
        return int(client.info("stats")["total_commands_processed"])


def temporal_calls(metrics_port: int) -> dict[str, int]:
    """Requests to the Temporal frontend by operation."""
    text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10).text
    calls: dict[str, int] = defaultdict(int)
    for labels, value in re.findall(r"^service_requests\{([^}]*)\} ([0-9.e+]+)", text, re.MULTILINE):
        if 'service_name="frontend"' in labels:
            operation = re.search(r'operation="([^"]+)"', labels)
            if operation:
                calls[operation[1]] += int(float(value))
    return dict(calls)


def settle(quiet_seconds: int = 1, *, at_most_seconds: float = 120.0) -> None:
    """Wait until nothing has kept the machine busy for so long in a row."""
    deadline = time.monotonic() + at_most_seconds
    quiet = 0
    psutil.cpu_percent()
    while quiet < quiet_seconds and time.monotonic() < deadline:
        quiet = quiet + 1 if psutil.cpu_percent(interval=1.0) <= _BUSY_PERCENT else 0

"""Many WebSockets in a process of their own. Started by ``bench.job_sockets``.

Connects, says ``ready``, watches until the job of each socket's user has ended, prints figures as JSON.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from array import array
from dataclasses import dataclass, field
from datetime import datetime

from websockets.asyncio.client import connect

CONNECT_AT_ONCE = 50


@dataclass
class Seen:
    """What all sockets of this process saw."""

    delays: "array[float]" = field(default_factory=lambda: array("f"))
    """Seconds from each file's end in the workflow to each socket."""
    messages: int = 0
    completed_files: int = 0
    """Over all sockets."""
    closed: int = 0
    """Before their job had ended."""


async def watch(url: str, user: str, seen: Seen, ready: asyncio.Event, at_once: asyncio.Semaphore) -> None:
    """One socket, until the user's job has ended."""
    async with at_once:
        connection = await connect(f"{url}/batch/ws/{user}", proxy=None, compression=None, open_timeout=60)
        await connection.recv()
    ready.set()
    async for text in connection:
        now, message = time.time(), json.loads(text)
        seen.messages += 1
        if message["type"] == "file_progress" and message["file"]["status"] == "completed":
            seen.completed_files += 1
            seen.delays.append(now - datetime.fromisoformat(message["timestamp"]).timestamp())
        elif message["type"] == "job_update" and message["job"]["status"] in {"completed", "failed", "cancelled"}:
            await connection.close()
            return
    seen.closed += 1


async def main() -> None:
    """Open all sockets, then wait until all have seen their job end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--sockets", type=int, required=True)
    parser.add_argument("users", nargs="+")
    arguments = parser.parse_args()
    url = arguments.url.replace("http", "ws", 1)
    seen, at_once = Seen(), asyncio.Semaphore(CONNECT_AT_ONCE)
    ready = [asyncio.Event() for _ in range(arguments.sockets)]
    began = time.perf_counter()
    tasks = [
        asyncio.create_task(watch(url, arguments.users[number % len(arguments.users)], seen, ready[number], at_once))
        for number in range(arguments.sockets)
    ]
    await asyncio.gather(*(each.wait() for each in ready))
    connect_seconds = time.perf_counter() - began
    print("ready", flush=True)
    await asyncio.gather(*tasks)
    centiles = statistics.quantiles(seen.delays, n=100)
    figures = {
        "connect_seconds": round(connect_seconds, 2),
        "messages": seen.messages,
        "completed_files_told": seen.completed_files,
        "closed_early": seen.closed,
        "file_p50_seconds": round(centiles[49], 3),
        "file_p95_seconds": round(centiles[94], 3),
        "file_p99_seconds": round(centiles[98], 3),
    }
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())

"""Many watchers on raw sockets, in a process of their own, so that what they cost is not the API's.

Started by ``bench.watchers``: connects, says ``ready``, watches until every stream ended, prints figures as JSON.
"""

import argparse
import asyncio
import json
import re
import resource
import statistics
import sys
import time
from array import array
from dataclasses import dataclass, field
from datetime import datetime

_FRAME = re.compile(rb'id: (\d+)\nevent: ([a-z.]+)\ndata: \{"id":"\d+","seq":\d+,"type":"[a-z.]+","time":"([^"]+)"')
_CONTROL = re.compile(rb"\nevent: (stream\.[a-z]+)\n")
_ENDS = (b"document.succeeded", b"document.failed", b"document.skipped", b"document.cancelled")
CONNECT_AT_ONCE = 50


@dataclass
class Seen:
    """What all watchers of this process saw."""

    delays: "array[float]" = field(default_factory=lambda: array("f"))
    """Seconds from each document's end in the workflow to each watcher."""
    times: dict[tuple[str, bytes], float] = field(default_factory=dict)
    """When each event happened, decoded once for all."""
    controls: dict[str, int] = field(default_factory=dict)
    events: int = 0
    gaps: int = 0
    ended: int = 0

    def happened_at(self, batch_id: str, seq: bytes, text: bytes) -> float:
        """Unix time of an event."""
        found = self.times.get((batch_id, seq))
        if found is None:
            found = datetime.fromisoformat(text.decode()).timestamp()
            self.times[(batch_id, seq)] = found
        return found


class Watcher(asyncio.Protocol):
    """One stream: reads frames, checks that no number is left out or comes twice."""

    def __init__(self, batch_id: str, seen: Seen) -> None:
        self._batch_id = batch_id
        self._seen = seen
        self._rest = b""
        self._last: int | None = None
        loop = asyncio.get_running_loop()
        self.is_live = loop.create_future()
        self.is_over = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.WriteTransport)
        path = f"/v1/batches/{self._batch_id}/events"
        transport.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Take whole frames; a part of one waits for the rest."""
        now = time.time()
        whole, separator, self._rest = (self._rest + data).rpartition(b"\n\n")
        if not separator:
            return
        for match in _FRAME.finditer(whole):
            self._take(match[1], match[2], match[3], now)
        for control in _CONTROL.findall(whole):
            name = control.decode()
            self._seen.controls[name] = self._seen.controls.get(name, 0) + 1
            if name == "stream.snapshot" and not self.is_live.done():
                self.is_live.set_result(None)

    def _take(self, seq: bytes, kind: bytes, text: bytes, now: float) -> None:
        seen, number = self._seen, int(seq)
        seen.events += 1
        if self._last is not None and number != self._last + 1:
            seen.gaps += 1
        self._last = number
        if kind in _ENDS:
            seen.delays.append(now - seen.happened_at(self._batch_id, seq, text))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio passes it
        """The stream is over, or was cut."""
        self._seen.ended += 1
        for future in (self.is_live, self.is_over):
            if not future.done():
                future.set_result(None)


async def watch(host: str, port: int, batch_ids: list[str], watchers: int) -> dict[str, float]:
    """Open all streams, then wait until all are over."""
    seen, at_once, loop = Seen(), asyncio.Semaphore(CONNECT_AT_ONCE), asyncio.get_running_loop()

    async def opened(number: int) -> Watcher:
        async with at_once:
            batch_id = batch_ids[number % len(batch_ids)]
            _, watcher = await loop.create_connection(lambda: Watcher(batch_id, seen), host, port)
            await watcher.is_live
            return watcher

    began = time.perf_counter()
    streams = await asyncio.gather(*map(opened, range(watchers)))
    connect_seconds = time.perf_counter() - began
    print("ready", flush=True)
    await asyncio.gather(*(stream.is_over for stream in streams))
    return {"connect_seconds": round(connect_seconds, 2), **_figures(seen)}


def _figures(seen: Seen) -> dict[str, float]:
    centiles = statistics.quantiles(seen.delays, n=100)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "events_received": seen.events,
        "documents_received": len(seen.delays),
        "gaps_or_duplicates": seen.gaps,
        "streams_over": seen.ended,
        **{name.replace("stream.", "frames_"): count for name, count in sorted(seen.controls.items())},
        "event_p50_seconds": round(centiles[49], 3),
        "event_p95_seconds": round(centiles[94], 3),
        "event_p99_seconds": round(centiles[98], 3),
        "event_worst_seconds": round(max(seen.delays), 3),
        "clients_cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--watchers", type=int, required=True)
    parser.add_argument("batch_ids", nargs="+")
    arguments = parser.parse_args()
    figures = asyncio.run(watch(arguments.host, arguments.port, arguments.batch_ids, arguments.watchers))
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()

"""Uploads in chunks measured: memory of the API process and pace, side by side, repeated, and over tus.

    .venv/bin/python -m bench.chunked_uploads                       # 2 GB in chunks of 50 MB, four at a time
    .venv/bin/python -m bench.chunked_uploads --megabytes 200 --chunk-megabytes 2

Prints one JSON object. The promise: less than 250 MB of resident memory in the API process.
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from ingather.logging import configure_logging
from ingather.stack.local import LocalStack

PROMISED_MB = 250
_MB = 1_000_000
_MIB = 1024 * 1024
_BLOCK = random.Random(11).randbytes(_MIB)
_BOUNDARY = "ingather-bench"


class StoredZip:
    """A ZIP of one uncompressed file, as long as wanted and never in memory: any range of it can be had."""

    def __init__(self, size: int) -> None:
        self.size = size
        name = b"scan.bin"
        length = size - 30 - len(name) - 46 - len(name) - 22
        crc = 0
        for start in range(0, length, _MIB):
            crc = zlib.crc32(memoryview(_BLOCK)[: min(_MIB, length - start)], crc)
        common = b"\x14\x00\x00\x00\x00\x00\x00\x00!\x00" + crc.to_bytes(4, "little")
        common += length.to_bytes(4, "little") * 2 + len(name).to_bytes(2, "little") + b"\x00\x00"
        self._head = b"PK\x03\x04" + common + name
        directory = b"PK\x01\x02\x14\x00" + common + bytes(14) + name
        sizes = len(directory).to_bytes(4, "little") + (len(self._head) + length).to_bytes(4, "little")
        self._tail = directory + b"PK\x05\x06" + bytes(4) + b"\x01\x00\x01\x00" + sizes + b"\x00\x00"
        self._tail_at = len(self._head) + length

    def pieces(self, start: int, stop: int) -> Any:
        """Bytes of a range, a mebibyte or less at a time."""
        while start < stop:
            if start < len(self._head):
                piece = self._head[start:stop]
            elif start >= self._tail_at:
                piece = self._tail[start - self._tail_at : stop - self._tail_at]
            else:
                place = (start - len(self._head)) % _MIB
                piece = _BLOCK[place : place + min(stop, self._tail_at) - start]
            yield piece
            start += len(piece)


@asynccontextmanager
async def _peak_of(pid: int) -> AsyncIterator[dict[str, int]]:
    """The most resident memory of a process while the block runs; of itself, without the search process beside it."""
    process, seen = psutil.Process(pid), {"rss": 0}

    async def look() -> None:
        while True:
            seen["rss"] = max(seen["rss"], process.memory_info().rss)
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()


async def _form(file: StoredZip, index: int, chunk: int, fields: dict[str, str]) -> AsyncIterator[bytes]:
    """The bytes first, as many front ends do."""
    disposition = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="chunk"; filename="blob"\r\n\r\n'
    yield disposition.encode()
    for piece in file.pieces(index * chunk, min(file.size, (index + 1) * chunk)):
        yield piece
    for name, value in fields.items():
        yield f'\r\n--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
    yield f"\r\n--{_BOUNDARY}--\r\n".encode()


async def send_chunk(
    client: httpx.AsyncClient, file: StoredZip, index: int, chunk: int, upload_id: str | None
) -> dict[str, Any]:
    count = -(-file.size // chunk)
    fields = {
        "chunk_index": str(index),
        "total_chunks": str(count),
        "filename": f"bench-{file.size}.zip",
        "upload_type": "zip_with_qr",
        "is_final_chunk": str(index == count - 1).lower(),
    }
    if upload_id:
        fields["upload_id"] = upload_id
    answer = await client.post(
        "/api/batches/upload-chunk",
        content=_form(file, index, chunk, fields),
        headers={"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"},
    )
    answer.raise_for_status()
    return dict(answer.json())


async def measure_chunks(url: str, pids: dict[str, int], size: int, chunk: int, at_once: int) -> dict[str, Any]:
    """A whole file, the chunks behind the first side by side and in an order of their own, every tenth of them twice."""
    file = StoredZip(size)
    count = -(-size // chunk)
    order = list(range(1, count))
    random.Random(3).shuffle(order)
    order += order[::10]
    began, last_answers = time.perf_counter(), []
    async with httpx.AsyncClient(base_url=url, timeout=1_800, trust_env=False) as client:
        async with _peak_of(pids["api"]) as memory:
            first = await send_chunk(client, file, 0, chunk, None)
            turns = asyncio.Semaphore(at_once)

            async def send(index: int) -> dict[str, Any]:
                async with turns:
                    return await send_chunk(client, file, index, chunk, first["upload_id"])

            last_answers = [first, *await asyncio.gather(*map(send, order))]
            seconds = time.perf_counter() - began
        batches = {answer["batch_id"] for answer in last_answers if answer["is_complete"]}
        status = await client.get(f"/api/batches/{next(iter(batches))}/status")
    sent = size + sum(min(chunk, size - index * chunk) for index in order[count - 1 :])
    return {
        "bytes": size,
        "chunks": count,
        "chunk_bytes": chunk,
        "at_once": at_once,
        "repeated": len(order) - (count - 1),
        "batches": len(batches),
        "status": status.json()["status"],
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(sent / seconds / _MB, 1),
        "api_rss_peak_mb": round(memory["rss"] / _MB),
        "is_as_promised": memory["rss"] < PROMISED_MB * _MB and len(batches) == 1,
    }


async def measure_tus(url: str, pids: dict[str, int], size: int) -> dict[str, Any]:
    """The same bytes in one PATCH."""
    file = StoredZip(size)
    headers = {"Tus-Resumable": "1.0.0"}
    began = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=1_800, trust_env=False) as client:
        async with _peak_of(pids["api"]) as memory:
            made = await client.post("/v1/tus", headers=headers | {"Upload-Length": str(size)})

            async def content() -> AsyncIterator[bytes]:
                for piece in itertools.chain(file.pieces(0, size)):
                    yield piece

            bytes_of = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
            answer = await client.patch(made.headers["Location"], content=content(), headers=headers | bytes_of)
            answer.raise_for_status()
            seconds = time.perf_counter() - began
        await client.delete(made.headers["Location"], headers=headers)
    return {
        "bytes": size,
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(size / seconds / _MB, 1),
        "api_rss_peak_mb": round(memory["rss"] / _MB),
    }


async def main(size: int, chunk: int, at_once: int) -> None:
    """Start a stack, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        async with LocalStack(Path(folder) / "stack") as stack:
            facts = stack.describe()
            where = facts["api"]["url"], facts["pids"]
            figures = {
                "tus": await measure_tus(*where, size),
                "chunks": await measure_chunks(*where, size, chunk, at_once),
            }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure uploads in chunks and over tus.")
    parser.add_argument("--megabytes", type=int, default=2_000, metavar="N")
    parser.add_argument("--chunk-megabytes", type=int, default=50, metavar="N")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="chunks on their way at one time")
    arguments = parser.parse_args()
    configure_logging("json", "error")
    asyncio.run(main(arguments.megabytes * _MB, arguments.chunk_megabytes * _MB, arguments.at_once))

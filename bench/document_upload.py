"""The document upload contract measured: its floor, its estimates, its memory.

    .venv/bin/python -m bench.document_upload                    # 20 mixed documents, and a hundred
    .venv/bin/python -m bench.document_upload --large-files 100  # besides: so many files of 50 MB in one upload

Prints one JSON object. The floor that the contract publishes is 20 mixed documents in two minutes.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.workload import corpus, small_texts
from ingather.logging import configure_logging
from ingather.stack.local import LocalStack

UPLOAD = "/api/v1/documents/ingest/batch"
FLOOR_DOCUMENTS, FLOOR_SECONDS = 20, 120.0
LARGE_BYTES = 50_000_000
_CHUNK = random.Random(7).randbytes(1_000_000)
_BOUNDARY = "ingather-bench"


def mixed(scratch: Path, count: int, seed: int) -> list[Path]:
    """Real documents of all kinds and sizes, in an order of their own; texts where no corpus is at hand."""
    found = corpus(None)
    if found is None:
        return list(small_texts(scratch / f"texts-{seed}", count, seed=seed).files)
    files = list(found.files)
    random.Random(seed).shuffle(files)
    return files[:count]


def upload(client: httpx.Client, files: list[Path]) -> str:
    """Each upload has a tenant of its own, so that all the work is done for it."""
    made = client.post("/v1/tenants", json={"name": f"bench {time.time_ns()}"}).raise_for_status().json()
    form = [("files", (path.name, path.read_bytes())) for path in files]
    answer = client.post(UPLOAD, files=form, headers={"X-Tenant-ID": made["id"]})
    return str(answer.raise_for_status().json()["batch_id"])


def followed(client: httpx.Client, batch_id: str, seconds: float = 0.1) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """The status, again and again, until it is the last one."""
    while True:
        status = client.get(f"{UPLOAD}/{batch_id}/status").raise_for_status().json()
        yield datetime.now(UTC), status
        if status["status"] != "in_progress":
            return
        time.sleep(seconds)


def measure_floor(client: httpx.Client, scratch: Path) -> dict[str, Any]:
    """Twenty mixed documents on a stack that has just started."""
    files = mixed(scratch, FLOOR_DOCUMENTS, seed=20)
    began = time.perf_counter()
    batch_id = upload(client, files)
    accepted = time.perf_counter() - began
    *_, (_, last) = followed(client, batch_id)
    seconds = time.perf_counter() - began
    return {
        "documents": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "accepted_seconds": round(accepted, 3),
        "seconds": round(seconds, 2),
        "documents_per_minute": round(60 * len(files) / seconds),
        "times_the_floor": round(FLOOR_SECONDS / seconds, 1),
        "status": last["status"],
        "failed_count": last["failed_count"],
    }


def measure_estimates(client: httpx.Client, scratch: Path, seed: int) -> dict[str, Any]:
    """How far estimates after the first fifth are from the end: in shares of the whole run."""
    files = mixed(scratch, 100, seed=seed)
    looks = list(followed(client, upload(client, files)))
    ended = datetime.fromisoformat(looks[-1][1]["completed_at"])
    length = float(looks[-1][1]["processing_time_seconds"])
    errors, remaining = [], []
    for at, status in looks[:-1]:
        share = (status["processed_count"] + status["failed_count"]) / status["total_documents"]
        if share >= 0.2 and status["estimated_completion_time"] and at < ended:
            off = (datetime.fromisoformat(status["estimated_completion_time"]) - ended).total_seconds()
            errors.append(off / length)
            remaining.append(off / max((ended - at).total_seconds(), 0.001))
    within = sum(abs(error) <= 0.3 for error in errors)
    return {
        "documents": len(files),
        "seconds": round(length, 2),
        "looks": len(errors),
        "within_30_percent": round(within / len(errors), 3) if errors else None,
        "earliest": round(min(errors, default=0.0), 3),
        "latest": round(max(errors, default=0.0), 3),
        "within_30_percent_of_what_remains": (
            round(sum(abs(error) <= 0.3 for error in remaining) / len(remaining), 3) if remaining else None
        ),
    }


def large_form(count: int) -> Iterator[bytes]:
    """So many files that nothing can parse, never in memory at once."""
    for number in range(count):
        name = f"large-{number:03d}.bin"
        yield f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        for piece in range(LARGE_BYTES // len(_CHUNK)):
            yield f"{number:08d}{piece:08d}".encode() + _CHUNK[16:]
        yield b"\r\n"
    yield f"--{_BOUNDARY}--\r\n".encode()


def _is_temporary(path: str, stack_folder: Path) -> bool:
    return path.startswith(tempfile.gettempdir()) and not path.startswith(str(stack_folder))


def measure_large(client: httpx.Client, pid: int, count: int, stack_folder: Path) -> dict[str, Any]:
    """Memory and open files of the API process while large files pass through it."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    seen = {"rss": before, "files": 0}

    def watched() -> Iterator[bytes]:
        for piece in large_form(count):
            seen["rss"] = max(seen["rss"], process.memory_info().rss)
            yield piece
        seen["files"] = sum(_is_temporary(file.path, stack_folder) for file in process.open_files())

    written = process.io_counters().write_bytes
    began = time.perf_counter()
    answer = client.post(
        UPLOAD,
        content=watched(),
        headers={"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"},
        timeout=1_800,
    )
    seconds = time.perf_counter() - began
    if answer.status_code != 202:
        return {"refused": answer.text}
    return {
        "bytes": count * LARGE_BYTES,
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(count * LARGE_BYTES / seconds / 1e6, 1),
        "api_rss_before_mb": round(before / 1e6),
        "api_rss_peak_mb": round(seen["rss"] / 1e6),
        "api_rss_after_mb": round(process.memory_info().rss / 1e6),
        "temporary_files_open": seen["files"],
        "bytes_written_to_disk": process.io_counters().write_bytes - written,
        "batch_id": answer.json()["batch_id"],
    }


def _measure(stack: dict[str, Any], scratch: Path, large_files: int) -> dict[str, Any]:
    with httpx.Client(base_url=stack["api"]["url"], timeout=120, trust_env=False) as client:
        figures: dict[str, Any] = {"floor": measure_floor(client, scratch)}
        figures["estimates"] = [measure_estimates(client, scratch, seed) for seed in range(6)]
        if large_files:
            figures["large"] = measure_large(client, int(stack["pids"]["api"]), large_files, scratch / "stack")
    return figures


async def main(large_files: int) -> None:
    """Start a stack, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        async with LocalStack(scratch / "stack") as stack:
            figures = await asyncio.to_thread(_measure, stack.describe(), scratch, large_files)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the document upload contract.")
    parser.add_argument("--large-files", type=int, default=0, metavar="N", help="upload N files of 50 MB as well")
    arguments = parser.parse_args()
    configure_logging("json", "error")
    asyncio.run(main(arguments.large_files))

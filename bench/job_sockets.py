"""A thousand WebSockets on one API process, while jobs run.  .venv/bin/python -m bench.job_sockets

A real stack and real sockets: users who each watch all their jobs from several places. The clients are a process of
their own (``bench.watching_sockets``), so that what they cost is not the API's.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bench.watchers import SAMPLE_SECONDS, ApiMeter, meters
from ingather.logging import configure_logging
from ingather.stack.local import LocalStack


def make_jobs(client: httpx.Client, root: Path, users: int, files: int) -> dict[str, str]:
    """A job that waits, for each user: by name, its id."""
    jobs = {}
    for number in range(users):
        user, folder = f"user-{number}", root / f"user-{number}"
        folder.mkdir()
        for page in range(files):
            (folder / f"{page}.txt").write_text(f"Page {page} of {user}. " + "The mirror is washed in spring. " * 30)
        connection = {"connection_id": user, "source_type": "local_directory", "settings": {"path": str(folder)}}
        client.post("/v1/connections", json=connection).raise_for_status()
        selection = {
            "connection_id": user,
            "source_type": "local_directory",
            "file_ids": [f"{page}.txt" for page in range(files)],
        }
        body = {"user_id": user, "name": user, "file_selections": [selection]}
        jobs[user] = str(client.post("/batch/jobs", json=body).raise_for_status().json()["job_id"])
    return jobs


def measure(url: str, api_pid: int, root: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Open all sockets, start all jobs, gather the figures."""
    meter, users = ApiMeter(api_pid), arguments.users
    with httpx.Client(base_url=url, timeout=60) as client:
        jobs = make_jobs(client, root, users, arguments.files)
        idle = meter.resident()
        command = [sys.executable, "-m", "bench.watching_sockets", "--url", url, "--sockets", str(arguments.sockets)]
        clients = subprocess.Popen([*command, *jobs], stdout=subprocess.PIPE, text=True)
        assert clients.stdout is not None
        assert clients.stdout.readline() == "ready\n"
        open_now, cpu_before, quiet_from = meter.resident(), meter.cpu(), time.perf_counter()
        time.sleep(5)
        quiet = (meter.cpu() - cpu_before) / (time.perf_counter() - quiet_from)
        before, cpu, began = meters(client), meter.cpu(), time.perf_counter()
        for user, job_id in jobs.items():
            start = {"user_id": user, "action": "start"}
            client.post(f"/batch/jobs/{job_id}/control", json=start).raise_for_status()
        while clients.poll() is None:
            meter.resident()
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - began
        after = meters(client)
        taken = (meter.cpu() - cpu) / seconds
    seen = json.loads(clients.stdout.read())
    queries = after["ingather_batch_queries_total"] - before["ingather_batch_queries_total"]
    return {
        "sockets": arguments.sockets,
        "users": users,
        "files": users * arguments.files,
        "seconds": round(seconds, 1),
        **seen,
        "messages_per_second": round(seen["messages"] / seconds),
        "queries_per_job_and_second": round(queries / users / seconds, 2),
        "api_idle_bytes": idle,
        "api_bytes_per_socket": round((open_now - idle) / arguments.sockets),
        "api_peak_bytes": meter.peak,
        "api_cpu_share_of_a_core_quiet": round(quiet, 2),
        "api_cpu_share_of_a_core": round(taken, 2),
    }


async def main() -> None:
    """Start a stack, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=1_000)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--files", type=int, default=30, help="small texts of each user's job")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        root = scratch / "sources"
        root.mkdir()
        os.environ["INGATHER_SOURCES__ROOTS"] = str(root)
        os.environ["INGATHER_LIMITS__WEBSOCKETS_PER_USER"] = str(arguments.sockets)
        os.environ["INGATHER_LIMITS__MAX_CONCURRENT_JOBS"] = str(arguments.users)
        async with LocalStack(scratch / "stack") as stack:
            described = stack.describe()
            figures = await asyncio.to_thread(
                measure, described["api"]["url"], described["pids"]["api"], root, arguments
            )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    configure_logging("json", "warning")
    asyncio.run(main())

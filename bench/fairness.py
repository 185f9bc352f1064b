"""Whether a noisy tenant makes another one wait.  .venv/bin/python -m bench.fairness

Tenant A hands in one large batch (5,000 texts), tenant B small ones of 20. B's time is taken from the
submission until every document is done and searchable: first with the machine to itself, then while A's
documents are under way, in one run on one stack. The ratio of the two medians is what is asked to stay
under 3 (``AIM``). Beside it, how the share of each tenant's work compares while both have some.

``python -m bench.figures --only fairness`` keeps what it says in ``bench/results/performance/fairness.json``.
``--document-bytes 70000`` makes A's documents too large to share activities.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uuid_utils

from bench.workload import Workload, small_texts
from ingather.adapters.sql.catalog import SqlCatalog
from ingather.logging import configure_logging
from ingather.machine import usable_cores
from ingather.stack.local import LocalStack

AIM = 3.0
"""What the ratio is to stay under."""
UNDER_WAY = 100
"""Documents of A that have ended when B's turn comes: its pipeline is full by then."""
_POLL_SECONDS = 0.25
_PATIENCE_SECONDS = 1_800


@dataclass(frozen=True)
class Fairness:
    """Seconds of B's batches, and how far A was."""

    alone_seconds: list[float]
    beside_seconds: list[float]
    ratio: float
    """Median beside A by median alone."""
    aim: float
    noisy_documents: int
    noisy_left: int
    """Of A's, when B's last batch had ended: the noise lasted to the end."""
    noisy_per_second_alone: float
    noisy_per_second_beside: float


class _Tenant:
    """A client of one tenant."""

    def __init__(self, url: str, name: str) -> None:
        self.id, self.name = str(uuid_utils.uuid7()), name
        self._http = httpx.Client(base_url=url, timeout=300, headers={"X-Tenant-ID": self.id})

    def submit(self, workload: Workload, **options: Any) -> str:
        """Answers the batch's id once it is accepted."""
        files = [("files", (path.name, path.read_bytes())) for path in workload.files]
        # Without skip_existing every batch does all the work.
        spec = {"name": self.name, "options": {"skip_existing": False, **options}}
        answer = self._http.post("/v1/batches", files=files, data={"spec": json.dumps(spec)}).raise_for_status()
        return str(answer.json()["id"])

    def read(self, batch_id: str, wait: int = 0) -> dict[str, Any]:
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        return dict(self._http.get(f"/v1/batches/{batch_id}", headers=headers).raise_for_status().json())

    def ended(self, batch_id: str) -> int:
        counts = self.read(batch_id)["counts"]
        return int(counts["total"] - counts["pending"] - counts["in_flight"])

    def seconds(self, workload: Workload) -> float:
        """From the first byte sent until the batch has ended, every document done and searchable."""
        began = datetime.now(UTC)
        batch = self.wait_end(self.submit(workload))
        assert batch["counts"]["done"] == len(workload.files), batch["counts"]
        return (datetime.fromisoformat(batch["ended_at"]) - began).total_seconds()

    def wait_end(self, batch_id: str) -> dict[str, Any]:
        """One request that waits, so that asking costs next to nothing."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (batch := self.read(batch_id, wait=60))["ended_at"] is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"batch {batch_id} did not end: {batch['counts']}")
        return batch

    def wait_ended(self, batch_id: str, count: int) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.ended(batch_id) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {count} documents of batch {batch_id} ended")
            time.sleep(_POLL_SECONDS)

    def cancel(self, batch_id: str) -> None:
        self._http.post(f"/v1/batches/{batch_id}/cancel").raise_for_status()

    def close(self) -> None:
        self._http.close()


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """A stack of its own, two tenants, one run."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        async with LocalStack(scratch / "stack") as stack:
            facts = stack.describe()
            noisy, quiet = (_Tenant(facts["api"]["url"], name) for name in ("noisy", "quiet"))
            catalog = SqlCatalog(facts["catalog"]["url"])
            try:
                for tenant in (noisy, quiet):
                    await catalog.add_tenant(tenant.id, tenant.name)
                found = await asyncio.to_thread(_play, noisy, quiet, scratch, arguments)
            finally:
                await catalog.close()
                for tenant in (noisy, quiet):
                    tenant.close()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": usable_cores(),
        "load_before": round(load_before, 1),
        **asdict(found),
    }


def _play(noisy: _Tenant, quiet: _Tenant, scratch: Path, arguments: argparse.Namespace) -> Fairness:
    seeds = itertools.count()

    def small() -> Workload:
        seed = next(seeds)
        return small_texts(scratch / f"quiet-{seed}", arguments.small, seed=seed)

    for tenant in (noisy, quiet):
        tenant.seconds(small())  # model, pollers, tables
    alone = [quiet.seconds(small()) for _ in range(arguments.rounds)]
    print(f"alone: {', '.join(f'{each:.2f} s' for each in alone)}", flush=True)

    large = small_texts(scratch / "noisy", arguments.documents, seed=999, size_bytes=arguments.document_bytes)
    batch_id = noisy.submit(large)
    noisy.wait_ended(batch_id, UNDER_WAY)
    rate_alone = _rate(noisy, batch_id, arguments.settle_seconds)
    before, began = noisy.ended(batch_id), time.perf_counter()
    beside = []
    for _ in range(arguments.rounds):
        beside.append(quiet.seconds(small()))
        print(f"beside: {beside[-1]:.2f} s, A has {noisy.ended(batch_id)} of {arguments.documents}", flush=True)
    after = noisy.ended(batch_id)
    rate_beside = (after - before) / (time.perf_counter() - began)
    if after < arguments.documents:
        noisy.cancel(batch_id)
    noisy.wait_end(batch_id)
    return Fairness(
        alone_seconds=[round(each, 3) for each in alone],
        beside_seconds=[round(each, 3) for each in beside],
        ratio=round(statistics.median(beside) / statistics.median(alone), 2),
        aim=AIM,
        noisy_documents=arguments.documents,
        noisy_left=arguments.documents - after,
        noisy_per_second_alone=round(rate_alone, 1),
        noisy_per_second_beside=round(rate_beside, 1),
    )


def _rate(tenant: _Tenant, batch_id: str, seconds: float) -> float:
    """Documents a second over some time."""
    before, began = tenant.ended(batch_id), time.perf_counter()
    time.sleep(seconds)
    return (tenant.ended(batch_id) - before) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=5_000, help="of the noisy tenant")
    parser.add_argument("--document-bytes", type=int, default=4_000)
    parser.add_argument("--small", type=int, default=20, help="documents of each batch of the quiet one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--settle-seconds", type=float, default=3.0, help="how long A is measured by itself")
    parser.add_argument("--output", type=Path, default=None, help="JSON file for the figures")
    arguments = parser.parse_args()
    configure_logging("json", "warning")
    text = json.dumps(asyncio.run(measure(arguments)), indent=2)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

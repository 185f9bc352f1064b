"""Two hundred clients send five texts each at the same time and wait; none may fail.

    python -m bench.texts [--clients 200] [--texts 5] [--url URL]

Without a language model: what is measured is the service, not a model. Starts a stack of its own, as `ingather up`
does, unless an address is given.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests.support.running_stack import running_stack

SENTENCE = "The harbour of Vela was rebuilt in {year} after the great storm, and trade grew for a decade. "
OPERATIONS: tuple[dict[str, Any], ...] = (
    {"operation": "summarize"},
    {"operation": "sentiment"},
    {"operation": "key_points"},
    {"operation": "questions"},
    {"operation": "qa", "question": "When was the harbour rebuilt?"},
)


def body(client: int, texts: int) -> dict[str, Any]:
    """Texts of two hundred words that no other client sends."""
    requests = [
        {
            "text": "".join(SENTENCE.format(year=1_000 + line) for line in range(12)) + f"Client {client}, {number}.",
            **OPERATIONS[number % len(OPERATIONS)],
        }
        for number in range(texts)
    ]
    return {"requests": requests}


async def one(http: httpx.AsyncClient, client: int, texts: int) -> tuple[float, str | None]:
    """Seconds, and what was wrong."""
    began = time.monotonic()
    try:
        response = await http.post("/batch_process", json=body(client, texts))
    except httpx.HTTPError as error:
        return time.monotonic() - began, type(error).__name__
    seconds = time.monotonic() - began
    if response.status_code != 200:
        return seconds, f"{response.status_code}: {response.text[:200]}"
    answer = response.json()
    if answer["completed"] != texts:
        errors = {item.get("error") for item in answer["results"]}
        return seconds, f"{answer['failed']} failed: {errors}"
    return seconds, None


async def measure(url: str, clients: int, texts: int) -> dict[str, Any]:
    """All clients at once, once the first has had its answer."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, trust_env=False) as http:
        first, wrong = await one(http, -1, texts)
        began = time.monotonic()
        answers = await asyncio.gather(*(one(http, number, texts) for number in range(clients)))
        took = time.monotonic() - began
    seconds = sorted(each for each, _ in answers)
    failures = [each for _, each in [(first, wrong), *answers] if each is not None]
    return {
        "clients": clients,
        "texts": clients * texts,
        "failed": len(failures),
        "failures": sorted(set(failures))[:5],
        "first_seconds": round(first, 2),
        "seconds": round(took, 2),
        "texts_per_second": round(clients * texts / took, 1),
        "p50_seconds": round(seconds[len(seconds) // 2], 2),
        "p95_seconds": round(seconds[int(len(seconds) * 0.95)], 2),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Print the figures; exit 1 where anything failed."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--clients", type=int, default=200)
    arguments.add_argument("--texts", type=int, default=5)
    arguments.add_argument("--url", help="of an API that runs already")
    chosen = arguments.parse_args()
    with ExitStack() as stack:
        url = chosen.url
        if url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            url = stack.enter_context(running_stack(Path(folder) / ".ingather")).base_url
        figures = asyncio.run(measure(url, chosen.clients, chosen.texts))
    print(json.dumps(figures, indent=2))
    raise SystemExit(1 if figures["failed"] else 0)


if __name__ == "__main__":
    main()

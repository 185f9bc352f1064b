"""Scanned sheets through the whole service: how many a second, and how many codes are read.

    .venv/bin/python -m bench.sheets --groups 12 --sheets 99
    .venv/bin/python -m bench.sheets --codes 500

The first hands one ZIP in to a stack of its own and watches its stages. The second needs no stack: it makes covers and
sheets with codes of their own, scans them badly, and reads them as a parser process does.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from bench.meters import cpu_seconds
from bench.sheet_desk import open_desk
from bench.sheet_pages import cover, encoded, made_sheets, rough, scanned, sheet
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.sheets import read_sheet
from ingather.logging import configure_logging
from ingather.models.content import MediaType
from ingather.stack.local import LocalStack

_DISTINCT = 200
"""Sheets that are drawn: each takes as long as reading forty. More are copies of them under other names."""


def write_upload(path: Path, groups: int, sheets_a_group: int) -> int:
    """A ZIP of covers and sheets; answers its bytes."""
    made = list(islice(made_sheets(1, min(_DISTINCT, groups * sheets_a_group)), 1, None))
    dice = random.Random(7)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for group in range(groups):
            code = f"{14_900_000 + group:08d}"
            archive.writestr(f"{group:04d}_0000.jpg", encoded(scanned(cover(code), rough(dice), dice)))
            for place in range(sheets_a_group):
                content = made[(group * sheets_a_group + place) % len(made)].content
                archive.writestr(f"{group:04d}_{place + 1:04d}.jpg", content)
    return path.stat().st_size


async def measure_rate(groups: int, sheets_a_group: int, workers: int) -> dict[str, Any]:
    """One upload, start to end."""
    with tempfile.TemporaryDirectory() as folder:
        upload = Path(folder) / "sheets.zip"
        size_bytes = write_upload(upload, groups, sheets_a_group)
        async with LocalStack(Path(folder) / "stack", workers=workers) as stack:
            facts = stack.describe()
            async with open_desk(facts) as desk:
                batch_id = await desk.hand_in([(upload.name, upload)])
                used = cpu_seconds(facts["pids"])
                begun = time.monotonic()
                stages = await _watched(facts["api"]["url"], batch_id)
                seconds = time.monotonic() - begun
                spent = {part: round(cpu - used.get(part, 0.0), 1) for part, cpu in cpu_seconds(facts["pids"]).items()}
    sheets = groups * sheets_a_group
    return {
        "sheets": sheets,
        "covers": groups,
        "bytes": size_bytes,
        "seconds": round(seconds, 2),
        "sheets_per_second": round(sheets / seconds, 1),
        "seconds_by_stage": stages,
        "cpu_seconds": spent,
        "cpu_ms_a_sheet": round(1_000 * sum(spent.values()) / sheets, 1),
    }


async def _watched(base_url: str, batch_id: str) -> dict[str, float]:
    """Until the end; answers how long after the one before each stage had its last event."""
    last: dict[str, float] = {}
    begun = time.monotonic()
    async with (
        httpx.AsyncClient(base_url=base_url, timeout=None, trust_env=False) as http,
        http.stream("GET", f"/api/batches/{batch_id}/stream") as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                event = json.loads(line[6:])
                last[event["stage"]] = time.monotonic() - begun
                if event["stage"] == "failed":
                    raise RuntimeError(event["error_details"])
    before, spent = 0.0, {}
    for stage, at in last.items():
        spent[stage], before = round(at - before, 2), at
    return spent


def measure_codes(count: int, seed: int) -> dict[str, Any]:
    """Codes read on bad scans, and covers told from sheets."""
    dice = random.Random(seed)
    read = told = 0
    spent = 0.0
    for number in range(count):
        code = f"{dice.randrange(10**8):08d}"
        is_cover = number % 2 == 0
        page = cover(code) if is_cover else sheet(dice, codes=(code,))
        content = encoded(scanned(page, rough(dice), dice))
        began = time.process_time()
        reading, _ = read_sheet(content, MediaType.IMAGE, ParseLimits())
        spent += time.process_time() - began
        read += reading.codes == (code,)
        told += reading.is_cover == is_cover
    return {
        "codes": count,
        "read_percent": round(100 * read / count, 2),
        "covers_told_percent": round(100 * told / count, 2),
        "cpu_ms_each": round(1_000 * spent / count, 1),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--groups", type=int, default=12)
    arguments.add_argument("--sheets", type=int, default=99, help="in each group")
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--codes", type=int, default=0, help="measure the reading of so many codes instead")
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    configure_logging("json", "error")
    if chosen.codes:
        result = measure_codes(chosen.codes, chosen.seed)
    else:
        result = asyncio.run(measure_rate(chosen.groups, chosen.sheets, chosen.workers))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""``ingather doctor``: is every part well, and what to do about those that are not."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ingather.cli.connect import DEFAULT_URL
from ingather.cli.console import print_json, print_line
from ingather.cli.environment import settings_here
from ingather.cli.exit_codes import ExitCode
from ingather.stack.directory import DataDirectory
from ingather.stack.doctor import Finding, as_json, examine, examine_machine

_FROM_STACK_FILE = {
    "INGATHER_S3__ENDPOINT_URL": ("s3", "endpoint_url"),
    "INGATHER_S3__REGION": ("s3", "region"),
    "INGATHER_S3__BUCKET": ("s3", "bucket"),
    "INGATHER_S3__ACCESS_KEY_ID": ("s3", "access_key_id"),
    "INGATHER_S3__SECRET_ACCESS_KEY": ("s3", "secret_access_key"),
    "INGATHER_REDIS__URL": ("redis", "url"),
    "INGATHER_CATALOG__URL": ("catalog", "url"),
    "INGATHER_INDEX__URI": ("index", "uri"),
    "INGATHER_TEMPORAL_UI__URL": ("temporal", "ui_url"),
    "TEMPORAL_ADDRESS": ("temporal", "address"),
    "TEMPORAL_NAMESPACE": ("temporal", "namespace"),
}

_DEPLOYED = "INGATHER_REDIS__URL"
"""Set in every deployment that is not the embedded stack."""


def doctor(
    data_dir: Annotated[
        Path, typer.Option(help="The embedded stack to examine; without one there, what the environment names.")
    ] = Path(".ingather"),
    json_output: Annotated[bool, typer.Option("--json", help="Addresses and findings as one line of JSON.")] = False,
) -> None:
    """Check every part and say what to do.

    With --json the answer holds the embedded stack's own credentials. Ends with 1 when a part is not well.
    """
    # Importing wordllama sets up logging for the whole process: every request of a check would be told.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    facts = DataDirectory(data_dir.absolute()).read_stack_file()
    findings = asyncio.run(_examine(facts, data_dir))
    if json_output:
        print_json({**facts, "ok": all(f.ok for f in findings), "checks": [as_json(f) for f in findings]})
    else:
        _show(findings, embedded=bool(facts))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(ExitCode.ERROR)


async def _examine(facts: dict[str, Any], data_dir: Path) -> list[Finding]:
    if not facts and _DEPLOYED not in os.environ:
        return await examine_machine(data_dir)
    os.environ.update(environment_of(facts))
    api_url = str(facts.get("api", {}).get("url") or os.environ.get("INGATHER_URL") or DEFAULT_URL)
    return await examine(settings_here(data_dir), api_url)


def environment_of(facts: dict[str, Any]) -> dict[str, str]:
    """Variables with which a process finds the stack that ``stack.json`` describes."""
    values = {name: facts.get(part, {}).get(key) for name, (part, key) in _FROM_STACK_FILE.items()}
    return {name: str(value) for name, value in values.items() if value}


def _show(findings: list[Finding], *, embedded: bool) -> None:
    if not embedded and _DEPLOYED in os.environ:
        print_line("No embedded stack here; these are the parts the environment names.", "dim")
    for finding in findings:
        mark, style = ("✓", "green") if finding.ok else ("✗", "bold red")
        print_line(f"{mark} {finding.name}: {finding.detail}", style)
        if finding.action:
            print_line(f"    → {finding.action}", "cyan")

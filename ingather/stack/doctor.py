"""Every check of ``ingather doctor``: what was looked at, whether it is well, what to do when it is not."""

import asyncio
import importlib
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from ingather.bootstrap import Stores, build_index, connect, open_stores
from ingather.models.engine import ROLES, SEARCH_ATTRIBUTES, WORKFLOW_QUEUE
from ingather.models.errors import IngatherError
from ingather.ports.chunk_index import ChunkIndex
from ingather.settings import GIB, Settings, unknown_variables
from ingather.stack.binaries import TEMPORAL, VALKEY, WEED, find_binary
from ingather.stack.errors import BinaryMissingError
from ingather.stack.shown import without_credentials

CHECK_SECONDS = 10.0
"""For a server's answer; what is looked at on this machine alone takes the time it takes."""
LEAST_FREE_BYTES = 2 * GIB
POLLED_WITHIN = timedelta(minutes=2)
"""A worker's long poll lasts a minute, so one that lives was seen since."""

LIBRARIES = {
    "pypdfium2": "pypdfium2",
    "office-oxide": "office_oxide",
    "python-docx": "docx",
    "python-pptx": "pptx",
    "python-calamine": "python_calamine",
    "resiliparse": "resiliparse",
    "charset-normalizer": "charset_normalizer",
    "striprtf": "striprtf",
    "semchunk": "semchunk",
    "wordllama": "wordllama",
    "lancedb": "lancedb",
}
"""Distribution → module of what reads, cuts, embeds and indexes documents."""

_START = "Start it with `ingather up`, or look at its log in the data directory's logs/ folder."


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    name: str
    ok: bool
    detail: str
    action: str = ""
    """What to do; empty when all is well."""


class Unwell(Exception):  # noqa: N818 - a finding on its way, not an error
    """Raised by a check: what is wrong and what to do."""

    def __init__(self, detail: str, action: str) -> None:
        super().__init__(detail)
        self.action = action


async def examine(settings: Settings, api_url: str) -> list[Finding]:
    """Run every check; the servers are asked side by side."""
    machine = await _findings(_machine_checks(settings.data_dir))
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(open_stores(settings))
        index = build_index(settings)
        stack.push_async_callback(index.close)
        engine = await _engine(settings)
        checks: dict[str, Awaitable[str]] = {
            **_port_checks(stores, index, settings),
            "temporal": _check_temporal(engine),
            **{
                f"queue {queue}": _check_queue(engine, queue, role)
                for role, queues in ROLES.items()
                for queue in queues
            },
            "temporal ui": _check_page(settings.temporal_ui.url, "Temporal UI"),
            "api": _check_api(api_url),
        }
        servers = await _findings({name: asyncio.wait_for(check, CHECK_SECONDS) for name, check in checks.items()})
    return machine + servers


async def examine_machine(data_dir: Path) -> list[Finding]:
    """What can be looked at before anything runs."""
    return await _findings({**_machine_checks(data_dir), "servers": _servers(), "stack": _no_stack(data_dir)})


def _machine_checks(data_dir: Path) -> dict[str, Awaitable[str]]:
    return {"settings": _settings(), "disk": _disk(data_dir), "libraries": _libraries(), "parsers": _parsers()}


async def _settings() -> str:
    """Variables that set nothing; those that do not fit were refused before."""
    strange = unknown_variables(os.environ)
    if strange:
        raise Unwell(f"no setting: {', '.join(sorted(strange))}", _meant(strange))
    return "every INGATHER_ variable is one"


def _meant(strange: Mapping[str, str | None]) -> str:
    meant = "; ".join(f"{meant} for {name}" for name, meant in sorted(strange.items()) if meant)
    return f"Perhaps {meant}." if meant else "Look them up in docs/reference/settings.md."


async def _no_stack(data_dir: Path) -> str:
    raise Unwell(
        f"none has run in {data_dir}",
        "Start one with `ingather up`, name its folder with --data-dir, "
        "or set the INGATHER_* and TEMPORAL_* variables of the deployment to examine.",
    )


def _port_checks(stores: Stores, index: ChunkIndex, settings: Settings) -> dict[str, Awaitable[str]]:
    def check(ask: Callable[[], Awaitable[None]], where: str) -> Awaitable[str]:
        async def asked() -> str:
            await ask()
            return where

        return asked()

    return {
        "storage": check(stores.blobs.check, f"{settings.s3.endpoint_url or 'AWS S3'} bucket {settings.s3.bucket}"),
        "redis": check(stores.events.check, without_credentials(settings.redis.url.get_secret_value())),
        "catalog": check(stores.catalog.check, without_credentials(settings.catalog.url.get_secret_value())),
        "index": check(index.check, settings.index.uri),
    }


async def _findings(checks: dict[str, Awaitable[str]]) -> list[Finding]:
    return list(await asyncio.gather(*(_finding(name, check) for name, check in checks.items())))


async def _finding(name: str, check: Awaitable[str]) -> Finding:
    try:
        return Finding(name, ok=True, detail=await check)
    except TimeoutError:
        return Finding(name, ok=False, detail=f"no answer within {CHECK_SECONDS:g} seconds", action=_START)
    except Unwell as unwell:
        return Finding(name, ok=False, detail=str(unwell), action=unwell.action)
    except IngatherError as error:
        # "Try again" is advice for whoever uses the part; whoever asks here wants it to run.
        return Finding(name, ok=False, detail=error.message, action=_START if error.retryable else error.action)
    except Exception as error:  # noqa: BLE001 - whatever a vendor raises: this part does not work, others may
        return Finding(name, ok=False, detail=f"{type(error).__name__}: {error}"[:300], action=_START)


async def _disk(data_dir: Path) -> str:
    """Free space under the data directory, or its nearest parent that exists."""
    place = await asyncio.to_thread(_nearest_existing, data_dir)
    free = shutil.disk_usage(place).free
    text = f"{free / GIB:.1f} GiB free at {place}"
    if free < LEAST_FREE_BYTES:
        raise Unwell(text, "Make room, or choose another place with --data-dir.")
    return text


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


async def _libraries() -> str:
    """Import every library that reads, cuts, embeds or indexes documents."""
    versions = []
    for distribution, module in LIBRARIES.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise Unwell(f"{distribution}: {error}", 'Install again: pip install "ingather[local]"') from error
        versions.append(f"{distribution} {metadata.version(distribution)}")
    return ", ".join(versions)


async def _parsers() -> str:
    """What keeps a hostile document in its parser, for a worker of this user on this machine."""
    # In a process of its own: to find out is to be confined.
    command = (sys.executable, "-m", "ingather.adapters.parser_sandbox")
    probe = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await probe.communicate()
    if probe.returncode != 0:
        raise Unwell(f"the probe ended with status {probe.returncode}", "Read what it says above, and report it.")
    found = json.loads(said)
    text = "confined by " + "; ".join(f"{name} ({how})" for name, how in found["in_force"].items())
    lacking = "; ".join(f"{name} ({why})" for name, why in found["missing"].items())
    return f"{text}. Not by {lacking}" if lacking else text


async def _servers() -> str:
    """Find the embedded servers' binaries."""
    try:
        return ", ".join(str(find_binary(binary)) for binary in (TEMPORAL, WEED, VALKEY))
    except BinaryMissingError as error:
        raise Unwell(str(error), "Only `ingather up` needs them.") from error


async def _engine(settings: Settings) -> Client | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await connect(settings)
    except (RuntimeError, OSError, TimeoutError):
        return None


def _connected(engine: Client | None) -> Client:
    if engine is None:
        raise Unwell("Temporal does not answer", _START)
    return engine


async def _check_temporal(engine: Client | None) -> str:
    client = _connected(engine)
    request = ListSearchAttributesRequest(namespace=client.namespace)
    answer = await client.operator_service.list_search_attributes(request)
    if missing := sorted(set(SEARCH_ATTRIBUTES) - set(answer.custom_attributes)):
        commands = "; ".join(
            f"temporal operator search-attribute create --name {name} --type {SEARCH_ATTRIBUTES[name]}"
            for name in missing
        )
        raise Unwell(f"namespace {client.namespace} lacks the search attributes {', '.join(missing)}", commands)
    return f"{client.service_client.config.target_host} namespace {client.namespace}"


async def _check_queue(engine: Client | None, queue: str, role: str) -> str:
    client = _connected(engine)
    kind = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW if queue == WORKFLOW_QUEUE else TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
    )
    answer = await client.workflow_service.describe_task_queue(request)
    oldest = datetime.now(UTC) - POLLED_WITHIN
    live = [p.identity for p in answer.pollers if p.last_access_time.ToDatetime(tzinfo=UTC) >= oldest]
    if not live:
        raise Unwell("no worker polls it", f"Start one: python worker.py --roles {role}")
    return f"polled by {', '.join(sorted(live))}"


async def _check_page(url: str | None, name: str) -> str:
    if url is None:
        return "not configured (INGATHER_TEMPORAL_UI__URL); nothing links to it"
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(url, follow_redirects=True)
    if answer.status_code >= 400:
        raise Unwell(f"{name} at {url} answered {answer.status_code}", _START)
    return url


async def _check_api(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            answer = await client.get(f"{url}/readyz")
        except httpx.TransportError as error:
            raise Unwell(f"{url} does not answer ({type(error).__name__})", _START) from error
    if answer.status_code != 200:
        raise Unwell(f"{url}/readyz answered {answer.status_code}: {answer.text[:300]}", "Repair the parts it names.")
    return url


def as_json(finding: Finding) -> dict[str, Any]:
    """For ``--json``."""
    fields = {"name": finding.name, "ok": finding.ok, "detail": finding.detail}
    return {**fields, "action": finding.action} if finding.action else fields

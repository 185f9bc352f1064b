"""Worker processes: ports into activities, activities onto task queues, by role.

``python worker.py --roles workflows,io,cpu`` runs any set of roles in one process. SIGTERM
and SIGINT stop it gracefully: no new work, what is under way finishes or is handed back.
"""

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
import uvloop
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorAutoscaling, Worker, WorkerDeploymentConfig

from activities.accounting import AccountingActivities
from activities.byte_budget import ByteBudget
from activities.fetching import HELD_BYTES, Fetcher
from activities.handoff import HandoffActivities
from activities.index import IndexActivities
from activities.ingest import IngestActivities
from activities.keyed_locks import KeyedLocks
from activities.log_context import LogContext
from activities.manifest import ManifestActivities, ManifestReader
from activities.open_sources import OpenSources
from activities.pack import PackActivities
from activities.places import PlaceActivities
from activities.records import RecordActivities
from activities.registry import ActivityClasses, build_activities
from activities.sheet_intake import SheetIntakeActivities
from activities.sheet_results import SheetResultActivities
from activities.sheets import SheetActivities
from activities.texts import TextActivities
from activities.uploads import Finish, UploadActivities
from activities.webhooks import Newsroom, TemporalDeliveryStarter, WebhookActivities
from ingather.adapters.embed_by_name import EmbedByName
from ingather.adapters.openai_embedder import OpenAiEmbedder
from ingather.adapters.parser_processes import SupervisedPreparer
from ingather.adapters.parsers import ocr
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.read_by_model import ReadByModel
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.adapters.zip_archive import ZipArchiveReader
from ingather.bootstrap import (
    Ports,
    archive_limits,
    build_other_embedders,
    build_reader,
    build_secret_box,
    build_sources,
    build_text_processor,
    build_webhook_sender,
    connect,
    open_ports,
    prepare_storage,
    tell_unknown_variables,
)
from ingather.logging import configure_logging
from ingather.machine import usable_cores, usable_memory_bytes
from ingather.models.engine import (
    CPU_QUEUE,
    HEARTBEAT_THROTTLE,
    IO_QUEUE,
    MANIFEST_QUEUE,
    ROLES,
    SOURCE_QUEUE,
    TEXT_QUEUE,
    WEBHOOK_QUEUE,
    WORKFLOW_QUEUE,
)
from ingather.models.errors import ConfigurationError, EngineUnavailableError, IngatherError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import PlaceLimits
from ingather.models.upload import Upload
from ingather.ports.document_preparer import DocumentPreparer
from ingather.ports.text_processor import TextProcessor
from ingather.ports.webhook_sender import WebhookSender
from ingather.settings import MIB, Settings, read_settings
from workflows.batch import BatchWorkflow
from workflows.chunk import ChunkWorkflow
from workflows.places import PlacesWorkflow
from workflows.runner import require_no_context, sandboxed_runner
from workflows.upload_cleaning import UploadCleaningWorkflow, keep_schedule
from workflows.webhook_delivery import WebhookDeliveryWorkflow

log = structlog.get_logger(__name__)

RPC_TIMEOUT = timedelta(seconds=10)

DOCUMENTS_FIRST_SECONDS = 1.0
"""What is not needed by the first documents waits for so long after the start."""

DOCUMENTS_PER_PARSER = 6
"""Activities per parser process: one parses while the others fetch and write."""

IO_PER_CORE = 25
"""Index writes, reports and places wait for others most of the time."""
USUAL_IO_BYTES = 48 * MIB
"""What an index write of many chunks takes; the others take next to nothing."""

FETCHES_PER_CORE = 32
"""Documents that wait for a source most of their time. Once they are here, as many are worked on as of others."""
USUAL_FETCH_BYTES = 4 * HELD_BYTES
"""What one holds of its file meanwhile, with the copies that are made of it on the way to storage."""

MANIFESTS_PER_CORE = 8
"""One unpacks while the others read and write; without archives they take milliseconds."""
USUAL_MANIFEST_BYTES = 32 * MIB
"""What a manifest takes while it unpacks an archive: its head, a pack on its way, a page."""
WEBHOOKS_PER_CORE = 25
"""Each waits for its receiver, up to the whole time-out for one that hangs."""
USUAL_WEBHOOK_BYTES = 2 * MIB
"""A connection with its encryption, and a body of a kilobyte."""
TEXTS_AT_ONCE = 200
"""Texts wait for a language model and hold next to nothing meanwhile."""
FEWEST_AT_ONCE = 4
"""On the smallest machine too, a few are under way: one that takes long is not waited for by all."""

SMALLEST_BUDGET_BYTES = 256 * MIB
"""One document of the largest size goes through on any machine."""

USUAL_PARSER_BYTES = 512 * MIB
"""What a parser process takes with a document of some size; few come near their limit."""

WORKFLOWS = (BatchWorkflow, ChunkWorkflow, PlacesWorkflow, WebhookDeliveryWorkflow, UploadCleaningWorkflow)

STICKY_TIMEOUT = timedelta(seconds=1)
"""How long a workflow's next task waits for the worker that has it in its cache. Workers pick tasks up within
milliseconds, also busy ones; when one was killed, this is what its batches stand still for. Another worker replays."""


def parse_roles(text: str) -> tuple[str, ...]:
    """Roles from ``workflows,io,cpu``."""
    roles = tuple(dict.fromkeys(role.strip() for role in text.split(",")))
    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown role {unknown[0]!r}; choose from {', '.join(ROLES)}")
    return roles


def parser_process_count(settings: Settings) -> int:
    """Parser processes: one a core, as far as memory goes."""
    fitting = max(1, usable_memory_bytes() // USUAL_PARSER_BYTES)
    return settings.worker.parser_processes or min(usable_cores(), fitting)


def document_budget(settings: Settings) -> ByteBudget:
    """Bytes of documents in flight: slots count documents, and twelve of the largest would fill a small machine."""
    return ByteBudget(settings.worker.memory_bytes or max(SMALLEST_BUDGET_BYTES, usable_memory_bytes() // 8))


def fetch_budget(settings: Settings) -> ByteBudget:
    """The same for files on their way from a source: a purse of their own, which a slow source may empty."""
    return ByteBudget(slots_of(SOURCE_QUEUE, settings) * HELD_BYTES)


def slots_of(queue: str, settings: Settings) -> int:
    """Activities of a queue at one time: by cores, as far as memory goes, of which all but documents may have a quarter each."""
    if queue == CPU_QUEUE:
        return parser_process_count(settings) * DOCUMENTS_PER_PARSER
    if queue == TEXT_QUEUE:
        return TEXTS_AT_ONCE
    per_core, each_bytes = {
        IO_QUEUE: (IO_PER_CORE, USUAL_IO_BYTES),
        MANIFEST_QUEUE: (MANIFESTS_PER_CORE, USUAL_MANIFEST_BYTES),
        SOURCE_QUEUE: (FETCHES_PER_CORE, USUAL_FETCH_BYTES),
        WEBHOOK_QUEUE: (WEBHOOKS_PER_CORE, USUAL_WEBHOOK_BYTES),
    }[queue]
    return max(FEWEST_AT_ONCE, min(per_core * usable_cores(), usable_memory_bytes() // 4 // each_bytes))


def build_preparer(embedder: WordLlamaEmbedder | OpenAiEmbedder, settings: Settings) -> SupervisedPreparer:
    """Parser processes with this deployment's limits; a local model works inside them, a remote one after them."""
    local, remote = (None, embedder) if isinstance(embedder, OpenAiEmbedder) else (embedder, None)
    return SupervisedPreparer(
        processes=parser_process_count(settings),
        memory_bytes=settings.limits.parser_memory_bytes,
        recycle_after=settings.worker.parser_recycle_after,
        embedder=local,
        remote_embedder=remote,
        limits=ParseLimits(max_pages=settings.limits.parser_pages, max_pixels=settings.limits.parser_pixels),
    )


def build_worker(client: Client, queue: str, activities: Sequence[Callable[..., Any]], settings: Settings) -> Worker:
    """One worker of one role. Eager execution stays off: it bypasses fairness.

    Raises ``ConfigurationError`` for a client whose data converter our workflow instances would serve wrongly.
    """
    require_no_context(client.data_converter)
    return Worker(
        client,
        task_queue=queue,
        workflows=WORKFLOWS if queue == WORKFLOW_QUEUE else [],
        activities=activities,
        workflow_runner=sandboxed_runner(),
        interceptors=[LogContext()],
        max_concurrent_activities=slots_of(queue, settings) if activities else None,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(initial=2, maximum=10),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(initial=2, maximum=16),
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        disable_eager_activity_execution=True,
        graceful_shutdown_timeout=settings.worker.shutdown_grace,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        deployment_config=deployment_config(settings),
    )


def deployment_config(settings: Settings) -> WorkerDeploymentConfig | None:
    """This worker's version, where it has one.

    Workflows upgrade: a batch goes on with the current version at its next task, since its histories are replayed by
    the tests of every version, and since a batch pinned to the version it began with would stand still for ever once
    that version's last worker is gone.
    """
    if settings.worker.build_id is None:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(settings.worker.deployment, settings.worker.build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )


async def run(roles: Sequence[str], settings: Settings) -> None:
    """Serve the roles' task queues until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    require_ocr(settings)
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(open_ports(settings))
        preparer = build_preparer(ports.embedder, settings)
        documents = EmbedByName(ReadByModel(preparer, build_reader(settings)), build_other_embedders(settings))
        stack.push_async_callback(documents.close)
        ahead = asyncio.ensure_future(_prepare_ahead(roles, ports, preparer, settings))
        ahead.add_done_callback(lambda _: leave_out_what_stays())
        stack.callback(ahead.cancel)
        client = await _reach_engine(settings)
        sources = OpenSources(ports.catalog.connections, build_sources(settings, build_secret_box(settings)))
        stack.push_async_callback(sources.close)
        sender = build_webhook_sender(settings)
        stack.push_async_callback(sender.close)
        texts = build_text_processor(settings)
        stack.push_async_callback(texts.close)
        classes = _activity_classes(client, ports, documents, sources, sender=sender, texts=texts, settings=settings)
        activities = build_activities(classes)
        queues = [queue for role in roles for queue in ROLES[role]]
        workers = [build_worker(client, queue, activities.get(queue, []), settings) for queue in queues]
        if "workflows" in roles:
            scheduling = asyncio.ensure_future(until_it_succeeds(partial(keep_schedule, client)))
            stack.callback(scheduling.cancel)
        if settings.worker.build_id is not None and settings.worker.make_current:
            current = asyncio.ensure_future(make_current(client, settings))
            stack.callback(current.cancel)
        await serve(workers, stop)
    log.info("worker.stopped", roles=list(roles))


def require_ocr(settings: Settings) -> None:
    """Raises ``ConfigurationError`` where texts of sheets are asked for and cannot be read."""
    if settings.sheets.ocr and not ocr.is_available():
        raise ConfigurationError(
            "INGATHER_SHEETS__OCR is set, and RapidOCR is not installed.",
            action="Install ingather[ocr], or unset INGATHER_SHEETS__OCR.",
        )


async def _reach_engine(settings: Settings) -> Client:
    """Temporal, or one sentence of why not. Raises ``EngineUnavailableError``."""
    try:
        return await connect(settings)
    except RuntimeError as error:  # what the SDK raises where nobody answers
        raise EngineUnavailableError(
            f"Temporal cannot be reached: {error}",
            action="Start it, or set TEMPORAL_ADDRESS; beside `ingather up`, use `ingather up --workers N` instead.",
        ) from error


async def serve(workers: Sequence[Worker], stop: asyncio.Event) -> None:
    """Run workers until ``stop``. They shut down together: what is under way gets its grace once, not once a role."""
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker)
        log.info("worker.started", queues=[worker.task_queue for worker in workers], pid=os.getpid())
        await stop.wait()
        log.info("worker.stopping")
        await asyncio.gather(*(worker.shutdown() for worker in workers))


async def make_current(client: Client, settings: Settings, pause_seconds: float = 0.5) -> None:
    """Route every task to this worker's version; tried until the server has seen the version poll."""
    version = {"deployment": settings.worker.deployment, "build_id": settings.worker.build_id}
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=settings.worker.deployment,
        build_id=settings.worker.build_id or "",
        identity=client.identity,
        ignore_missing_task_queues=True,
    )
    while True:
        try:
            await client.workflow_service.set_worker_deployment_current_version(request, timeout=RPC_TIMEOUT)
        except RPCError as error:
            log.debug("worker.version_not_current_yet", reason=error.status.name, **version)
            await asyncio.sleep(pause_seconds)
        else:
            log.info("worker.version_made_current", **version)
            return


async def _prepare_ahead(roles: Sequence[str], ports: Ports, preparer: SupervisedPreparer, settings: Settings) -> None:
    """What the first document would otherwise wait for. Only the bucket is made by nobody else, so that is insisted on."""
    if "cpu" in roles:
        await succeeds(preparer.start)
    if "io" in roles:
        # Each loads a library for half a second or more, and documents may be waiting since another worker died.
        await asyncio.sleep(DOCUMENTS_FIRST_SECONDS)
        storage = until_it_succeeds(partial(prepare_storage, settings))
        index = succeeds(partial(ports.index.count, DEFAULT_TENANT_ID))
        await asyncio.gather(storage, index)


def leave_out_what_stays() -> None:
    """Spare the garbage collector all that was loaded by now: going through it stops every activity for a third of a second."""
    gc.collect()
    gc.freeze()


async def until_it_succeeds(prepare: Callable[[], Awaitable[object]], pause_seconds: float = 5.0) -> None:
    """Try again and again while a part of the deployment is away."""
    while not await succeeds(prepare):  # noqa: ASYNC110  # nobody could set an event
        await asyncio.sleep(pause_seconds)


async def succeeds(prepare: Callable[[], Awaitable[object]]) -> bool:
    """Whether it could be done now; the log says why not."""
    try:
        await prepare()
    except IngatherError as error:
        log.warning("worker.not_prepared", code=error.code, reason=error.message)
        return False
    return True


def _activity_classes(
    client: Client,
    ports: Ports,
    preparer: DocumentPreparer,
    sources: OpenSources,
    *,
    sender: WebhookSender,
    settings: Settings,
    texts: TextProcessor,
) -> ActivityClasses:
    manifest = ManifestReader(ports.blobs)
    ingesting = (ports.blobs, ports.catalog, preparer, manifest)
    budget = document_budget(settings)
    fetcher = Fetcher(ports.blobs, sources, fetch_budget(settings), settings.limits.max_file_bytes)
    at_once = slots_of(CPU_QUEUE, settings)
    webhooks = ports.catalog.webhooks
    newsroom = Newsroom(webhooks, TemporalDeliveryStarter(client), settings.api.public_url or "")
    shared: Any = {"budget": budget, "same_content": KeyedLocks()}
    return ActivityClasses(
        ingest=IngestActivities(*ingesting, **shared, fetcher=fetcher, fetched_at_once=at_once),
        packs=PackActivities(*ingesting, **shared),
        accounting=AccountingActivities(ports.catalog, manifest),
        handoff=HandoffActivities(ports.blobs, ports.catalog, ports.handoff, manifest, budget=budget, fetcher=fetcher),
        manifest=ManifestActivities(ports.blobs, ports.catalog, ZipArchiveReader(), archive_limits(settings)),
        index=IndexActivities(ports.blobs, ports.catalog, ports.index),
        records=RecordActivities(ports.blobs, ports.catalog, newsroom),
        webhooks=WebhookActivities(
            webhooks, newsroom, build_secret_box(settings), sender, settings.webhooks.keep_deliveries
        ),
        places=PlaceActivities(
            client,
            PlaceLimits(max_jobs=settings.limits.max_concurrent_jobs, max_bytes=settings.limits.max_concurrent_bytes),
            ports.catalog.accounts,
            ports.catalog,
        ),
        uploads=UploadActivities(
            ports.blobs,
            ports.parted,
            ports.catalog,
            progress=ports.sheet_progress,
            lifetime=timedelta(hours=settings.limits.upload_lifetime_hours),
            finish=_finisher(client, ports, settings),
        ),
        sheet_intake=SheetIntakeActivities(
            ports.blobs,
            ports.catalog,
            preparer,
            archives=ZipArchiveReader(),
            limits=archive_limits(settings),
            progress=ports.sheet_progress,
            budget=budget,
            ocr=settings.sheets.ocr,
        ),
        sheets=SheetActivities(*ingesting, progress=ports.sheet_progress, budget=budget, ocr=settings.sheets.ocr),
        sheet_results=SheetResultActivities(ports.blobs, ports.catalog, manifest, progress=ports.sheet_progress),
        texts=TextActivities(ports.blobs, ports.catalog, texts, manifest),
    )


def _finisher(client: Client, ports: Ports, settings: Settings) -> Finish:
    """Begins batches whose API process died, as the API would have done. What that takes is loaded when it is needed."""
    made: list[Finish] = []

    def make() -> Finish:
        from api.engine import BatchEngine  # noqa: PLC0415  # the API's libraries: next to never needed here
        from api.service.chunked_uploads import ChunkedUploads, UploadLimits  # noqa: PLC0415
        from api.service.sheets import SheetService  # noqa: PLC0415
        from api.service.tenants import TenantBook  # noqa: PLC0415
        from api.uploads import large_file_turns  # noqa: PLC0415

        limits, tenants = settings.limits, TenantBook(ports.catalog.accounts)
        sheets = SheetService(
            ports.catalog,
            ports.blobs,
            BatchEngine(client),
            tenants,
            parser_seconds=limits.parser_seconds,
            children_at_once=settings.engine.children_at_once,
        )
        return ChunkedUploads(
            ports.blobs,
            ports.parted,
            ports.catalog.uploads,
            sheets,
            ports.sheet_progress,
            UploadLimits(
                max_chunk_bytes=limits.max_chunk_bytes,
                max_upload_bytes=limits.max_upload_bytes,
                max_upload_chunks=limits.max_upload_chunks,
                lifetime=timedelta(hours=limits.upload_lifetime_hours),
            ),
            large_file_turns(),
        ).finish

    async def finish(upload: Upload) -> None:
        if not made:
            made.append(await asyncio.to_thread(make))
        await made[0](upload)

    return finish


def main() -> None:
    arguments = argparse.ArgumentParser(description="Run Ingather workers.")
    arguments.add_argument(
        "--roles", type=parse_roles, default=tuple(ROLES), help="any of workflows,io,cpu (default: all)"
    )
    roles = arguments.parse_args().roles
    configure_logging("auto", "info")  # for the word on settings that do not fit
    try:
        settings = read_settings()
        configure_logging(settings.log.format, settings.log.level)
        tell_unknown_variables()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(roles, settings))
    except (EngineUnavailableError, ConfigurationError) as error:
        log.error("worker.not_started", code=error.code, reason=error.message, action=error.action)  # noqa: TRY400  # one sentence
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Real batches of scripted documents with a real catalog, and real API processes to watch them through."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
from temporalio import activity

from ingather.adapters.sql.catalog import SqlCatalog
from ingather.domain.bitmap import decode_bitmap
from ingather.domain.ledger import Ledger
from ingather.models.batch import BatchRecord, BatchState, Counts
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.messages import (
    BuildManifestInput,
    BuildManifestOutput,
    DocumentHeartbeat,
    FinishBatchInput,
    FinishBatchOutput,
    IngestDocumentInput,
    IngestDocumentOutput,
    ResetDocumentsInput,
)
from ingather.stack.ports import choose_ports
from tests.support.batch_driver import BatchDriver
from tests.support.fake_activities import World
from tests.support.watching import Watcher

REPOSITORY = Path(__file__).parents[2]


@dataclass
class CatalogWorld(World):
    """A world whose outcomes are in the catalog before the workflow knows them, as in a deployment."""

    catalog: SqlCatalog | None = None
    name: Callable[[int], str] = lambda ordinal: f"document-{ordinal}.txt"

    @activity.defn(name="build_manifest")
    async def build_manifest(self, request: BuildManifestInput) -> BuildManifestOutput:
        records = [self._record(request.batch_id, ordinal) for ordinal in range(self.document_count)]
        await self.catalog.add_documents(records)
        return await super().build_manifest(request)

    @activity.defn(name="ingest_document")
    async def ingest_document(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        started_at = datetime.now(UTC)
        activity.heartbeat(
            DocumentHeartbeat(stage=Stage.PARSING, filename=self.name(request.ordinal), started_at=started_at)
        )
        output = await super().ingest_document(request)
        error = DocumentFailure(code=output.code, message="It is scripted.", action="None.") if output.code else None
        record = self._record(
            request.batch_id,
            request.ordinal,
            status=output.status,
            error=error,
            attempts=request.retry_round + 1,
            chunk_count=output.chunk_count,
            started_at=started_at,
            ended_at=datetime.now(UTC),
        )
        await self.catalog.save_outcome(record)
        return output

    @activity.defn(name="finish_batch")
    async def finish_batch(self, request: FinishBatchInput) -> FinishBatchOutput:
        closed = request.closed
        cancelled = Ledger.load(closed.ledger, closed.failures).where(DocumentStatus.CANCELLED)
        await self.catalog.mark_cancelled(request.batch_id, list(cancelled), datetime.now(UTC))
        await self.catalog.finish_batch(closed.summary)
        return await super().finish_batch(request)

    @activity.defn(name="reset_documents")
    async def reset_documents(self, request: ResetDocumentsInput) -> None:
        await self.catalog.reset_documents(request.batch_id, list(decode_bitmap(request.ordinals)))
        await super().reset_documents(request)

    def _record(self, batch_id: str, ordinal: int, **changes: object) -> DocumentRecord:
        return DocumentRecord(
            file_id=file_id_for(batch_id, ordinal),
            tenant_id=DEFAULT_TENANT_ID,
            batch_id=batch_id,
            ordinal=ordinal,
            filename=self.name(ordinal),
            collection="default",
            **changes,
        )


async def submit(driver: BatchDriver, catalog: SqlCatalog, **fields: object) -> None:
    """Start a driver's batch the way the API does: first the record, then the workflow."""
    spec = driver.spec(**fields)
    record = BatchRecord(
        batch_id=spec.batch_id,
        tenant_id=spec.tenant_id,
        spec=spec,
        state=BatchState.QUEUED,
        counts=Counts(),
        name=spec.name,
        created_at=datetime.now(UTC),
    )
    await catalog.add_batch(record)
    await driver.start(**fields)


@dataclass
class ApiProcess:
    """``uvicorn --factory api.app:create_app`` as a process of its own."""

    environment: dict[str, str]
    log: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    def start(self) -> None:
        """Start and wait until it is alive. Blocking."""
        self.port = choose_ports(["api"])["api"]
        self.process = self._launch()
        deadline = time.monotonic() + 60
        with httpx.Client(base_url=self.url) as client:
            while time.monotonic() < deadline and self.process.poll() is None:
                try:
                    if client.get("/livez").status_code == 200:
                        return
                except httpx.TransportError:
                    time.sleep(0.1)
        self.kill()
        raise AssertionError(f"the API did not start: {self.log.read_text()[-3000:]}")

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--port", str(self.port)]
        with self.log.open("ab") as output:
            return subprocess.Popen(
                command, env=os.environ | self.environment, cwd=REPOSITORY, stdout=output, stderr=output
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None)
        self.clients.append(httpx.AsyncClient(base_url=self.url, timeout=httpx.Timeout(30, pool=60), limits=limits))
        return self.clients[-1]

    def watch(self, batch_id: str, cursor: str | None = None) -> Watcher:
        """Open a stream and read it in the background."""
        return Watcher(self.read(batch_id, cursor))

    async def read(self, batch_id: str, cursor: str | None = None) -> AsyncIterator[bytes]:
        """Whole frames of a stream as they come."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor is not None else {})
        client = self.client()
        async with client.stream("GET", f"/v1/batches/{batch_id}/events", headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            kept = b""
            async for chunk in response.aiter_raw():
                kept += chunk
                whole, separator, kept = kept.rpartition(b"\n\n")
                if whole:
                    yield whole + separator

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def close_clients(self) -> None:
        """Close every stream that a test left open."""
        for client in self.clients:
            await client.aclose()
        self.clients.clear()

    async def stop(self) -> None:
        await self.close_clients()
        await asyncio.to_thread(self.kill)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)

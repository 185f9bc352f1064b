"""Batches as the API leaves them: bytes in the store, a line for each thing handed in, nothing looked at yet."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.manifest import ManifestActivities
from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.adapters.zip_archive import ZipArchiveReader
from ingather.domain.keys import manifest_key, submission_part_key, upload_key
from ingather.domain.manifest_pages import decode_page
from ingather.models.archive import ArchiveLimits
from ingather.models.batch import BatchRecord, BatchSpec, BatchState, Counts, SubmissionPart
from ingather.models.content import BlobRef
from ingather.models.document import DocumentRecord, DocumentRef, Submitted
from ingather.models.errors import StorageUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import BuildManifestInput, BuildManifestOutput

TENANT = DEFAULT_TENANT_ID
BATCH = "0192f0c1-2345-7abc-8def-0123456789ab"


class CountingBlobStore(InMemoryBlobStore):
    """Counts reads, and fails at the write it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.writes = 0
        self.fail_at: int | None = None

    def _write(self) -> None:
        self.writes += 1
        if self.writes == self.fail_at:
            raise StorageUnavailableError("pulled the plug")

    async def put(self, key: str, content: bytes) -> None:
        self._write()
        await super().put(key, content)

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> BlobRef:
        self._write()
        return await super().put_stream(key, parts)

    async def delete(self, key: str) -> None:
        self._write()
        await super().delete(key)

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        self.reads.append(key)
        return await super().get(key, offset=offset, size=size)

    def content(self) -> dict[str, bytes]:
        return dict(self._objects)


class FailingCatalog(InMemoryCatalog):
    """Fails at the block of rows it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = 0
        self.fail_at: int | None = None

    async def add_documents(self, records: Sequence[DocumentRecord]) -> None:
        self.blocks += 1
        if self.blocks == self.fail_at:
            raise StorageUnavailableError("pulled the plug")
        await super().add_documents(records)


@dataclass
class Submission:
    """A batch as the API leaves it: bytes in the store, one line for each thing handed in."""

    blobs: CountingBlobStore = field(default_factory=CountingBlobStore)
    catalog: FailingCatalog = field(default_factory=FailingCatalog)
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    max_file_bytes: int | None = None
    """The batch's own."""
    lines: list[Submitted] = field(default_factory=list)
    hold: bool = False

    async def add(self, filename: str, content: bytes, **metadata: Any) -> None:
        key = upload_key(TENANT, BATCH, f"file-{len(self.lines):05d}")
        await InMemoryBlobStore.put(self.blobs, key, content)
        blob = BlobRef(key=key, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        self.lines.append(Submitted(filename=filename, blob=blob, metadata=metadata))

    async def prepare(self) -> None:
        text = "".join(line.model_dump_json() + "\n" for line in self.lines)
        key = submission_part_key(TENANT, BATCH, "one")
        await InMemoryBlobStore.put(self.blobs, key, text.encode())
        spec = BatchSpec(batch_id=BATCH, tenant_id=TENANT, name="b", submitted_count=len(self.lines), hold=self.hold)
        await self.catalog.add_batch(
            BatchRecord(
                batch_id=BATCH, tenant_id=TENANT, spec=spec, state=BatchState.PENDING, counts=Counts(), name="b",
                created_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
        )  # fmt: skip
        await self.catalog.add_part(
            SubmissionPart(
                batch_id=BATCH, part_id="one", key=key, document_count=len(self.lines), created_at=datetime.now(UTC)
            )
        )

    async def build(self, max_documents: int = 1_000) -> BuildManifestOutput:
        await self.prepare()
        return await self.run(max_documents)

    async def run(self, max_documents: int = 1_000) -> BuildManifestOutput:
        activities = ManifestActivities(self.blobs, self.catalog, ZipArchiveReader(), self.limits)
        return await ActivityEnvironment().run(activities.build_manifest, self.request(max_documents))

    def request(self, max_documents: int = 1_000) -> BuildManifestInput:
        return BuildManifestInput(
            tenant_id=TENANT,
            batch_id=BATCH,
            collection="default",
            max_documents=max_documents,
            max_file_bytes=self.max_file_bytes,
        )

    def refs(self) -> list[DocumentRef]:
        return decode_page(self.blobs.content().get(manifest_key(TENANT, BATCH, 0), b""))

    async def bytes_of(self, ref: DocumentRef) -> bytes:
        assert ref.blob is not None
        content = await InMemoryBlobStore.get(
            self.blobs, ref.blob.key, offset=ref.blob.offset, size=ref.blob.size_bytes
        )
        assert hashlib.sha256(content).hexdigest() == ref.blob.sha256
        return content

    async def rows(self) -> list[DocumentRecord]:
        return [record async for record in self.catalog.iterate_documents(BATCH)]

    async def outcome(self) -> dict[str, str | bytes]:
        """What every document became: its bytes, or the code it was refused with."""
        return {ref.filename: ref.refused.code if ref.refused else await self.bytes_of(ref) for ref in self.refs()}


async def expanded(content: bytes, limits: ArchiveLimits | None = None, name: str = "x.zip") -> dict[str, str | bytes]:
    """What one archive, alone in its batch, becomes."""
    submission = Submission(limits=limits or ArchiveLimits())
    await submission.add(name, content)
    await submission.build()
    return await submission.outcome()

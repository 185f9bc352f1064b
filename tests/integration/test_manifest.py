"""The manifest over a real S3 server and a real database."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.manifest import ManifestActivities, ManifestReader
from ingather.adapters.s3.blob_store import S3BlobStore
from ingather.adapters.sql.catalog import SqlCatalog
from ingather.adapters.sql.migrate import migrate
from ingather.adapters.zip_archive import ZipArchiveReader
from ingather.domain.keys import submission_part_key, upload_key
from ingather.models.archive import ArchiveLimits
from ingather.models.batch import BatchRecord, BatchSpec, BatchState, Counts, SubmissionPart
from ingather.models.content import BlobRef
from ingather.models.document import Submitted
from ingather.models.identity import DEFAULT_TENANT_ID as TENANT
from ingather.models.messages import BuildManifestInput
from ingather.stack.s3 import S3Server
from tests.support import zips


@pytest.fixture
async def blobs(s3_server: S3Server) -> AsyncIterator[S3BlobStore]:
    """A store on the session's S3 server."""
    store = S3BlobStore(
        endpoint_url=s3_server.endpoint_url,
        region=s3_server.region,
        bucket=s3_server.bucket,
        access_key_id=s3_server.access_key_id,
        secret_access_key=s3_server.secret_access_key,
    )
    yield store
    await store.close()


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqlCatalog]:
    """An empty catalog."""
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    await asyncio.to_thread(migrate, url)
    opened = SqlCatalog(url)
    yield opened
    await opened.close()


async def test_a_manifest_over_real_storage_is_what_it_is_in_memory(blobs: S3BlobStore, catalog: SqlCatalog) -> None:
    """Packs, large entries, refused ones, one that is stopped half-way, a bomb that is taken back; twice over."""
    batch_id = str(uuid.uuid4())
    noise = zips.noise(12_000_000)
    files = {
        "small.txt": b"small",
        "empty.txt": b"",
        "large.bin": noise,
        "over.bin": noise + noise,
        "é\n.txt": b"odd",
    }
    things = {"a.txt": b"A", "x.zip": zips.zip_of(files, zips.STORED), "bomb.zip": zips.bomb(32_000_000), "": b"B"}
    lines = []
    for number, (name, content) in enumerate(things.items()):
        key = upload_key(TENANT, batch_id, f"file-{number:05d}")
        await blobs.put(key, content)
        ref = BlobRef(key=key, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        lines.append(Submitted(filename=name, blob=ref).model_dump_json())
    part = SubmissionPart(
        batch_id=batch_id,
        part_id=batch_id,
        key=submission_part_key(TENANT, batch_id, "upload"),
        document_count=len(lines),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    await blobs.put(part.key, "\n".join(lines).encode())
    spec = BatchSpec(batch_id=batch_id, tenant_id=TENANT, name="b", submitted_count=len(things))
    await catalog.add_batch(
        BatchRecord(
            batch_id=batch_id, tenant_id=TENANT, spec=spec, state=BatchState.PENDING, counts=Counts(), name="b",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        ),
        part,
    )  # fmt: skip
    activities = ManifestActivities(blobs, catalog, ZipArchiveReader(), ArchiveLimits(entry_bytes=20_000_000))
    request = BuildManifestInput(tenant_id=TENANT, batch_id=batch_id, collection="default", max_documents=1_000)

    answers = [await ActivityEnvironment().run(activities.build_manifest, request) for _ in range(2)]

    assert answers[0] == answers[1]
    assert answers[0].document_count == 8
    reader = ManifestReader(blobs)
    found: dict[str, bytes | str] = {}
    for ordinal in range(8):
        ref = await reader.document(TENANT, batch_id, ordinal)
        if ref.refused is not None:
            found[ref.filename] = ref.refused.code
        elif ref.blob is not None and ref.blob.size_bytes:
            found[ref.filename] = await blobs.get(ref.blob.key, offset=ref.blob.offset, size=ref.blob.size_bytes)
    assert found == {
        "a.txt": b"A",
        "small.txt": b"small",
        "large.bin": noise,
        "over.bin": "too_large",
        "é .txt": b"odd",
        "bomb.zip": "archive_too_large",
        "document-0000007": b"B",
    }
    rows = [row async for row in catalog.iterate_documents(batch_id)]
    assert [row.ordinal for row in rows] == list(range(8))
    stored = [item.key.rsplit("/", 1)[-1] async for item in blobs.list(f"uploads/{TENANT}/{batch_id}/zip-")]
    assert stored == ["zip-1-file-00001", "zip-1-pack-00001"]

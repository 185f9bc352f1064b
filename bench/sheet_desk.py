"""Hands uploads of sheets to a running stack the way the API's upload door does once all bytes are there."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uuid_utils
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from api.engine import BatchEngine
from api.service.sheets import SheetService
from api.service.tenants import TenantBook
from ingather.adapters.s3.blob_store import S3BlobStore
from ingather.adapters.sql.catalog import SqlCatalog
from ingather.domain.keys import upload_key
from ingather.models.errors import DependencyError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.sheets import SheetObject, SheetUpload, UploadType
from ingather.ports.blob_store import BlobStore

_ATTEMPTS = 30
_PIECE_BYTES = 4 * 1024 * 1024


@dataclass
class SheetDesk:
    """Where uploads are handed in."""

    service: SheetService
    blobs: BlobStore

    async def hand_in(
        self,
        files: Sequence[tuple[str, bytes | Path]],
        upload_type: UploadType = UploadType.ZIP_WITH_QR,
        *,
        task_id: str | None = None,
        tenant_id: str = DEFAULT_TENANT_ID,
        **metadata: Any,
    ) -> str:
        """Store these files and submit them as one upload; answers the batch's id."""
        batch_id, began_at = str(uuid_utils.uuid7()), datetime.now(UTC)
        objects = []
        for number, (name, content) in enumerate(files):
            key = upload_key(tenant_id, batch_id, f"whole-{number:05d}")
            ref = await self.blobs.put_stream(key, _pieces(content))
            objects.append(SheetObject(key=key, filename=name, size_bytes=ref.size_bytes, sha256=ref.sha256))
        upload = SheetUpload(
            batch_id=batch_id,
            tenant_id=tenant_id,
            created_by="anonymous",
            upload_type=upload_type,
            task_id=task_id,
            objects=tuple(objects),
            metadata=metadata,
            began_at=began_at,
        )
        await self._submit(upload)
        return batch_id

    async def _submit(self, upload: SheetUpload) -> None:
        """Again and again while a part of the stack is busy: it is the same batch."""
        for _ in range(_ATTEMPTS - 1):
            try:
                await self.service.submit(upload)
            except DependencyError:
                await asyncio.sleep(1)
            else:
                return
        await self.service.submit(upload)


@asynccontextmanager
async def open_desk(facts: Mapping[str, Any]) -> AsyncIterator[SheetDesk]:
    """A desk of a running stack, by its ``stack.json``."""
    blobs = S3BlobStore(**facts["s3"])
    catalog = SqlCatalog(facts["catalog"]["url"])
    try:
        client = await Client.connect(facts["temporal"]["address"], data_converter=pydantic_data_converter)
        service = SheetService(catalog, blobs, BatchEngine(client), TenantBook(catalog.accounts))
        yield SheetDesk(service, blobs)
    finally:
        await catalog.close()
        await blobs.close()


async def _pieces(content: bytes | Path) -> AsyncIterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece

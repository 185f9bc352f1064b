"""What is left behind by uploads: batches that did not begin, pieces that nobody finishes, files that nobody needs."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from temporalio import activity

from activities.failures import translate_errors
from activities.heartbeats import beating_plainly
from activities.sheet_events import tell
from activities.upload_assembly import UploadAssembly
from ingather.domain.keys import INCOMING
from ingather.domain.sheet_end import lost_upload_event
from ingather.models.batch import BatchRecord
from ingather.models.errors import DependencyError, IngatherError
from ingather.models.messages import CleanUploadsOutput
from ingather.models.upload import Upload, UploadKind, UploadState
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.parted_objects import PartedObjects
from ingather.ports.sheet_progress import SheetProgress

LEFT_ALONE = timedelta(minutes=2)
"""So long whoever sent the last chunk of an upload has to begin its batch."""
_PAGE = 100
_TRIED_IN_VAIN = 3
"""So many that meet a part of the service that is away show that it is; one alone may have trouble of its own."""

log = structlog.get_logger(__name__)

Finish = Callable[[Upload], Awaitable[object]]
"""Begins the batch of an upload that has all its chunks. Repeating is harmless."""


class UploadActivities:
    """Cleans up.

    Args:
        progress: hears of what was going to be a batch of sheets, and will not be.
        lifetime: how long an upload may take.
        finish: what the API does once an upload has all its chunks.
    """

    def __init__(
        self,
        blobs: BlobStore,
        parted: PartedObjects,
        catalog: Catalog,
        *,
        progress: SheetProgress,
        lifetime: timedelta,
        finish: Finish,
    ) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._assembly = UploadAssembly(blobs, parted, catalog.uploads)
        self._progress = progress
        self._lifetime = lifetime
        self._finish = finish

    @activity.defn(name="clean_uploads")
    @translate_errors
    async def clean_uploads(self) -> CleanUploadsOutput:
        """Once over all there is. What cannot be done now is done the next time."""
        async with beating_plainly():
            begun = await self._begin_batches()
            removed = await self._remove_expired()
            swept = await self._sweep()
        if begun or removed or swept:
            log.info("uploads.cleaned", begun=begun, removed=removed, swept=swept)
        return CleanUploadsOutput(begun=begun, removed=removed, swept=swept)

    async def _begin_batches(self) -> int:
        """Those whose last chunk's request died, or met a part of the service that was away."""
        since, begun, away = datetime.now(UTC) - LEFT_ALONE, 0, 0
        async for upload in _each(partial(self._catalog.uploads.list_unstarted, since, _PAGE)):
            try:
                await self._finish(upload)
            except IngatherError as error:
                log.warning("upload.not_begun", upload_id=upload.upload_id, batch_id=upload.batch_id, code=error.code)
                away += isinstance(error, DependencyError)
                if away == _TRIED_IN_VAIN:
                    break  # the next one would fare no better
            else:
                begun, away = begun + 1, 0
        return begun

    async def _remove_expired(self) -> int:
        now, removed = datetime.now(UTC), 0
        async for upload in _each(partial(self._catalog.uploads.list_expired, now, _PAGE)):
            if not await self._is_needed(upload, now):
                if upload.batch_id is not None and upload.state is not UploadState.STARTED:
                    await tell(self._progress, lost_upload_event(upload.batch_id, upload.created_at))
                await self._assembly.discard(upload)
                removed += 1
        return removed

    async def _is_needed(self, upload: Upload, now: datetime) -> bool:
        if upload.kind is UploadKind.CHUNKS:
            # One that has everything is tried for as long again before it is given up.
            may_begin = upload.has_all and upload.state is not UploadState.STARTED
            return may_begin and upload.expires_at + self._lifetime > now
        for batch_id in upload.used_by:
            batch = await self._catalog.get_batch(batch_id, upload.tenant_id)
            if batch is not None and not _is_done_with(batch):
                return True
        return False

    async def _sweep(self) -> int:
        """Pieces that were stored and never counted, because their request died in between."""
        swept, latest = 0, datetime.now(UTC) - 2 * self._lifetime - timedelta(hours=1)
        async for blob in self._blobs.list(INCOMING):
            began_at = _moment_of(blob.key.rsplit("/", 1)[-1])
            if began_at is not None and began_at < latest:
                await self._blobs.delete(blob.key)
                swept += 1
        return swept


async def _each(list_behind: Callable[[str], Awaitable[Sequence[Upload]]]) -> AsyncIterator[Upload]:
    """All of a list that is read page by page, behind the id of the last one seen."""
    after = ""
    while True:
        page = await list_behind(after)
        for upload in page:
            yield upload
        if len(page) < _PAGE:
            return
        after = page[-1].upload_id


def _is_done_with(batch: BatchRecord) -> bool:
    """Whether a batch has no more use for what it was made of. What failed may be retried, and is read from there."""
    return batch.state.is_final and (batch.problem is not None or batch.counts.failed == batch.counts.cancelled == 0)


def _moment_of(name: str) -> datetime | None:
    """When a UUID of version 7 was made."""
    with contextlib.suppress(ValueError):
        return datetime.fromtimestamp((uuid.UUID(name).int >> 80) / 1_000, UTC)
    return None

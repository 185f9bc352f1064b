"""Uploads in pieces, as the catalog keeps them: one book for every API process."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from ingather.models.upload import Upload, UploadPiece


class Uploads(Protocol):
    """Part of the catalog. Methods raise ``CatalogUnavailableError``; none blocks the event loop.

    An upload that has expired and was removed is unknown. Whatever two processes do to one upload happens one after the
    other.
    """

    async def open_upload(self, upload: Upload) -> Upload:
        """Register it. Raises ``TenantNotFoundError``."""
        ...

    async def open_chunked(self, upload: Upload, first: UploadPiece, since: datetime) -> tuple[Upload, bool]:
        """Register it with its first chunk; False with the one that was there.

        That is one of the same tenant, user, file name and number of chunks, whose first chunk has the same hash, and
        which was begun at ``since`` or later.
        """
        ...

    async def get_upload(self, upload_id: str, tenant_id: str | None = None) -> Upload | None:
        """None when unknown, or another tenant's."""
        ...

    async def get_upload_of_batch(self, batch_id: str, tenant_id: str | None = None) -> Upload | None:
        """The chunked one that is, or was, going to be this batch; None when unknown, or another tenant's."""
        ...

    async def add_piece(self, upload_id: str, piece: UploadPiece, at: datetime) -> tuple[Upload | None, bool]:
        """Count a chunk that has arrived: the upload as it is now, and whether the chunk is new.

        Of two with one number the first stays. None where the upload is gone.
        """
        ...

    async def note_part(self, upload_id: str, indexes: Sequence[int], etag: str) -> bool:
        """These pieces are one part of the whole by now, and have no objects of their own. False where one is so already."""
        ...

    async def list_pieces(self, upload_id: str, first: int = 0, count: int | None = None) -> list[UploadPiece]:
        """Those that have arrived, in their order: all, or those of ``count`` numbers from ``first`` on."""
        ...

    async def list_arrivals(self, upload_id: str, first: int, last: int) -> list[UploadPiece]:
        """Chunks in the order in which they were counted, from the ``first``-th to the ``last``-th, 1-based."""
        ...

    async def advance(
        self,
        upload_id: str,
        offset: int,
        pieces: Sequence[UploadPiece],
        *,
        tail: tuple[str, int] | None,
        at: datetime,
        expires_at: datetime,
    ) -> Upload | None:
        """Add parts, and the object and size of a tail, behind ``offset``; None where that is not the offset any more.

        A tail that was there before is part of the new pieces.
        """
        ...

    async def edit_upload(self, upload_id: str, changes: Mapping[str, Any]) -> Upload | None:
        """Replace fields by name; the upload as it is now, None where it is gone. Repeating is harmless."""
        ...

    async def note_use(self, upload_id: str, tenant_id: str, batch_id: str) -> Upload | None:
        """A batch needs its bytes. Repeating is harmless; None when unknown, or another tenant's."""
        ...

    async def delete_upload(self, upload_id: str) -> None:
        """Forget it and its pieces; a missing one is no error."""
        ...

    async def list_expired(self, before: datetime, limit: int, after: str = "") -> list[Upload]:
        """Those that expired before a moment, by id, behind the id ``after``."""
        ...

    async def list_unstarted(self, before: datetime, limit: int, after: str = "") -> list[Upload]:
        """Chunked ones which have had all their chunks since before a moment, and whose batch has not begun: by id,
        behind the id ``after``.
        """
        ...

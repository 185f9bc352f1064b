"""Uploads in dictionaries."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ingather.adapters.memory.accounts import InMemoryAccounts
from ingather.models.errors import TenantNotFoundError
from ingather.models.upload import Upload, UploadKind, UploadPiece, UploadState


class InMemoryUploads:
    """Those of tenants that ``accounts`` knows."""

    def __init__(self, accounts: InMemoryAccounts) -> None:
        self._accounts = accounts
        self._uploads: dict[str, Upload] = {}
        self._pieces: dict[str, dict[int, UploadPiece]] = {}

    async def open_upload(self, upload: Upload) -> Upload:
        if await self._accounts.get_tenant(upload.tenant_id) is None:
            raise TenantNotFoundError(f"There is no tenant {upload.tenant_id}.")
        self._uploads[upload.upload_id] = upload
        self._pieces[upload.upload_id] = {}
        return upload

    async def open_chunked(self, upload: Upload, first: UploadPiece, since: datetime) -> tuple[Upload, bool]:
        for known in self._uploads.values():
            if known.created_at >= since and _first(known) == _first(upload, first.sha256):
                return known, False
        await self.open_upload(
            upload.model_copy(update={"first_sha256": first.sha256, "chunk_bytes": first.size_bytes})
        )
        counted, _ = await self.add_piece(upload.upload_id, first, upload.changed_at)
        assert counted is not None
        return counted, True

    async def get_upload(self, upload_id: str, tenant_id: str | None = None) -> Upload | None:
        found = self._uploads.get(upload_id)
        return found if found is not None and tenant_id in {None, found.tenant_id} else None

    async def get_upload_of_batch(self, batch_id: str, tenant_id: str | None = None) -> Upload | None:
        for upload in self._uploads.values():
            if upload.batch_id == batch_id and tenant_id in {None, upload.tenant_id}:
                return upload
        return None

    async def add_piece(self, upload_id: str, piece: UploadPiece, at: datetime) -> tuple[Upload | None, bool]:
        upload = self._uploads.get(upload_id)
        if upload is None or piece.index in self._pieces[upload_id]:
            return upload, False
        self._pieces[upload_id][piece.index] = piece.model_copy(update={"number": upload.received_count + 1})
        return self._edit(
            upload_id,
            received_count=upload.received_count + 1,
            received_bytes=upload.received_bytes + piece.size_bytes,
            changed_at=at,
        ), True

    async def note_part(self, upload_id: str, indexes: Sequence[int], etag: str) -> bool:
        pieces = self._pieces.get(upload_id, {})
        if any(index not in pieces or pieces[index].etag is not None for index in indexes):
            return False
        for index in indexes:
            pieces[index] = pieces[index].model_copy(update={"etag": etag})
        return True

    async def list_pieces(self, upload_id: str, first: int = 0, count: int | None = None) -> list[UploadPiece]:
        found = sorted(self._pieces.get(upload_id, {}).items())
        return [piece for index, piece in found if index >= first and (count is None or index < first + count)]

    async def list_arrivals(self, upload_id: str, first: int, last: int) -> list[UploadPiece]:
        pieces = {piece.number: piece for piece in self._pieces.get(upload_id, {}).values()}
        return [pieces[number] for number in range(first, last + 1) if number in pieces]

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
        upload = self._uploads.get(upload_id)
        if upload is None or upload.received_bytes != offset:
            return None
        self._pieces[upload_id] |= {piece.index: piece for piece in pieces}
        tail_key, tail_bytes = tail or (None, 0)
        whole_parts = upload.received_bytes - upload.tail_bytes + sum(piece.size_bytes for piece in pieces)
        return self._edit(
            upload_id,
            received_count=upload.received_count + len(pieces),
            received_bytes=whole_parts + tail_bytes,
            tail_key=tail_key,
            tail_bytes=tail_bytes,
            changed_at=at,
            expires_at=expires_at,
        )

    async def edit_upload(self, upload_id: str, changes: Mapping[str, Any]) -> Upload | None:
        return self._edit(upload_id, **changes) if upload_id in self._uploads else None

    async def note_use(self, upload_id: str, tenant_id: str, batch_id: str) -> Upload | None:
        upload = await self.get_upload(upload_id, tenant_id)
        if upload is None or batch_id in upload.used_by:
            return upload
        return self._edit(upload_id, used_by=(*upload.used_by, batch_id))

    async def delete_upload(self, upload_id: str) -> None:
        self._uploads.pop(upload_id, None)
        self._pieces.pop(upload_id, None)

    async def list_expired(self, before: datetime, limit: int, after: str = "") -> list[Upload]:
        found = [each for key, each in sorted(self._uploads.items()) if each.expires_at < before and key > after]
        return found[:limit]

    async def list_unstarted(self, before: datetime, limit: int, after: str = "") -> list[Upload]:
        found = [
            each
            for key, each in sorted(self._uploads.items())
            if key > after
            and each.kind is UploadKind.CHUNKS
            and each.state is not UploadState.STARTED
            and each.has_all
            and each.changed_at < before
        ]
        return found[:limit]

    def _edit(self, upload_id: str, **changes: Any) -> Upload:
        self._uploads[upload_id] = edited = self._uploads[upload_id].model_copy(update=changes)
        return edited


def _first(upload: Upload, sha256: str | None = None) -> tuple[object, ...]:
    """What tells that a first chunk was sent again."""
    sha256 = sha256 or upload.first_sha256
    return upload.tenant_id, upload.created_by, upload.filename, upload.total_chunks, sha256

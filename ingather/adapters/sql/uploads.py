"""Uploads in pieces in the catalog's database: each change is one transaction that holds the upload's row."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from ingather.adapters.sql.accounts import tenant_exists
from ingather.adapters.sql.statements import Run
from ingather.adapters.sql.tables import tenants, upload_pieces, uploads
from ingather.models.errors import TenantNotFoundError
from ingather.models.upload import Upload, UploadKind, UploadPiece, UploadState

_TIMES = frozenset({"created_at", "changed_at", "expires_at", "stored_at"})


class SqlUploads:
    """Shares the catalog's connections, threads and transactions."""

    def __init__(self, read: Run, write: Run) -> None:
        self._read = read
        self._write = write

    async def open_upload(self, upload: Upload) -> Upload:
        return await self._write("open an upload", partial(_open, upload))

    async def open_chunked(self, upload: Upload, first: UploadPiece, since: datetime) -> tuple[Upload, bool]:
        return await self._write("open an upload", partial(_open_chunked, upload, first, since))

    async def get_upload(self, upload_id: str, tenant_id: str | None = None) -> Upload | None:
        return await self._read("look an upload up", partial(_get, uploads.c.upload_id == upload_id, tenant_id))

    async def get_upload_of_batch(self, batch_id: str, tenant_id: str | None = None) -> Upload | None:
        return await self._read("look a batch's upload up", partial(_get, uploads.c.batch_id == batch_id, tenant_id))

    async def add_piece(self, upload_id: str, piece: UploadPiece, at: datetime) -> tuple[Upload | None, bool]:
        return await self._write("count a chunk", partial(_add_piece, upload_id, piece, at))

    async def note_part(self, upload_id: str, indexes: Sequence[int], etag: str) -> bool:
        return await self._write("note a part", partial(_note_part, upload_id, indexes, etag))

    async def list_pieces(self, upload_id: str, first: int = 0, count: int | None = None) -> list[UploadPiece]:
        return await self._read("list chunks", partial(_list_pieces, upload_id, first, count))

    async def list_arrivals(self, upload_id: str, first: int, last: int) -> list[UploadPiece]:
        return await self._read("list chunks as they came", partial(_list_arrivals, upload_id, first, last))

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
        return await self._write(
            "count bytes of an upload",
            partial(_advance, upload_id, offset, pieces, tail=tail, at=at, expires_at=expires_at),
        )

    async def edit_upload(self, upload_id: str, changes: Mapping[str, Any]) -> Upload | None:
        return await self._write("change an upload", partial(_edit, upload_id, changes))

    async def note_use(self, upload_id: str, tenant_id: str, batch_id: str) -> Upload | None:
        return await self._write("note an upload's use", partial(_note_use, upload_id, tenant_id, batch_id))

    async def delete_upload(self, upload_id: str) -> None:
        await self._write("forget an upload", partial(_delete, upload_id))

    async def list_expired(self, before: datetime, limit: int, after: str = "") -> list[Upload]:
        query = select(uploads).where(uploads.c.expires_at < before, uploads.c.upload_id > after)
        return await self._read(
            "list expired uploads", partial(_list, query.order_by(uploads.c.upload_id).limit(limit))
        )

    async def list_unstarted(self, before: datetime, limit: int, after: str = "") -> list[Upload]:
        query = select(uploads).where(
            uploads.c.kind == UploadKind.CHUNKS,
            uploads.c.state != UploadState.STARTED,
            uploads.c.received_count == uploads.c.total_chunks,
            uploads.c.changed_at < before,
            uploads.c.upload_id > after,
        )
        return await self._read(
            "list uploads without a batch", partial(_list, query.order_by(uploads.c.upload_id).limit(limit))
        )


def _open(upload: Upload, database: Connection) -> Upload:
    if not tenant_exists(upload.tenant_id, database):
        raise TenantNotFoundError(f"There is no tenant {upload.tenant_id}.")
    database.execute(uploads.insert(), _row(upload))
    return upload


def _open_chunked(upload: Upload, first: UploadPiece, since: datetime, database: Connection) -> tuple[Upload, bool]:
    # The tenant's row, held until the end: of two first chunks of one file the second finds the first.
    database.execute(select(tenants.c.tenant_id).where(tenants.c.tenant_id == upload.tenant_id).with_for_update())
    query = select(uploads).where(
        uploads.c.tenant_id == upload.tenant_id,
        uploads.c.first_sha256 == first.sha256,
        uploads.c.created_at >= since,
        uploads.c.created_by == upload.created_by,
        uploads.c.filename == upload.filename,
        uploads.c.total_chunks == upload.total_chunks,
    )
    found = _list(query.order_by(uploads.c.created_at).limit(1), database)
    if found:
        return found[0], False
    counted = upload.model_copy(
        update={
            "first_sha256": first.sha256,
            "chunk_bytes": first.size_bytes,
            "received_count": 1,
            "received_bytes": first.size_bytes,
        }
    )
    _open(counted, database)
    database.execute(upload_pieces.insert(), _piece_row(upload.upload_id, first, number=1))
    return counted, True


def _get(which: ColumnElement[bool], tenant_id: str | None, database: Connection) -> Upload | None:
    query = select(uploads).where(which)
    if tenant_id is not None:
        query = query.where(uploads.c.tenant_id == tenant_id)
    found = _list(query, database)
    return found[0] if found else None


def _add_piece(upload_id: str, piece: UploadPiece, at: datetime, database: Connection) -> tuple[Upload | None, bool]:
    upload = _locked(upload_id, database)
    if upload is None:
        return None, False
    known = select(upload_pieces.c.index).where(
        upload_pieces.c.upload_id == upload_id, upload_pieces.c.index == piece.index
    )
    if database.scalar(known) is not None:
        return upload, False
    number = upload.received_count + 1
    database.execute(upload_pieces.insert(), _piece_row(upload_id, piece, number))
    counts = {
        "received_count": number,
        "received_bytes": upload.received_bytes + piece.size_bytes,
        "changed_at": at,
    }
    return _edit(upload_id, counts, database), True


def _note_part(upload_id: str, indexes: Sequence[int], etag: str, database: Connection) -> bool:
    if _locked(upload_id, database) is None:
        return False
    these = (upload_pieces.c.upload_id == upload_id, upload_pieces.c.index.in_(indexes))
    open_ones = database.scalar(
        select(func.count()).select_from(upload_pieces).where(*these, upload_pieces.c.etag.is_(None))
    )
    if open_ones != len(indexes):
        return False
    database.execute(update(upload_pieces).where(*these).values(etag=etag))
    return True


def _list_pieces(upload_id: str, first: int, count: int | None, database: Connection) -> list[UploadPiece]:
    query = select(upload_pieces).where(upload_pieces.c.upload_id == upload_id, upload_pieces.c.index >= first)
    if count is not None:
        query = query.where(upload_pieces.c.index < first + count)
    return _pieces(query.order_by(upload_pieces.c.index), database)


def _list_arrivals(upload_id: str, first: int, last: int, database: Connection) -> list[UploadPiece]:
    number = upload_pieces.c.number
    query = select(upload_pieces).where(upload_pieces.c.upload_id == upload_id, number.between(first, last))
    return _pieces(query.order_by(number), database)


def _pieces(query: Any, database: Connection) -> list[UploadPiece]:
    rows = database.execute(query).mappings()
    return [UploadPiece.model_validate({name: row[name] for name in UploadPiece.model_fields}) for row in rows]


def _advance(
    upload_id: str,
    offset: int,
    pieces: Sequence[UploadPiece],
    database: Connection,
    *,
    tail: tuple[str, int] | None,
    at: datetime,
    expires_at: datetime,
) -> Upload | None:
    upload = _locked(upload_id, database)
    if upload is None or upload.received_bytes != offset:
        return None
    if pieces:
        database.execute(upload_pieces.insert(), [_piece_row(upload_id, piece) for piece in pieces])
    tail_key, tail_bytes = tail or (None, 0)
    whole_parts = upload.received_bytes - upload.tail_bytes + sum(piece.size_bytes for piece in pieces)
    changes = {
        "received_count": upload.received_count + len(pieces),
        "received_bytes": whole_parts + tail_bytes,
        "tail_key": tail_key,
        "tail_bytes": tail_bytes,
        "changed_at": at,
        "expires_at": expires_at,
    }
    return _edit(upload_id, changes, database)


def _edit(upload_id: str, changes: Mapping[str, Any], database: Connection) -> Upload | None:
    database.execute(update(uploads).where(uploads.c.upload_id == upload_id).values(**changes))
    return _get(uploads.c.upload_id == upload_id, None, database)


def _note_use(upload_id: str, tenant_id: str, batch_id: str, database: Connection) -> Upload | None:
    upload = _locked(upload_id, database)
    if upload is None or upload.tenant_id != tenant_id:
        return None
    if batch_id in upload.used_by:
        return upload
    return _edit(upload_id, {"used_by": [*upload.used_by, batch_id]}, database)


def _delete(upload_id: str, database: Connection) -> None:
    database.execute(delete(upload_pieces).where(upload_pieces.c.upload_id == upload_id))
    database.execute(delete(uploads).where(uploads.c.upload_id == upload_id))


def _locked(upload_id: str, database: Connection) -> Upload | None:
    """The upload, its row held until the transaction ends: two processes count one after the other."""
    found = _list(select(uploads).where(uploads.c.upload_id == upload_id).with_for_update(), database)
    return found[0] if found else None


def _list(query: Any, database: Connection) -> list[Upload]:
    return [Upload.model_validate(dict(row)) for row in database.execute(query).mappings()]


def _row(upload: Upload) -> dict[str, Any]:
    return upload.model_dump(mode="json", exclude=set(_TIMES)) | {name: getattr(upload, name) for name in _TIMES}


def _piece_row(upload_id: str, piece: UploadPiece, number: int | None = None) -> dict[str, Any]:
    return {"upload_id": upload_id, **piece.model_dump(), "number": number}

"""Putting uploads together: chunks become parts while others arrive, and the parts an object once all are there.

Every step may be done again, by whichever process comes to it: the same chunks make the same parts, and what one process
has removed because it is done with it, another finds noted as done.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from ingather.domain.upload_parts import group_of, groups, is_part, part_number
from ingather.models.errors import BlobNotFoundError, UploadDamagedError, UploadNotFoundError
from ingather.models.upload import Upload, UploadKind, UploadPiece, UploadState
from ingather.ports.blob_store import BlobStore
from ingather.ports.parted_objects import PartedObjects
from ingather.ports.uploads import Uploads


class UploadAssembly:
    """Works on uploads of one deployment."""

    def __init__(self, blobs: BlobStore, parted: PartedObjects, uploads: Uploads) -> None:
        self._blobs = blobs
        self._parted = parted
        self._uploads = uploads

    async def fold(self, upload: Upload, index: int) -> None:
        """Make a part of a chunk that was counted and its neighbours, if they are all there and come out as one.

        Of those that come at the same time, whichever was counted last does it, once for all.
        """
        group = group_of(upload, index)
        pieces = await self._pieces(upload, group)
        if pieces and max(pieces, key=lambda piece: piece.number or 0).index == index:
            await self._fold(upload, group, pieces)

    async def assemble(self, upload: Upload) -> Upload:
        """Make one object of an upload that has everything; answers the upload with it.

        Raises ``UploadNotFoundError`` where it was removed meanwhile, ``UploadDamagedError`` where its bytes are gone.
        """
        try:
            return await self._assembled(upload)
        except (BlobNotFoundError, UploadDamagedError) as error:
            found = await self._uploads.get_upload(upload.upload_id)
            if found is None:
                raise UploadNotFoundError("The upload was removed.") from error
            if found.state is not UploadState.RECEIVING:
                return found
            if isinstance(error, UploadDamagedError):
                raise
            raise UploadDamagedError("Pieces of the upload are missing in object storage.") from error

    async def discard(self, upload: Upload) -> None:
        """Remove all that came in and forget the upload. What a batch has taken over stays."""
        if upload.multipart_id is not None:
            await self._parted.abort_parts(upload.key, upload.multipart_id)
        for piece in await self._uploads.list_pieces(upload.upload_id):
            if piece.etag is None:
                await self._remove(piece.key)
        await self._remove(upload.tail_key)
        if upload.state is not UploadState.STARTED:
            for key in {upload.key, upload.whole_key or upload.key}:
                await self._remove(key)
        await self._uploads.delete_upload(upload.upload_id)

    async def _fold(self, upload: Upload, group: range, pieces: Sequence[UploadPiece]) -> None:
        if not is_part(upload, group, pieces) or pieces[0].etag is not None:
            return
        try:
            etag = await self._part(upload, part_number(upload, group), pieces)
        except BlobNotFoundError:
            # Another process may have done it, and removed what it was made of.
            pieces = await self._pieces(upload, group)
            if not pieces or pieces[0].etag is not None:
                return
            raise
        if await self._uploads.note_part(upload.upload_id, list(group), etag):
            for piece in pieces:
                await self._remove(piece.key)

    async def _pieces(self, upload: Upload, group: range) -> list[UploadPiece]:
        return await self._uploads.list_pieces(upload.upload_id, group.start, len(group))

    async def _part(self, upload: Upload, number: int, pieces: Sequence[UploadPiece]) -> str:
        assert upload.multipart_id is not None
        where = (upload.key, upload.multipart_id, number)
        if len(pieces) == 1:
            return await self._parted.copy_part(*where, pieces[0].key or "")
        content = bytearray()
        for piece in pieces:
            content += await self._blobs.get(piece.key or "")
        return await self._parted.put_part(*where, content)

    async def _assembled(self, upload: Upload) -> Upload:
        if upload.kind is UploadKind.CHUNKS:
            for group in groups(upload):
                await self._fold(upload, group, await self._pieces(upload, group))
        pieces = await self._uploads.list_pieces(upload.upload_id)
        parts = _parts(upload, pieces)
        if parts:
            assert upload.multipart_id is not None
            size = sum(piece.size_bytes for piece in pieces if piece.etag is not None)
            await self._parted.complete_parts(upload.key, upload.multipart_id, parts, size)
        elif upload.multipart_id is not None:
            await self._parted.abort_parts(upload.key, upload.multipart_id)
        loose = [piece for piece in pieces if piece.etag is None]
        key, sha256 = upload.key, (pieces[0].sha256 if len(pieces) == 1 else None) or upload.sha256
        if any(piece.size_bytes for piece in loose) or not parts:
            key = f"{upload.key}-whole"
            sha256 = (await self._blobs.put_stream(key, self._in_order(upload, pieces))).sha256
        stored = {"state": UploadState.STORED, "whole_key": key, "sha256": sha256, "stored_at": datetime.now(UTC)}
        found = await self._uploads.get_upload(upload.upload_id)
        if found is not None and found.state is UploadState.RECEIVING:
            found = await self._uploads.edit_upload(upload.upload_id, stored)
        if found is None:
            raise UploadNotFoundError("The upload was removed.")
        for piece in loose:
            await self._remove(piece.key)
        if key != upload.key and parts:
            await self._remove(upload.key)
        return found

    async def _in_order(self, upload: Upload, pieces: Sequence[UploadPiece]) -> AsyncIterator[bytes]:
        """All bytes, from the parts that were completed and from the chunks that are none."""
        offset = 0
        for piece in pieces:
            if piece.etag is None:
                stream = self._blobs.stream(piece.key or "")
            else:
                stream = self._blobs.stream(upload.key, offset=offset, size=piece.size_bytes)
                offset += piece.size_bytes
            async for content in stream:
                yield content

    async def _remove(self, key: str | None) -> None:
        if key is not None:
            await self._blobs.delete(key)


def _parts(upload: Upload, pieces: Sequence[UploadPiece]) -> list[tuple[int, str]]:
    """Numbers and tags of the parts there are. Chunks of one part share its tag."""
    if upload.kind is UploadKind.TUS:
        return [(piece.index + 1, piece.etag) for piece in pieces if piece.etag is not None]
    numbers = {
        part_number(upload, group_of(upload, piece.index)): piece.etag for piece in pieces if piece.etag is not None
    }
    return sorted(numbers.items())

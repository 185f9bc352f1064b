"""Chunks that become parts: which of several that come at the same time does it."""

from activities.upload_assembly import UploadAssembly
from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.adapters.memory.parted_objects import InMemoryPartedObjects
from ingather.models.upload import UploadPiece
from tests.support.catalog_records import NOON, chunked

SIZE = 6 * 1024 * 1024
"""Two of them share a part."""


class CountingParts(InMemoryPartedObjects):
    """Knows how often a part was put."""

    puts = 0

    async def put_part(self, key, multipart_id, number, content):
        self.puts += 1
        return await super().put_part(key, multipart_id, number, content)


async def test_chunks_that_come_at_the_same_time_are_made_a_part_once():
    """By the one that was counted last, whoever looks first; all of them see that their part is whole."""
    blobs, uploads = InMemoryBlobStore(), InMemoryCatalog().uploads
    parted = CountingParts(blobs)
    upload = chunked(multipart_id=await parted.begin_parts("uploads/whole"))
    pieces = [UploadPiece(index=index, size_bytes=SIZE, sha256="ab" * 32, key=f"chunks/{index}") for index in range(2)]
    for piece in pieces:
        await blobs.put(piece.key, bytes([piece.index]) * SIZE)
    await uploads.open_chunked(upload, pieces[0], NOON)
    counted, _ = await uploads.add_piece(upload.upload_id, pieces[1], NOON)

    puts = []
    for index in (0, 1, 0):
        await UploadAssembly(blobs, parted, uploads).fold(counted, index)
        puts.append(parted.puts)
    assert puts == [0, 1, 1]
    [etag] = {piece.etag for piece in await uploads.list_pieces(upload.upload_id)}
    assert etag is not None
    assert await blobs.stat("chunks/0") is None

"""The contract of uploads in pieces over memory, SQLite and PostgreSQL."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from ingather.models.accounts import Tenant
from ingather.models.errors import TenantNotFoundError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.upload import UploadKind, UploadPiece, UploadState
from tests.support.catalog_records import NOON, chunked

OTHER = "11111111-1111-7111-8111-111111111111"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
SHA = "ab" * 32


def chunk(index: int, size: int = 10, **facts) -> UploadPiece:
    return UploadPiece(index=index, size_bytes=size, sha256=SHA, key=f"chunks/{index}", **facts)


@pytest.fixture
async def uploads(catalog):
    await catalog.accounts.add_tenant(Tenant(tenant_id=OTHER, name="Acme", created_at=NOON))
    return catalog.uploads


async def test_an_upload_is_read_as_it_was_opened(uploads):
    """Every field comes back, for its own tenant; a tenant that nobody knows has none."""
    upload = chunked(kind=UploadKind.TUS, length=1 << 40, total_chunks=None)
    assert await uploads.open_upload(upload) == upload
    assert await uploads.get_upload(upload.upload_id, DEFAULT_TENANT_ID) == upload
    assert await uploads.get_upload(upload.upload_id, OTHER) is None
    assert await uploads.get_upload(str(uuid.uuid4())) is None
    with pytest.raises(TenantNotFoundError):
        await uploads.open_upload(chunked(tenant_id=str(uuid.uuid4())))


async def test_a_first_chunk_sent_again_finds_its_upload(uploads):
    """Within the time, for the same user, name, count and bytes; anything else is another upload."""
    upload = chunked()
    opened, is_new = await uploads.open_chunked(upload, chunk(0, size=50), NOON - 10 * MINUTE)
    assert is_new
    assert (opened.received_count, opened.received_bytes, opened.chunk_bytes) == (1, 50, 50)
    assert await uploads.open_chunked(chunked(), chunk(0), NOON - 10 * MINUTE) == (opened, False)
    others = [
        (chunked(created_by="max"), chunk(0), NOON),
        (chunked(filename="other.zip"), chunk(0), NOON),
        (chunked(total_chunks=5), chunk(0), NOON),
        (chunked(tenant_id=OTHER), chunk(0), NOON),
        (chunked(), chunk(0).model_copy(update={"sha256": "cd" * 32}), NOON),
        (chunked(created_at=NOON + HOUR), chunk(0), NOON + MINUTE),
    ]
    for other, piece, since in others:
        assert (await uploads.open_chunked(other, piece, since))[1], other


async def test_an_upload_is_found_by_the_batch_it_is_going_to_be(uploads):
    """By its own tenant, or by whoever names none; a batch that came otherwise has none."""
    upload, _ = await uploads.open_chunked(chunked(), chunk(0), NOON)
    await uploads.open_chunked(chunked(filename="other.zip"), chunk(0), NOON)
    assert await uploads.get_upload_of_batch(upload.batch_id) == upload
    assert await uploads.get_upload_of_batch(upload.batch_id, DEFAULT_TENANT_ID) == upload
    assert await uploads.get_upload_of_batch(upload.batch_id, OTHER) is None
    assert await uploads.get_upload_of_batch(str(uuid.uuid4())) is None


async def test_first_chunks_sent_side_by_side_are_one_upload(uploads):
    """Whoever comes first opens it; the others are answered with it."""
    answers = await asyncio.gather(*(uploads.open_chunked(chunked(), chunk(0), NOON) for _ in range(8)))
    assert sorted(is_new for _, is_new in answers) == [False] * 7 + [True]
    assert len({upload.upload_id for upload, _ in answers}) == 1


async def test_chunks_are_counted_once_whatever_their_order(uploads):
    """Side by side and repeated: each counts once, the first of a number stays, and exactly one caller sees them all."""
    upload, _ = await uploads.open_chunked(chunked(total_chunks=9), chunk(0), NOON)
    order = [5, 3, 8, 1, 2, 7, 4, 6, 5, 3, 1]
    answers = await asyncio.gather(
        *(uploads.add_piece(upload.upload_id, chunk(index, size=10 + index), NOON + MINUTE) for index in order)
    )
    assert sum(is_new for _, is_new in answers) == 8
    assert sum(is_new and known.has_all for known, is_new in answers) == 1
    known = await uploads.get_upload(upload.upload_id)
    assert (known.received_count, known.received_bytes, known.changed_at) == (9, 126, NOON + MINUTE)
    assert [piece.index for piece in await uploads.list_pieces(upload.upload_id)] == list(range(9))
    assert [piece.index for piece in await uploads.list_pieces(upload.upload_id, 4, 2)] == [4, 5]
    assert await uploads.add_piece(str(uuid.uuid4()), chunk(1), NOON) == (None, False)
    arrivals = await uploads.list_arrivals(upload.upload_id, 1, 9)
    assert [piece.number for piece in arrivals] == list(range(1, 10))
    assert sorted(piece.index for piece in arrivals) == list(range(9))
    assert await uploads.list_arrivals(upload.upload_id, 3, 4) == arrivals[2:4]


async def test_pieces_become_a_part_once(uploads):
    """All of them together or none; the second to make the part hears that it was done."""
    upload, _ = await uploads.open_chunked(chunked(), chunk(0), NOON)
    await uploads.add_piece(upload.upload_id, chunk(1), NOON)
    assert not await uploads.note_part(upload.upload_id, [1, 2], "tag")
    assert await uploads.note_part(upload.upload_id, [0, 1], "tag")
    assert not await uploads.note_part(upload.upload_id, [0, 1], "other")
    assert [piece.etag for piece in await uploads.list_pieces(upload.upload_id)] == ["tag", "tag"]


async def test_bytes_are_added_where_the_upload_ends(uploads):
    """The offset is compared and moved in one step; a tail counts until it is part of the next piece."""
    upload = await uploads.open_upload(chunked(kind=UploadKind.TUS, length=30, total_chunks=None))
    when = {"at": NOON + MINUTE, "expires_at": NOON + HOUR}
    part = UploadPiece(index=0, size_bytes=20, etag="a")
    after = await uploads.advance(upload.upload_id, 0, [part], tail=("tail", 5), **when)
    assert (after.received_bytes, after.tail_key, after.tail_bytes, after.received_count) == (25, "tail", 5, 1)
    assert await uploads.advance(upload.upload_id, 20, [], tail=None, **when) is None
    last = UploadPiece(index=1, size_bytes=10, etag="b")
    after = await uploads.advance(upload.upload_id, 25, [last], tail=None, **when)
    assert (after.received_bytes, after.tail_key, after.has_all, after.expires_at) == (30, None, True, NOON + HOUR)
    assert await uploads.advance(str(uuid.uuid4()), 0, [], tail=None, **when) is None


async def test_an_upload_notes_the_batches_that_need_it(uploads):
    """Each once; another tenant's batch does not find it."""
    upload = await uploads.open_upload(chunked(kind=UploadKind.TUS))
    for batch in ("a", "b", "a"):
        noted = await uploads.note_use(upload.upload_id, DEFAULT_TENANT_ID, batch)
    assert noted.used_by == ("a", "b")
    assert await uploads.note_use(upload.upload_id, OTHER, "c") is None


async def test_what_is_over_is_found_and_forgotten(uploads):
    """Expired ones page by page, and those that have all their chunks and no batch; what is deleted is unknown."""
    ids = [f"00000000-0000-7000-8000-00000000000{number}" for number in range(3)]
    for upload_id in ids:
        await uploads.open_chunked(chunked(upload_id=upload_id, filename=upload_id, total_chunks=1), chunk(0), NOON)
    expired = await uploads.list_expired(NOON + 25 * HOUR, 2)
    expired += await uploads.list_expired(NOON + 25 * HOUR, 2, after=expired[-1].upload_id)
    assert [each.upload_id for each in expired] == ids
    assert await uploads.list_expired(NOON, 2) == []
    await uploads.edit_upload(ids[0], {"state": UploadState.STARTED, "stored_at": NOON})
    assert [each.upload_id for each in await uploads.list_unstarted(NOON + MINUTE, 9)] == ids[1:]
    assert [each.upload_id for each in await uploads.list_unstarted(NOON + MINUTE, 1)] == ids[1:2]
    assert [each.upload_id for each in await uploads.list_unstarted(NOON + MINUTE, 9, after=ids[1])] == ids[2:]
    assert await uploads.list_unstarted(NOON, 9) == []
    await uploads.delete_upload(ids[1])
    await uploads.delete_upload(ids[1])
    assert await uploads.get_upload(ids[1]) is None
    assert await uploads.edit_upload(ids[1], {"state": UploadState.STARTED}) is None
    assert await uploads.list_pieces(ids[1]) == []

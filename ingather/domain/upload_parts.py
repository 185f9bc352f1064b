"""How the chunks of an upload become parts of an object: S3 takes 10,000 of them, and none but the last below 5 MiB.

Chunks are grouped by their numbers, so many to a group that a group of chunks as large as the first one makes a part:
a chunk of 8 MiB or more is a part by itself. What does not come out as a part, because its client sends chunks of
very different sizes, stays apart until the upload is put together.
"""

from collections.abc import Sequence

from ingather.models.upload import MAX_PARTS, MIN_PART_BYTES, Upload, UploadPiece

PART_BYTES = 8 * 1024 * 1024
"""What a part has at least, where chunks are alike: 64 GiB are 8,192 of them."""
MAX_JOINED_BYTES = 4 * PART_BYTES
"""Of several chunks that are joined in memory."""


def group_size(chunk_bytes: int) -> int:
    """Chunks to a part, where all are as large as the first one."""
    return -(-PART_BYTES // max(1, min(chunk_bytes, PART_BYTES)))


def group_of(upload: Upload, index: int) -> range:
    """The numbers of the chunks that share a part with this one."""
    size = group_size(upload.chunk_bytes)
    first = index // size * size
    return range(first, min(first + size, upload.total_chunks or 0))


def groups(upload: Upload) -> list[range]:
    """All of an upload, in their order."""
    total = upload.total_chunks or 0
    return [group_of(upload, first) for first in range(0, total, group_size(upload.chunk_bytes))]


def part_number(upload: Upload, group: range) -> int:
    """1-based place of a group among the parts."""
    return group.start // group_size(upload.chunk_bytes) + 1


def is_part(upload: Upload, group: range, pieces: Sequence[UploadPiece]) -> bool:
    """Whether a group that is whole can be a part."""
    size = sum(piece.size_bytes for piece in pieces)
    is_last = group.stop == upload.total_chunks
    return (
        len(pieces) == len(group)
        and part_number(upload, group) <= MAX_PARTS
        and size >= (1 if is_last else MIN_PART_BYTES)
        and (len(group) == 1 or size <= MAX_JOINED_BYTES)
    )

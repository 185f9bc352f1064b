"""An entry of an archive on its way into the store: pulled piece by piece in threads, with others in one object when it is small."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import ParamSpec, TypeVar

from activities.packing import Packer
from ingather.models.content import SMALL_UPLOAD_BYTES, BlobRef

P = ParamSpec("P")
R = TypeVar("R")

PIECE_BYTES = 1024 * 1024


async def store_entry(head: bytes, pieces: Iterator[bytes], packer: Packer) -> BlobRef:
    """Store an entry of which ``head`` is already out: all of it when it is small."""
    following = await in_thread(pulled, pieces, 1)
    if not following and len(head) <= SMALL_UPLOAD_BYTES:
        return await packer.add(head)

    async def parts() -> AsyncIterator[bytes]:
        yield head
        piece = following
        while piece:
            yield piece
            piece = await in_thread(pulled, pieces, PIECE_BYTES)

    return await packer.add_stream(parts())


def pulled(pieces: Iterator[bytes], size: int) -> bytes:
    """At least ``size`` bytes, or all that is left."""
    pulled = bytearray()
    for piece in pieces:
        pulled += piece
        if len(pulled) >= size:
            break
    return bytes(pulled)


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a short blocking step in a thread, and see it end even when cancelled: its file is closed next."""
    step = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        await asyncio.wait([step])
        raise

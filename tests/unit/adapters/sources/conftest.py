"""What tests of sources share."""

from collections.abc import Callable

import pytest

from ingather.adapters.fernet_box import FernetBox
from ingather.adapters.sources.opener import SourceOpener
from ingather.adapters.sources.patience import Patience
from ingather.models.archive import ArchiveLimits
from ingather.ports.source import Source
from tests.support.sources import connection

QUICK = Patience(attempts=4, first_wait_seconds=0.001, longest_wait_seconds=0.05, timeout_seconds=0.3)


@pytest.fixture
async def opened():
    """Opens a source by its type and settings; all are closed in the end."""
    sources: list[Source] = []

    def open_source(source_type: str, settings: dict, *, roots=(), allow_private=True, **limits) -> Source:
        opener = SourceOpener(
            FernetBox([]), roots=roots, allow_private=allow_private, patience=QUICK,
            archive_limits=ArchiveLimits(**limits),
        )  # fmt: skip
        sources.append(opener.open(connection("c", source_type, settings=settings)))
        return sources[-1]

    yield open_source
    for source in sources:
        await source.close()


Open = Callable[..., Source]


async def content_of(source: Source, file_id: str) -> bytes:
    """A file, downloaded whole."""
    async with source.download(file_id) as download:
        return b"".join([chunk async for chunk in download.chunks])


async def listed(source: Source, folder: str | None = None, limit: int = 100) -> list[str]:
    """Ids of everything in a folder, over all its pages; folders end in a slash."""
    found, cursor = [], None
    while True:
        page = await source.list_files(folder, cursor=cursor, limit=limit)
        assert len(page.files) <= limit
        found += [file.file_id + "/" * file.is_folder for file in page.files]
        cursor = page.next_cursor
        if cursor is None:
            return found

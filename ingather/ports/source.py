"""Sources: where documents lie that nobody uploads, each behind a connection."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ingather.models.source import Connection, SourceFile


@dataclass(frozen=True, slots=True)
class SourcePage:
    """Part of a folder."""

    files: tuple[SourceFile, ...]
    next_cursor: str | None = None
    """Where the next page begins; None on the last one."""


@dataclass(frozen=True, slots=True)
class Download:
    """A file on its way from its source."""

    file: SourceFile
    """As the source describes it now."""
    chunks: AsyncIterator[bytes]
    """Its bytes in pieces of any size, with flat memory.

    Raises ``SourceUnavailableError`` when the connection breaks, and at the end when fewer or other bytes came than the
    source had announced: the whole is only to be trusted when the iterator has ended without an error.
    """


class Source(Protocol):
    """One connection, opened. Nothing blocks the event loop, nothing is written, every method may be repeated.

    Methods raise ``SourceUnavailableError`` when the source does not answer as it should (``facts['retry_after_seconds']``
    where it said when to come again), ``SourceFileNotFoundError`` for a file or folder that is not there, and
    ``SourceAccessDeniedError`` where the source refuses: its credentials, or this file.
    """

    async def list_files(self, folder: str | None = None, *, cursor: str | None = None, limit: int = 100) -> SourcePage:
        """Files and folders right below ``folder``, the connection's own root when None.

        At most ``limit`` of them, in an order that lets ``cursor`` go on where the page before ended.
        """
        ...

    async def describe(self, file_id: str) -> SourceFile:
        """One file or folder."""
        ...

    def download(self, file_id: str) -> AbstractAsyncContextManager[Download]:
        """A file's bytes. What is not read when the block ends is let go.

        Raises ``SourceFileNotFoundError`` also for a folder.
        """
        ...

    async def check(self) -> None:
        """Use the connection as a batch would, with as little traffic as will do; raises what is wrong."""
        ...

    async def close(self) -> None:
        """Release connections; the source is not used afterwards."""
        ...


class SourceFactory(Protocol):
    """Opens sources."""

    def open(self, connection: Connection) -> Source:
        """The source behind a connection; nothing is asked of it before it is used.

        Raises ``SourceAccessDeniedError`` where this deployment does not allow it (a path under no allowed root),
        ``CredentialKeyMissingError`` where its credentials cannot be read, and ``ValueError`` never.
        """
        ...

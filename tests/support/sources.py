"""Sources in memory for tests of what uses them, that can be told to fail in the middle."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ingather.models.errors import SourceFileNotFoundError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.source import Connection, SourceFile, SourceRef, SourceType
from ingather.ports.source import Download, SourcePage


@dataclass
class SourceStandIn:
    """One source: its files by id."""

    files: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """Where a file goes by another name than its id."""
    errors: list[Exception] = field(default_factory=list)
    """Raised by the next downloads, one each, before anything comes."""
    breaks_after: int | None = None
    """Bytes after which a download breaks off, once, with the next error."""
    piece_bytes: int = 1024 * 1024
    says_size: bool = True
    chunk_gate: asyncio.Event | None = None
    """Downloads wait here before their first byte."""
    seconds_before_bytes: float = 0.0
    """How long downloads take for their first byte."""
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    """One does."""
    downloads: int = 0
    is_closed: bool = False

    async def list_files(self, folder: str | None = None, *, cursor: str | None = None, limit: int = 100) -> SourcePage:
        return SourcePage(tuple(self._file(each) for each in sorted(self.files)[:limit]))

    async def describe(self, file_id: str) -> SourceFile:
        return self._file(file_id)

    @asynccontextmanager
    async def download(self, file_id: str) -> AsyncIterator[Download]:
        self.downloads += 1
        if self.errors and self.breaks_after is None:
            raise self.errors.pop(0)
        file = self._file(file_id)
        yield Download(file, self._chunks(self.files[file_id]))

    async def check(self) -> None:
        return

    async def close(self) -> None:
        self.is_closed = True

    async def _chunks(self, content: bytes) -> AsyncIterator[bytes]:
        if self.chunk_gate is not None:
            self.waits.set()
            await self.chunk_gate.wait()
        if self.seconds_before_bytes:
            await asyncio.sleep(self.seconds_before_bytes)
        for start in range(0, len(content), self.piece_bytes):
            if self.breaks_after is not None and start >= self.breaks_after:
                self.breaks_after = None
                raise self.errors.pop(0)
            yield content[start : start + self.piece_bytes]

    def _file(self, file_id: str) -> SourceFile:
        if file_id not in self.files:
            raise SourceFileNotFoundError(f"There is no {file_id!r}.")
        size = len(self.files[file_id]) if self.says_size else None
        return SourceFile(file_id=file_id, name=self.names.get(file_id, file_id.rsplit("/", 1)[-1]), size_bytes=size)


@dataclass
class SourcesStandIn:
    """Opens stand-ins, by connection id."""

    by_id: dict[str, SourceStandIn] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)

    def open(self, connection: Connection) -> SourceStandIn:
        self.opened.append(connection.connection_id)
        return self.by_id[connection.connection_id]


def connection(connection_id: str, source_type: SourceType = SourceType.S3, **facts: object) -> Connection:
    """One of the default tenant."""
    given = {"tenant_id": DEFAULT_TENANT_ID, "created_at": datetime.now(UTC)}
    return Connection.model_validate({"connection_id": connection_id, "source_type": source_type, **given, **facts})


def ref(connection_id: str, file_id: str, source_type: SourceType = SourceType.S3) -> SourceRef:
    return SourceRef(connection_id=connection_id, source_type=source_type, file_id=file_id)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

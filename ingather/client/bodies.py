"""Bodies that stream: one file open at a time, 256 KiB in memory, for any number of files.

httpx's own encoder wants every file open before the first byte leaves, which ends at the limit of
open files; this one opens each when its turn comes. Where every size is known the length is told
ahead, so a server can refuse at once what is too large; a repeated attempt reads the files again.
"""

import base64
import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

from ingather.client.errors import UploadError

CHUNK_BYTES = 256 * 1024
_SPEC_LINE_BYTES = 1_000_000

Sent = Callable[[int], None]
"""Called with the total of bytes handed to the connection so far; starts again at 0 on a repeated attempt."""


# --- What is sent ---------------------------------------------------------------------------


class Source(Protocol):
    """Bytes under a name."""

    @property
    def name(self) -> str: ...

    @property
    def size_bytes(self) -> int | None:
        """None where nobody knows before the end."""
        ...

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be read again from its beginning."""
        ...

    def pieces(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A file to send, with the name the batch will know it by."""

    path: Path
    name: str
    size_bytes: int

    @classmethod
    def at(cls, path: str | PathLike[str], name: str | None = None) -> Self:
        """A file as it is now.

        Raises:
            UploadError: it is not there, or cannot be looked at.
        """
        path = Path(path)
        try:
            return cls(path, name or path.name, path.stat().st_size)
        except OSError as error:
            raise _unreadable(path, error) from error

    @property
    def is_repeatable(self) -> bool:
        return True

    def pieces(self) -> Iterator[bytes]:
        """The bytes that were promised, not one more. A file that shrinks meanwhile ends with a clear word."""
        try:
            with self.path.open("rb") as stream:
                yield from _read_exactly(stream, self.size_bytes, str(self.path))
        except OSError as error:
            raise _unreadable(self.path, error) from error


@dataclass(frozen=True, slots=True)
class UploadBytes:
    """A document that is in memory."""

    name: str
    content: bytes = field(repr=False)

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    @property
    def is_repeatable(self) -> bool:
        return True

    def pieces(self) -> Iterator[bytes]:
        yield self.content


class UploadStream:
    """A document that is read from a stream, from where it stands; a stream that can seek can be sent again.

    Args:
        name: the name the batch will know it by.
        stream: opened in binary mode, and closed by whoever opened it.
        size_bytes: where it is known; without it the request is sent in chunks.
    """

    def __init__(self, name: str, stream: BinaryIO, size_bytes: int | None = None) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self._stream = stream
        self._start = stream.tell() if stream.seekable() else None

    @property
    def is_repeatable(self) -> bool:
        return self._start is not None

    def pieces(self) -> Iterator[bytes]:
        try:
            if self._start is not None:
                self._stream.seek(self._start)
            if self.size_bytes is not None:
                yield from _read_exactly(self._stream, self.size_bytes, self.name)
                return
            while piece := self._stream.read(CHUNK_BYTES):
                yield piece
        except OSError as error:
            raise _unreadable(self.name, error) from error


Sendable = str | PathLike[str] | Source | tuple[str, bytes | str | PathLike[str] | BinaryIO]
"""A path, or a name with bytes, a path or a stream, or one of the classes above."""


def source_of(item: Sendable) -> Source:
    """What a caller may write for a file.

    Raises:
        UploadError: a path cannot be read.
    """
    match item:
        case str() | PathLike():
            return UploadFile.at(item)
        case (name, bytes() as content):
            return UploadBytes(name, content)
        case (name, str() | PathLike() as path):
            return UploadFile.at(path, name)
        case (name, stream):
            return UploadStream(name, stream)
        case _:
            return item


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document inline: its bytes, or its text."""

    filename: str
    content: bytes | str = field(repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """With its bytes as base64."""
        content = self.content.encode() if isinstance(self.content, str) else self.content
        found: dict[str, Any] = {"filename": self.filename, "content": base64.b64encode(content).decode()}
        return found | ({"metadata": dict(self.metadata)} if self.metadata else {})


@dataclass(frozen=True, slots=True)
class Selection:
    """Files of a source, each fetched when its turn comes."""

    connection_id: str
    source_type: str
    """Of the connection, such as ``local_directory``."""
    file_ids: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        return {
            "connection_id": self.connection_id,
            "source_type": self.source_type,
            "file_ids": list(self.file_ids),
        }


# --- Bodies ---------------------------------------------------------------------------------


class Upload(ABC):
    """A request's body. Every iteration is a whole body, as often as ``is_repeatable`` allows."""

    content_type: str
    has_begun = False
    """Whether a byte of it was asked for."""

    def __init__(self, sent: Sent | None = None) -> None:
        self._sent = sent

    @property
    @abstractmethod
    def content_length(self) -> int | None:
        """None where it is known only at the end."""

    @property
    def is_repeatable(self) -> bool:
        return True

    @abstractmethod
    def _pieces(self) -> Iterator[bytes]: ...

    def __iter__(self) -> Iterator[bytes]:
        self.has_begun = True
        total = 0
        for piece in self._pieces():
            yield piece
            total += len(piece)
            if self._sent is not None:
                self._sent(total)


class MultipartUpload(Upload):
    """Files as parts of one form."""

    def __init__(self, files: Sequence[Source], fields: Mapping[str, Any], *, sent: Sent | None = None) -> None:
        """Prepare headers and lengths; opens nothing yet.

        Args:
            files: sent as parts named ``files``, in order.
            fields: sent before the files, each as a JSON part.
            sent: progress callback.
        """
        super().__init__(sent)
        self._boundary = secrets.token_hex(16)
        self._fields = b"".join(self._field(name, value) for name, value in fields.items())
        self._parts = [(self._file_header(file), file) for file in files]
        self._closing = f"--{self._boundary}--\r\n".encode()
        self.content_type = f"multipart/form-data; boundary={self._boundary}"

    @property
    def content_length(self) -> int | None:
        total = len(self._fields) + len(self._closing)
        for header, file in self._parts:
            if file.size_bytes is None:
                return None
            total += len(header) + file.size_bytes + len(b"\r\n")
        return total

    @property
    def is_repeatable(self) -> bool:
        return all(file.is_repeatable for _, file in self._parts)

    def _pieces(self) -> Iterator[bytes]:
        yield self._fields
        for header, file in self._parts:
            yield header
            yield from file.pieces()
            yield b"\r\n"
        yield self._closing

    def _field(self, name: str, value: Any) -> bytes:
        head = f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n'
        return f"{head}Content-Type: application/json\r\n\r\n".encode() + json.dumps(value).encode() + b"\r\n"

    def _file_header(self, file: Source) -> bytes:
        head = (
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="files"; filename="{_quoted(file.name)}"\r\n'
        )
        return f"{head}Content-Type: application/octet-stream\r\n\r\n".encode("utf-8", "replace")


class _Lines(Upload):
    content_type = "application/x-ndjson"

    def __init__(self, spec: Mapping[str, Any] | None, sent: Sent | None) -> None:
        super().__init__(sent)
        self._head = json.dumps({"spec": dict(spec)}).encode() + b"\n" if spec else b""


class LinesUpload(_Lines):
    """An NDJSON manifest from a file, behind a line about the batch where there is one."""

    def __init__(self, path: Path, spec: Mapping[str, Any] | None = None, *, sent: Sent | None = None) -> None:
        super().__init__(spec, sent)
        self._file = UploadFile.at(path)

    @property
    def content_length(self) -> int:
        return len(self._head) + self._file.size_bytes

    def _pieces(self) -> Iterator[bytes]:
        if self._head:
            yield self._head
        yield from self._file.pieces()


class DocumentLines(_Lines):
    """Documents as lines, made as they are sent: as many as an iterator brings.

    A list can be sent again; a generator only once.
    """

    def __init__(
        self,
        documents: Iterable[NewDocument],
        spec: Mapping[str, Any] | None = None,
        *,
        sent: Sent | None = None,
    ) -> None:
        super().__init__(spec, sent)
        self._documents = documents

    @property
    def content_length(self) -> None:
        return None

    @property
    def is_repeatable(self) -> bool:
        return not isinstance(self._documents, Iterator)

    def _pieces(self) -> Iterator[bytes]:
        kept = [self._head] if self._head else []
        size = len(self._head)
        for document in self._documents:
            kept.append(json.dumps(document.to_json()).encode() + b"\n")
            size += len(kept[-1])
            if size >= CHUNK_BYTES:
                yield b"".join(kept)
                kept, size = [], 0
        if kept:
            yield b"".join(kept)


def has_spec_line(path: Path) -> bool:
    """Whether an NDJSON manifest begins with a line about the batch."""
    with path.open("rb") as file:
        line = file.readline(_SPEC_LINE_BYTES)
    try:
        first = json.loads(line)
    except ValueError:
        return False
    return isinstance(first, dict) and "spec" in first


def _quoted(name: str) -> str:
    """A file name as a quoted string, the rest UTF-8; no line end of it can break out of its header."""
    return "".join(
        character if character.isprintable() else "_" for character in name.replace("\\", "\\\\").replace('"', '\\"')
    )


def _read_exactly(stream: BinaryIO, size_bytes: int, what: str) -> Iterator[bytes]:
    left = size_bytes
    while left and (piece := stream.read(min(CHUNK_BYTES, left))):
        left -= len(piece)
        yield piece
    if left:
        raise UploadError(
            "A file became shorter while it was sent",
            detail=f"{what}: {left} of {size_bytes} bytes are missing",
            action="Nothing was submitted. Wait until the file is complete and submit again.",
        )


def _unreadable(what: object, error: OSError) -> UploadError:
    return UploadError(
        "A file cannot be read",
        detail=f"{what}: {error.strerror or error}",
        action="Nothing was submitted. Check the file and submit again.",
    )

"""Bodies that stream from disk: one file open at a time, 256 KiB in memory, for any number of files.

httpx's own encoder wants every file open before the first byte leaves, which ends at the limit of
open files; this one opens each when its turn comes. The length is known ahead, so a server can refuse
at once what is too large, and a repeated attempt reads the files again.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ingather.cli.errors import CliError

CHUNK_BYTES = 256 * 1024
_SPEC_LINE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A file to send, with the name the batch will know it by."""

    path: Path
    name: str
    size_bytes: int


Sent = Callable[[int], None]
"""Called with the total of bytes handed to the connection so far; starts again at 0 on a repeated attempt."""


class Upload(Protocol):
    """A request's body. Iterate as often as needed; every iteration is a whole body."""

    @property
    def content_type(self) -> str: ...

    @property
    def content_length(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...


def has_spec_line(path: Path) -> bool:
    """Whether an NDJSON manifest begins with a line about the batch."""
    with path.open("rb") as file:
        line = file.readline(_SPEC_LINE_BYTES)
    try:
        first = json.loads(line)
    except ValueError:
        return False
    return isinstance(first, dict) and "spec" in first


class LinesUpload:
    """An NDJSON manifest from a file, behind a line about the batch where there is one."""

    content_type = "application/x-ndjson"

    def __init__(self, path: Path, spec: Mapping[str, Any] | None = None, *, sent: Sent | None = None) -> None:
        self._head = json.dumps({"spec": dict(spec)}).encode() + b"\n" if spec else b""
        self._file = UploadFile(path, path.name, path.stat().st_size)
        self._sent = sent

    @property
    def content_length(self) -> int:
        return len(self._head) + self._file.size_bytes

    def __iter__(self) -> Iterator[bytes]:
        total = 0
        for piece in self._pieces():
            yield piece
            total += len(piece)
            if self._sent is not None:
                self._sent(total)

    def _pieces(self) -> Iterator[bytes]:
        if self._head:
            yield self._head
        yield from _read_exactly(self._file)


class MultipartUpload:
    """The body of one submission. Iterate as often as needed; every iteration is a whole body."""

    def __init__(self, files: Sequence[UploadFile], fields: Mapping[str, Any], *, sent: Sent | None = None) -> None:
        """Prepare headers and lengths; opens nothing yet.

        Args:
            files: sent as parts named ``files``, in order.
            fields: sent before the files, each as a JSON part.
            sent: progress callback.
        """
        self._boundary = secrets.token_hex(16)
        self._fields = b"".join(self._field(name, value) for name, value in fields.items())
        self._parts = [(self._file_header(file), file) for file in files]
        self._closing = f"--{self._boundary}--\r\n".encode()
        self._sent = sent

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def content_length(self) -> int:
        files = sum(len(header) + file.size_bytes + len(b"\r\n") for header, file in self._parts)
        return len(self._fields) + files + len(self._closing)

    def __iter__(self) -> Iterator[bytes]:
        total = 0
        for piece in self._pieces():
            yield piece
            total += len(piece)
            if self._sent is not None:
                self._sent(total)

    def _pieces(self) -> Iterator[bytes]:
        yield self._fields
        for header, file in self._parts:
            yield header
            yield from _read_exactly(file)
            yield b"\r\n"
        yield self._closing

    def _field(self, name: str, value: Any) -> bytes:
        head = f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n'
        return f"{head}Content-Type: application/json\r\n\r\n".encode() + json.dumps(value).encode() + b"\r\n"

    def _file_header(self, file: UploadFile) -> bytes:
        head = (
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="files"; filename="{_quoted(file.name)}"\r\n'
        )
        return f"{head}Content-Type: application/octet-stream\r\n\r\n".encode("utf-8", "replace")


def _quoted(name: str) -> str:
    """A file name as a quoted string, the rest UTF-8. Names never hold line ends: ``selection`` saw to it."""
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _read_exactly(file: UploadFile) -> Iterator[bytes]:
    """The bytes that were promised, not one more. A file that shrinks meanwhile ends the upload with a clear word."""
    left = file.size_bytes
    try:
        with file.path.open("rb") as stream:
            while left and (piece := stream.read(min(CHUNK_BYTES, left))):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise CliError(
            "A file cannot be read",
            detail=f"{file.path}: {error.strerror or error}",
            action="Nothing was submitted. Check the file and submit again.",
        ) from error
    if left:
        raise CliError(
            "A file became shorter while it was sent",
            detail=f"{file.path}: {left} of {file.size_bytes} bytes are missing",
            action="Nothing was submitted. Wait until the file is complete and submit again.",
        )

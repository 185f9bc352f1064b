"""What the worker and its parser processes say to each other, and in which bytes.

Requests and replies travel as a JSON head and a binary body. JSON on purpose: a parser may have been
taken over by the document it read, and unpickling what it sends would hand the worker over too. For
the same reason every answer is checked for its shape before anything is taken from it.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

import orjson
from pydantic import TypeAdapter

from ingather.models.content import PreparedDocument, PrepareRequest, Stage

STAGES: Final = tuple(Stage)
"""Stages by the number a parser process writes into its cell of the shared page, 0 being none."""
CELL: Final = struct.Struct("<B7xQ")
"""A cell: the stage's number, and the processor time in microseconds the process had when the document began."""

_FRAME: Final = struct.Struct("<IQ")
_RECEIVE_BYTES: Final = 256 * 1024
_SEND_TOGETHER_BYTES: Final = 256 * 1024
"""A body up to this size is copied behind its head, which saves a system call; a larger one is sent from where it lies."""
_MAX_HEAD_BYTES: Final = 16 * 1024 * 1024

_REQUEST_FIELDS: Final = tuple(f.name for f in fields(PrepareRequest) if f.name != "content")
_RESULT_FIELDS: Final = tuple(f.name for f in fields(PreparedDocument) if f.name != "artifact")

Outcome = Literal["prepared", "refused", "out_of_memory", "failed"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A ``DocumentError`` on its way; of an unforeseen exception only its type's name, as ``code``."""

    code: str
    message: str = ""
    action: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """How one document ended in its parser process."""

    outcome: Outcome
    retire: bool = False
    """The process asks to be replaced: it holds more memory than it should."""
    prepared: dict[str, Any] | None = None
    """``PreparedDocument`` without its artifact."""
    error: Refusal | None = None
    peak_memory_bytes: int = 0
    artifact: bytes = field(default=b"", repr=False)

    def document(self) -> PreparedDocument:
        """The result of a document that was ``prepared``. Raises ``ValueError`` where it is none."""
        return _PREPARED.validate_python({**(self.prepared or {}), "artifact": self.artifact})


_PREPARED: Final = TypeAdapter(PreparedDocument)
_REPLY: Final = TypeAdapter(Reply)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a parser process ended, as the server that waited for it tells."""

    signal: int
    """0 where it exited by itself."""
    status: int
    peak_memory_bytes: int
    says_out_of_memory: bool
    """Its last words were those of an allocator."""
    cpu_seconds: float = 0.0
    """All the processor time it had, for every document it was given."""


def prepared_head(prepared: PreparedDocument) -> dict[str, Any]:
    """A result without its artifact, for ``Reply.prepared``."""
    return {name: getattr(prepared, name) for name in _RESULT_FIELDS}


# --- In the worker: on the event loop -----------------------------------------------------


@contextlib.asynccontextmanager
async def sent_along(sock: socket.socket, requests: Sequence[PrepareRequest]) -> AsyncIterator[None]:
    """Hand documents to a parser process while the block reads what it answers.

    At the same time, because a process that cannot get rid of an answer takes no further document.
    """
    sending = asyncio.create_task(_send_requests(sock, requests))
    try:
        yield
    finally:
        sending.cancel()
        # That it could not be sent is told by the answer that does not come.
        await asyncio.gather(sending, return_exceptions=True)


async def _send_requests(sock: socket.socket, requests: Sequence[PrepareRequest]) -> None:
    loop = asyncio.get_running_loop()
    together = bytearray()
    for request in requests:
        together += _framed_head(request)
        if len(together) + len(request.content) <= _SEND_TOGETHER_BYTES:
            together += request.content
        else:
            await loop.sock_sendall(sock, together)
            await loop.sock_sendall(sock, memoryview(request.content))
            together = bytearray()
    if together:
        await loop.sock_sendall(sock, together)


def _framed_head(request: PrepareRequest) -> bytes:
    head = orjson.dumps({name: getattr(request, name) for name in _REQUEST_FIELDS})
    return _FRAME.pack(len(head), len(request.content)) + head


def is_silent(sock: socket.socket) -> bool:
    """Whether a process that was asked nothing says nothing. One that talks, or is gone, gets no document."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class ReplyReader:
    """Answers of one parser process, in the order of its documents.

    Args:
        sock: non-blocking.
        max_body_bytes: of one answer.
    """

    def __init__(self, sock: socket.socket, *, max_body_bytes: int) -> None:
        self._sock = sock
        self._max_body_bytes = max_body_bytes
        self._received = b""

    async def receive(self) -> Reply:
        """Wait for a document's end.

        Raises ``ConnectionError`` where the process ended instead, and of that ``ConnectionAbortedError`` where it
        talks nonsense.
        """
        received = await _at_least(self._sock, self._received, _FRAME.size)
        head_size, body_size = _FRAME.unpack_from(received)
        if head_size > _MAX_HEAD_BYTES or body_size > self._max_body_bytes:
            raise ConnectionAbortedError(f"parser process announces {head_size} + {body_size} bytes")
        body_start = _FRAME.size + head_size
        received = await _at_least(self._sock, received, body_start)
        try:
            # Not JSON, or JSON of another shape: the process is not itself any more.
            head = orjson.loads(received[_FRAME.size : body_start])
            body = await _rest(self._sock, memoryview(received)[body_start:], body_size)
            self._received = received[body_start + body_size :]
            return _REPLY.validate_python({**head, "artifact": body})
        except (ValueError, TypeError) as error:
            raise ConnectionAbortedError("parser process answers in no known words") from error


async def _at_least(sock: socket.socket, received: bytes, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    while len(received) < size:
        more = await loop.sock_recv(sock, _RECEIVE_BYTES)
        if not more:
            raise ConnectionResetError("parser process ended")
        received = received + more if received else more
    return received


async def _rest(sock: socket.socket, begun: memoryview, size: int) -> bytes:
    if len(begun) >= size:
        return bytes(begun[:size])
    loop = asyncio.get_running_loop()
    body = bytearray(size)
    body[: len(begun)] = begun
    view, position = memoryview(body), len(begun)
    while position < size:
        count = await loop.sock_recv_into(sock, view[position:])
        if not count:
            raise ConnectionResetError("parser process ended")
        position += count
    return bytes(body)


# --- In a parser process: blocking --------------------------------------------------------


def receive_request(sock: socket.socket) -> PrepareRequest | None:
    """Wait for the next document; None when there will be no more."""
    frame = sock.recv(_FRAME.size, socket.MSG_WAITALL)
    if len(frame) < _FRAME.size:
        return None
    head_size, body_size = _FRAME.unpack(frame)
    head = orjson.loads(sock.recv(head_size, socket.MSG_WAITALL))
    content = _receive_exactly(sock, body_size)
    return None if content is None else PrepareRequest(content=content, **head)


def _receive_exactly(sock: socket.socket, size: int) -> bytes | None:
    content = sock.recv(size, socket.MSG_WAITALL) if size else b""
    while len(content) < size:  # A signal may end the wait early.
        more = sock.recv(size - len(content), socket.MSG_WAITALL)
        if not more:
            return None
        content += more
    return content


def send_reply(sock: socket.socket, reply: Reply) -> None:
    """Tell how a document ended."""
    head = orjson.dumps(
        {
            "outcome": reply.outcome,
            "retire": reply.retire,
            "prepared": reply.prepared,
            "error": asdict(reply.error) if reply.error is not None else None,
            "peak_memory_bytes": reply.peak_memory_bytes,
        },
        default=str,
    )
    prefix = _FRAME.pack(len(head), len(reply.artifact)) + head
    if len(reply.artifact) <= _SEND_TOGETHER_BYTES:
        sock.sendall(prefix + reply.artifact)
    else:
        sock.sendall(prefix)
        sock.sendall(reply.artifact)


# --- Between the worker and the fork server -----------------------------------------------

ORDER: Final = struct.Struct("<cQ")
"""``F`` fork child n (its socket comes along), ``K`` kill child n."""
FORK: Final = b"F"
KILL: Final = b"K"


def exit_line(child_id: int, ended: Exit) -> bytes:
    """A child's end as a line for the worker."""
    return orjson.dumps({"event": "exited", "child": child_id, "exit": asdict(ended)}) + b"\n"


def forked_line(child_id: int, pid: int) -> bytes:
    """A child's start as a line for the worker."""
    return orjson.dumps({"event": "forked", "child": child_id, "pid": pid}) + b"\n"


def ready_line(thread_count: int, *, in_force: dict[str, str], missing: dict[str, str]) -> bytes:
    """The server can fork now, and this is how it confines what it forks."""
    said = {"event": "ready", "threads": thread_count, "in_force": in_force, "missing": missing}
    return orjson.dumps(said) + b"\n"

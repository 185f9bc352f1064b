"""What the worker and its parser processes say to each other, and in which bytes.

Requests and replies travel as a JSON head and a binary body. JSON on purpose: a parser may have been
taken over by the document it read, and unpickling what it sends would hand the worker over too.
"""

import asyncio
import socket
import struct
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

import orjson

from ingather.models.content import PreparedDocument, PrepareRequest, Stage

STAGES: Final = tuple(Stage)
"""Stages by the number a parser process writes into its cell of the shared page, 0 being none."""

_FRAME: Final = struct.Struct("<IQ")
_RECEIVE_BYTES: Final = 256 * 1024
_SEND_TOGETHER_BYTES: Final = 256 * 1024
"""A body up to this size is copied behind its head, which saves a system call; a larger one is sent from where it lies."""
_MAX_HEAD_BYTES: Final = 16 * 1024 * 1024

_REQUEST_FIELDS: Final = tuple(f.name for f in fields(PrepareRequest) if f.name != "content")
_RESULT_FIELDS: Final = tuple(f.name for f in fields(PreparedDocument) if f.name != "artifact")

Outcome = Literal["prepared", "refused", "out_of_memory", "failed"]


@dataclass(frozen=True, slots=True)
class Reply:
    """How one document ended in its parser process."""

    outcome: Outcome
    retire: bool = False
    """The process asks to be replaced: it holds more memory than it should."""
    prepared: dict[str, Any] | None = None
    """``PreparedDocument`` without its artifact."""
    error: dict[str, Any] | None = None
    """``code``, ``message``, ``action`` and ``facts`` of a ``DocumentError``; for ``failed`` the exception's type."""
    peak_memory_bytes: int = 0
    artifact: bytes = field(default=b"", repr=False)

    def document(self) -> PreparedDocument:
        """The result of a document that was ``prepared``."""
        assert self.prepared is not None
        values = {**self.prepared, "warnings": tuple(self.prepared["warnings"])}
        return PreparedDocument(artifact=self.artifact, **values)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a parser process ended, as the server that waited for it tells."""

    signal: int
    """0 where it exited by itself."""
    status: int
    peak_memory_bytes: int
    says_out_of_memory: bool
    """Its last words were those of an allocator."""


def prepared_head(prepared: PreparedDocument) -> dict[str, Any]:
    """A result without its artifact, for ``Reply.prepared``."""
    return {name: getattr(prepared, name) for name in _RESULT_FIELDS}


# --- In the worker: on the event loop -----------------------------------------------------


async def send_request(sock: socket.socket, request: PrepareRequest) -> None:
    """Hand a document to a parser process."""
    loop = asyncio.get_running_loop()
    head = orjson.dumps({name: getattr(request, name) for name in _REQUEST_FIELDS})
    prefix = _FRAME.pack(len(head), len(request.content)) + head
    if len(request.content) <= _SEND_TOGETHER_BYTES:
        await loop.sock_sendall(sock, prefix + request.content)
    else:
        await loop.sock_sendall(sock, prefix)
        await loop.sock_sendall(sock, memoryview(request.content))


async def receive_reply(sock: socket.socket, *, max_body_bytes: int) -> Reply:
    """Wait for a document's end. Raises ``ConnectionError`` where the process ended instead, or talks nonsense."""
    received = await _at_least(sock, b"", _FRAME.size)
    head_size, body_size = _FRAME.unpack_from(received)
    if head_size > _MAX_HEAD_BYTES or body_size > max_body_bytes:
        raise ConnectionAbortedError(f"parser process announces {head_size} + {body_size} bytes")
    body_start = _FRAME.size + head_size
    received = await _at_least(sock, received, body_start)
    try:
        head = orjson.loads(received[_FRAME.size : body_start])
        body = await _rest(sock, memoryview(received)[body_start:], body_size)
        return Reply(**head, artifact=body)
    except (orjson.JSONDecodeError, TypeError) as error:
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
            "error": reply.error,
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


def ready_line(thread_count: int) -> bytes:
    """The server can fork now."""
    return orjson.dumps({"event": "ready", "threads": thread_count}) + b"\n"

"""Starting the fork server: a clean interpreter, one core, no thread, nothing of ours inherited but two descriptors."""

import contextlib
import fcntl
import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from mmap import PAGESIZE
from typing import Final

from ingather.adapters.parser_server import ServerSettings

_ONE_CORE: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "1",
    # Arrow's allocator would start a thread at import, and a thread must not be there at a fork.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "ARROW_IO_THREADS": "1",
    # Arrow's other allocator would reserve a gigabyte at import, which then counts as used.
    "MIMALLOC_ARENA_RESERVE": "0",
}
_BOOT: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from ingather.adapters.parser_server import main; main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])"
)


_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LANGUAGE", "LC_", "TZ", "TMPDIR", "PYTHON", "LD_", "DYLD_", "MALLOC_")
"""Beginnings of the variables a parser may see. The worker's others hold its keys and passwords."""


def start_server(
    settings: ServerSettings, page_fd: int, folder: str
) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """Start it and answer at once with its process and our end of its control socket (non-blocking).

    ``folder`` is an empty one for its children's temporary files, for the caller to remove when it has ended. It says ``ready`` on that socket when it can fork, about a second later.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path), str(theirs.fileno()), str(page_fd), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), page_fd),
            env={name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)} | _ONE_CORE,
            start_new_session=True,  # A Ctrl-C in the terminal is for the worker, which then stops us.
        )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # It failed already, which whoever listens to it finds out.
        process.stdin.write(pickle.dumps(settings))
        process.stdin.close()
    return process, ours


def anonymous_page() -> int:
    """A page of memory to share with the children, as a descriptor."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("parser-stages", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        fd, path = tempfile.mkstemp()
        os.unlink(path)  # noqa: PTH108 - the file lives on as this descriptor only
    os.ftruncate(fd, PAGESIZE)
    if hasattr(fcntl, "F_ADD_SEALS"):
        # A parser could make it shorter otherwise, and the worker would die of reading it.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd

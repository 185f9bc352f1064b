"""What a process leaves to others, also where Linux shares the processors out by session."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingather.adapters.niceness import set_niceness


@pytest.fixture
def pid() -> Iterator[int]:
    """A process that leads a session."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    with process:
        yield process.pid


def test_a_process_is_as_nice_as_it_is_told(pid: int) -> None:
    """As nice as can be where that would be nicer."""
    set_niceness(pid, 99)
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no kernel that schedules by session")
def test_so_is_its_session(pid: int) -> None:
    """Unless another one has just changed, which is told."""
    until = time.monotonic() + 30
    while not set_niceness(pid, 19):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert Path(f"/proc/{pid}/autogroup").read_text().split()[-1] == "19"


def test_a_process_that_is_gone_is_no_error() -> None:
    """Nor one to try again with."""
    assert set_niceness(2**22 + 1, 19)

"""One child process: its end is seen, it ends with us, its log stays small."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ingather.stack.process import Command, Process, last_lines, shorten_log
from tests.support.parts import SLEEP
from tests.support.waiting import until


def python(code: str, log: Path) -> Command:
    return Command("part", (sys.executable, "-c", code), log)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "part.log"


async def test_output_goes_to_the_log_and_the_status_is_seen(log: Path):
    """Both streams land in the part's log file."""
    process = Process(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)", log))
    assert await process.wait() == 3
    assert {"out", "err"} <= set(last_lines(log).splitlines())
    process.kill()


async def test_a_part_that_ignores_sigterm_is_killed_after_its_grace(log: Path):
    """Stopping never waits for ever."""
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"
    process = Process(python(code, log))
    await until(lambda: "deaf" in last_lines(log))
    began = time.monotonic()
    await process.stop(0.3)
    assert process.returncode == -9
    assert time.monotonic() - began < 5


async def test_what_a_part_started_ends_with_it(log: Path):
    """Children of a part are in its process group and are swept with it."""
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); print(p.pid, flush=True); {SLEEP}"
    process = Process(python(code, log))
    await until(lambda: last_lines(log).strip() != "")
    grandchild = int(last_lines(log))
    await process.stop(1)
    psutil.wait_procs([psutil.Process(grandchild)] if psutil.pid_exists(grandchild) else [], timeout=5)
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


async def test_a_part_is_in_a_session_of_its_own(log: Path):
    """Ctrl-C at the terminal reaches us alone."""
    process = Process(python(SLEEP, log))
    assert os.getsid(process.pid) == process.pid
    process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_a_part_dies_when_its_parent_is_killed(log: Path):
    """SIGKILL leaves the parent no time to stop anything; the kernel does it."""
    code = (
        "import pathlib, sys, time; from ingather.stack.process import Command, Process\n"
        f"p = Process(Command('part', (sys.executable, '-c', {SLEEP!r}), pathlib.Path(sys.argv[1])))\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(log)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


def test_a_log_that_has_grown_is_set_aside_at_the_next_start(log: Path):
    """One older generation is kept, so logs cannot fill the disk over restarts."""
    log.parent.mkdir()
    log.write_bytes(b"x" * (11 * 1024 * 1024))
    process = Process(python("print('fresh')", log))
    asyncio.run(process.wait())
    process.kill()
    assert log.read_text().strip() == "fresh"
    assert log.with_suffix(".1.log").stat().st_size == 11 * 1024 * 1024


async def test_a_log_is_shortened_under_a_part_that_writes(log: Path):
    """A run of months cannot fill the disk either; the part goes on writing to the same file."""
    code = "import sys; print('x' * 11_000_000, flush=True); import time; time.sleep(0.5); print('later')"
    process = Process(python(code, log))
    await until(lambda: log.exists() and log.stat().st_size > 11_000_000)
    shorten_log(log)
    await process.wait()
    process.kill()
    assert last_lines(log) == "later"
    assert len(last_lines(log, count=1000, width=10**9)) < 100

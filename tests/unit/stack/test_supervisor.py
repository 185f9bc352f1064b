"""Parts are kept running; their deaths are told and cured."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
import structlog

from ingather.stack.errors import PartFailedError
from ingather.stack.supervisor import Backoff, Supervisor
from tests.support.parts import ScriptPart
from tests.support.waiting import until

QUICK = Backoff(first=0.05, longest=0.4, steady=30)


@pytest.fixture
async def supervisor():
    """A supervisor whose parts are gone after the test."""
    watching = Supervisor(backoff=QUICK)
    yield watching
    await watching.stop_all()


async def test_a_part_that_is_killed_comes_back_and_the_log_says_so(supervisor: Supervisor, tmp_path: Path):
    """SIGKILL costs a moment; both the death and the restart are logged."""
    with structlog.testing.capture_logs() as lines:
        await supervisor.add(ScriptPart("part", tmp_path))
        first = supervisor.pids["part"]
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.pids.get("part", first) != first)
        await until(lambda: supervisor.restarts == {"part": 1})
    assert {"part.ended", "part.restarted"} <= {line["event"] for line in lines}


async def test_pauses_grow_while_a_part_keeps_dying(supervisor: Supervisor, tmp_path: Path):
    """A part that cannot live does not eat the processor."""
    part = ScriptPart("part", tmp_path, code="import time; time.sleep(0.1)")
    await supervisor.add(part)
    await until(lambda: len(part.starts) >= 5)
    gaps = [later - earlier for earlier, later in zip(part.starts, part.starts[1:], strict=False)]
    assert gaps[3] > gaps[0] + 0.2


def test_the_pause_is_bounded():
    """Even after many deaths the next try is not far away."""
    assert [Backoff(1, 8, 30).pause(deaths) for deaths in (1, 2, 3, 4, 5, 1000)] == [1, 2, 4, 8, 8, 8]


async def test_a_restart_that_fails_is_tried_again(supervisor: Supervisor, tmp_path: Path):
    """A part that ends before it is ready is not given up."""
    ready, broken = tmp_path / "ready", tmp_path / "broken"
    ready.touch()
    code = f"import os, time; os.path.exists({str(broken)!r}) and os._exit(7); time.sleep(600)"
    part = ScriptPart("part", tmp_path, code=code, ready=ready)
    await supervisor.add(part)
    broken.touch()
    ready.unlink()
    os.kill(supervisor.pids["part"], signal.SIGKILL)
    await until(lambda: len(part.starts) >= 3)
    broken.unlink()
    ready.touch()
    await until(lambda: supervisor.restarts["part"] >= 1 and "part" in supervisor.pids)


async def test_a_part_that_does_not_start_fails_with_the_end_of_its_log(supervisor: Supervisor, tmp_path: Path):
    """The reader sees why, without looking for a file."""
    part = ScriptPart("part", tmp_path, code="raise SystemExit('no such option')", ready=tmp_path / "never")
    with pytest.raises(PartFailedError, match=r"part ended with status 1(.|\n)*no such option"):
        await supervisor.add(part)
    assert supervisor.pids == {}


async def test_a_part_that_does_not_get_ready_in_time_fails_and_is_ended(supervisor: Supervisor, tmp_path: Path):
    """Nothing is left running after a failed start."""
    part = ScriptPart("part", tmp_path, ready=tmp_path / "never")
    before = set(psutil.Process().children())
    with pytest.raises(PartFailedError, match=r"not ready after 0\.3 s"):
        await supervisor.add(part, timeout_seconds=0.3)
    started = set(psutil.Process().children()) - before
    assert not [child for child in started if child.status() != psutil.STATUS_ZOMBIE]
    assert part.cleaned_up


async def test_stopped_parts_stay_stopped(supervisor: Supervisor, tmp_path: Path):
    """A stop is not taken for a death."""
    part = ScriptPart("part", tmp_path)
    await supervisor.add(part)
    pid = supervisor.pids["part"]
    await supervisor.stop(["part", "unknown"])
    await asyncio.sleep(0.2)
    assert supervisor.pids == {}
    assert not psutil.pid_exists(pid)
    assert len(part.starts) == 1
    assert part.cleaned_up


async def test_changes_of_process_ids_are_announced(tmp_path: Path):
    """Whoever publishes process ids hears of every restart."""
    seen: list[dict[str, int]] = []
    supervisor = Supervisor(on_change=lambda: seen.append(supervisor.pids), backoff=QUICK)
    await supervisor.add(ScriptPart("part", tmp_path))
    os.kill(seen[0]["part"], signal.SIGKILL)
    await until(lambda: len(seen) >= 2)
    await supervisor.stop_all()
    assert seen[0] != seen[1]
    assert seen[-1] == {}


async def test_parts_are_watched_and_stopped_where_nothing_can_be_announced(tmp_path: Path):
    """A disk that is full when addresses are written costs neither the next restart nor the stop."""

    def full() -> None:
        raise OSError(28, "No space left on device")

    supervisor = Supervisor(on_change=full, backoff=QUICK)
    await supervisor.add(ScriptPart("part", tmp_path))
    for restarts in (1, 2):
        os.kill(supervisor.pids["part"], signal.SIGKILL)
        await until(lambda restarts=restarts: supervisor.restarts["part"] == restarts)
    await supervisor.stop_all()
    assert supervisor.pids == {}

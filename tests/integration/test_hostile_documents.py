"""Documents that break, exhaust or take over the parser that reads them, each in a real process.

What a platform or the user who runs these tests cannot enforce is skipped, with the reason the
parser processes themselves give for it.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from ingather.adapters import parser_pool, parser_processes
from ingather.adapters.parser_confinement import Facility, SandboxSettings
from ingather.adapters.parser_processes import SupervisedPreparer
from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.content import PreparedDocument, Stage
from ingather.models.errors import (
    DocumentCorruptError,
    DocumentError,
    DocumentTooLargeError,
    ParserCrashedError,
    ParserKilledError,
    ParserOutOfMemoryError,
    ParserTimeoutError,
)
from tests.support import hostile_documents
from tests.support.parser_accidents import DID_IT
from tests.support.preparing import MIB, accident_prone, busy_pid, eventually, ignore, lives, request, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

GARBAGE = "garbage_answer"
REFUSED = {"EPERM", "EACCES"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parsers() -> AsyncIterator[SupervisedPreparer]:
    """One process, confined by all the platform has; tests leave it as usable as they found it."""
    async with accident_prone(memory_bytes=400 * MIB, sandbox=SandboxSettings(temporary_bytes=8 * MIB)) as preparer:
        yield preparer


def needs(preparer: SupervisedPreparer, *facilities: Facility) -> None:
    for facility in facilities:
        if reason := preparer.pool.confinement.missing.get(facility):
            pytest.skip(f"no confinement by {facility} here: {reason}")


def without(*facilities: Facility) -> SandboxSettings:
    return SandboxSettings(temporary_bytes=8 * MIB, without=frozenset(facilities))


OWN = os.getpriority(os.PRIO_PROCESS, 0)
"""Niceness of the process that has the parsers."""


def session_niceness(pid: int) -> int:
    return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])


def os_niceness(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def needs_to_lower_niceness() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        os.setpriority(os.PRIO_PROCESS, process.pid, OWN + 1)
        try:
            os.setpriority(os.PRIO_PROCESS, process.pid, OWN)
        except PermissionError:
            pytest.skip("only the privileged make a process less nice")


async def outcome_of(preparer: SupervisedPreparer, content: bytes, **changes: object) -> DocumentError:
    with pytest.raises(DocumentError) as raised:
        await preparer.prepare(request(content, **changes), ignore)
    return raised.value


class TestDying:
    @pytest.mark.parametrize(
        ("deed", "code", "fact"),
        [
            (b"crash", ParserCrashedError, {"exit_signal": signal.SIGSEGV, "kills": 2}),
            (b"exit", ParserCrashedError, {"exit_signal": None, "kills": 2}),
            (b"panic", ParserCrashedError, {"error_type": "PanicException", "kills": 2}),
            (b"hang", ParserTimeoutError, {"timeout_seconds": 1.0}),
            (b"hang-natively", ParserTimeoutError, {"timeout_seconds": 1.0, "kills": 2}),
            (b"burn-natively", ParserTimeoutError, {"timeout_seconds": 1.0}),
            (b"eat-memory", ParserOutOfMemoryError, {"memory_limit_bytes": 400 * MIB}),
            (b"eat-shared-memory", ParserOutOfMemoryError, {"memory_limit_bytes": 400 * MIB}),
            (b"garbage noise", ParserCrashedError, {"error_type": GARBAGE, "kills": 2}),
            (b"garbage json", ParserCrashedError, {"error_type": GARBAGE, "kills": 2}),
            (b"garbage huge", ParserCrashedError, {"error_type": GARBAGE, "kills": 2}),
        ],
    )
    async def test_is_that_documents_failure(
        self, parsers: SupervisedPreparer, deed: bytes, code: type[ParserKilledError], fact: dict[str, object]
    ) -> None:
        """Whatever ends a parser is its document's failure, quarantined with its facts; the next document is fine."""
        error = await outcome_of(parsers, deed, timeout_seconds=1.0 if code is ParserTimeoutError else 30.0)
        assert type(error) is code
        assert error.facts["quarantined"] is True
        assert error.facts["stage"] == "parsing"
        assert error.facts["peak_memory_bytes"] > MIB
        assert fact.items() <= error.facts.items()
        assert (await parsers.prepare(request(b"fine"), ignore)).chunk_count == 1

    async def test_one_that_waits_has_a_second_chance(self, parsers: SupervisedPreparer) -> None:
        """A time-out without work done may be the machine's fault, so the document is tried again."""
        assert (await parsers.prepare(request(b"hang-natively-at-first", timeout_seconds=0.5), ignore)).chunk_count == 1

    async def test_a_stopped_process_is_killed_too(self, parsers: SupervisedPreparer) -> None:
        """A parser that was stopped hears no polite word; its document goes on in another process."""
        task = asyncio.create_task(parsers.prepare(request(b"hang-at-first", timeout_seconds=1.0), ignore))
        pid = await busy_pid(parsers)
        os.kill(pid, signal.SIGSTOP)
        assert (await task).chunk_count == 1
        await eventually(lambda: not lives(pid))

    async def test_shared_memory_cannot_be_cut_under_the_worker(self, parsers: SupervisedPreparer) -> None:
        """A parser that cuts every open file short harms itself: the worker goes on reading stages."""
        await asyncio.gather(parsers.prepare(request(b"cut-shared-memory"), ignore), return_exceptions=True)
        assert (await parsers.prepare(request(b"slow"), ignore)).chunk_count == 1

    async def test_what_a_parser_leaves_behind_ends_with_it(self) -> None:
        """A grandchild in a session of its own, deaf to SIGTERM, is gone when its parser is."""
        async with accident_prone(sandbox=without(Facility.CALLS)) as preparer:
            server = psutil.Process(preparer.pool.server_pid)
            task = asyncio.create_task(outcome_of(preparer, b"grandchild"))
            left: set[int] = set()
            while not task.done():
                known = set(preparer.pool.pids)
                left |= {process.pid for process in server.children(recursive=True)} - known
                await asyncio.sleep(0.02)
            assert type(await task) is ParserCrashedError
            # A parser is a child of the server a moment before the pool knows of it.
            left -= set(preparer.pool.pids)
            assert left
            await eventually(lambda: not any(lives(pid) for pid in left))


class TestReachingOut:
    async def test_writes_nowhere_but_in_its_folder(self, parsers: SupervisedPreparer, tmp_path: Path) -> None:
        """A parser can write to its own folder, and to no other."""
        needs(parsers, Facility.FILES)
        await asyncio.to_thread(tmp_path.chmod, 0o777)
        assert await said(parsers, f"write {tmp_path}/stolen") in REFUSED
        assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []
        assert await said(parsers, "write here.tmp") == DID_IT

    async def test_reads_nothing_but_its_code(self, parsers: SupervisedPreparer, tmp_path: Path) -> None:
        """Files that anybody may read are none of a parser's business."""
        needs(parsers, Facility.FILES)
        secret = tmp_path / "secret"
        secret.write_text("s3 keys")
        assert await said(parsers, f"read {secret}") in REFUSED
        assert await said(parsers, "read /etc/passwd") in REFUSED
        assert await said(parsers, f"read {os.__file__}") == DID_IT

    async def test_another_user_stops_it_as_well(self, tmp_path: Path) -> None:
        """Where the kernel has no Landlock, a worker that runs as root still keeps parsers out of its files."""
        async with accident_prone(sandbox=without(Facility.FILES)) as preparer:
            needs(preparer, Facility.USER)
            assert await said(preparer, f"write {tmp_path}/stolen") in REFUSED
            assert await said(preparer, "become-root") in REFUSED
            assert await said(preparer, f"signal {os.getpid()}") in REFUSED

    async def test_every_process_is_a_user_of_its_own(self) -> None:
        """Parsers of one worker run as different users, none of them root, so none can reach into another."""
        async with accident_prone(processes=2) as preparer:
            needs(preparer, Facility.USER)
            await eventually(lambda: len(preparer.pool.pids) == 3)
            await preparer.prepare(request(b"fine"), ignore)
            await asyncio.sleep(0.2)
            users = [psutil.Process(pid).uids() for pid in preparer.pool.pids]
            assert len({each.real for each in users}) == 3
            assert 0 not in {user for each in users for user in each}

    async def test_signals_nobody(self, parsers: SupervisedPreparer) -> None:
        """A parser cannot kill its worker or its fork server."""
        if parsers.pool.confinement.missing.get(Facility.USER):
            needs(parsers, Facility.FILES)
        assert await said(parsers, f"signal {parsers.pool.server_pid}") in REFUSED
        assert await said(parsers, f"signal {os.getpid()}") in REFUSED

    @pytest.mark.parametrize("facility", [Facility.CALLS, Facility.NETWORK])
    async def test_has_no_network(self, facility: Facility) -> None:
        """Neither sockets nor a network: each alone keeps a parser from a server on this very machine."""
        other = Facility.NETWORK if facility is Facility.CALLS else Facility.CALLS
        async with accident_prone(sandbox=without(other, Facility.FILES)) as preparer:
            needs(preparer, facility)
            with socket.create_server(("127.0.0.1", 0)) as server:
                assert await said(preparer, f"connect {server.getsockname()[1]}") in {"EPERM", "ENETUNREACH"}

    async def test_the_server_could_have_been_reached(self) -> None:
        """The test above can fail: a parser that is confined by nothing reaches the server."""
        async with accident_prone(sandbox=without(*Facility)) as preparer:
            with socket.create_server(("127.0.0.1", 0)) as server:
                assert await said(preparer, f"connect {server.getsockname()[1]}") == DID_IT

    async def test_has_no_local_sockets(self, parsers: SupervisedPreparer, tmp_path: Path) -> None:
        """The socket of a server on this machine, such as Redis or Docker, is out of reach too."""
        needs(parsers, Facility.CALLS)
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{folder}/server.sock")
            server.listen()
            assert await said(parsers, f"connect-locally {folder}/server.sock") == "EPERM"

    async def test_sees_no_secret_of_the_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The worker's keys and passwords are not in the environment of its parsers."""
        monkeypatch.setenv("INGATHER_S3__SECRET_ACCESS_KEY", "very secret")
        monkeypatch.setenv("OPENAI_API_KEY", "very secret")
        async with accident_prone() as preparer:
            names = (await said(preparer, "environment")).split()
            assert "PATH" in names
            assert not {"INGATHER_S3__SECRET_ACCESS_KEY", "OPENAI_API_KEY"} & set(names)


class TestExhausting:
    async def test_no_process_comes_of_a_fork_bomb(self, parsers: SupervisedPreparer) -> None:
        """A parser starts no process and no program."""
        needs(parsers, Facility.CALLS)
        assert await said(parsers, "fork-bomb") == "EPERM"
        assert await said(parsers, "run") == "EPERM"

    async def test_a_fork_bomb_meets_a_limit(self) -> None:
        """Where system calls cannot be filtered, a user of its own still has a limit of processes."""
        async with accident_prone(sandbox=without(Facility.CALLS)) as preparer:
            needs(preparer, Facility.USER)
            server = psutil.Process(preparer.pool.server_pid)
            assert await said(preparer, "fork-bomb") == "EAGAIN"
            assert len(server.children(recursive=True)) < 50
            os.kill(preparer.pool.pids[0], signal.SIGKILL)
            await eventually(lambda: len(server.children(recursive=True)) == len(preparer.pool.pids) == 2)

    async def test_a_full_folder_is_its_own(self, parsers: SupervisedPreparer) -> None:
        """Filling the disk fills the process's own folder; the next document finds it empty."""
        needs(parsers, Facility.TEMPORARY)
        assert await said(parsers, "fill") == "ENOSPC"
        assert await said(parsers, "left-over") == "0 files"

    async def test_one_file_has_a_limit_everywhere(self) -> None:
        """Without a file system of its own a parser still writes no file beyond its limit, and its folder goes with it."""
        async with accident_prone(sandbox=without(*Facility)) as preparer:
            assert await said(preparer, "large-file") == "EFBIG"
            folder = Path(await said(preparer, "where"))
            assert folder.parent.exists()
        assert not folder.parent.exists()

    @pytest.mark.parametrize(
        ("deed", "refusal"),
        [("open-files", "EMFILE"), ("thread-bomb", "RuntimeError"), ("lengthen-life", "ValueError")],
    )
    async def test_limits_hold(self, deed: str, refusal: str) -> None:
        """Open files and threads have a limit, and a parser cannot raise one."""
        async with accident_prone(memory_bytes=300 * MIB) as preparer:
            if deed == "lengthen-life" and Facility.USER in preparer.pool.confinement.missing and os.geteuid() == 0:
                needs(preparer, Facility.USER)
            assert await said(preparer, deed) == refusal
            assert (await preparer.prepare(request(b"fine"), ignore)).chunk_count == 1

    @pytest.mark.parametrize("facility", list(Facility))
    async def test_a_missing_facility_stops_no_work(self, facility: Facility) -> None:
        """What a platform lacks is told, and documents are prepared all the same."""
        async with accident_prone(sandbox=without(facility)) as preparer:
            assert facility in preparer.pool.confinement.missing
            assert facility not in preparer.pool.confinement.in_force
            assert (await preparer.prepare(request(b"fine"), ignore)).chunk_count == 1


class TestOthers:
    async def test_nobody_waits_for_the_slow(self) -> None:
        """With every process taken by a document that does not end, short ones are prepared in others."""
        async with accident_prone(processes=2) as preparer:
            slow = [asyncio.create_task(preparer.prepare(request(b"hang"), ignore)) for _ in range(2)]
            await asyncio.sleep(0.05)
            began = time.monotonic()
            for _ in range(20):
                assert (await preparer.prepare(request(b"fine"), ignore)).chunk_count == 1
            assert time.monotonic() - began < 10
            assert {psutil.Process(pid).nice() for pid in preparer.pool.busy_pids} == {19}
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            await eventually(lambda: len(preparer.pool.pids) == 3)

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nobody tells what a process holds")
    async def test_nobody_waits_for_several_that_hang(self) -> None:
        """With every process taken again and again, short ones are through before any of those is given up."""
        async with accident_prone(processes=2) as preparer:
            slow = [asyncio.create_task(preparer.prepare(request(b"hang"), ignore)) for _ in range(6)]
            await asyncio.sleep(0.05)
            for _ in range(20):
                assert (await preparer.prepare(request(b"fine"), ignore)).chunk_count == 1
            assert not any(task.done() for task in slow)
            assert len(preparer.pool.busy_pids) == 6
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    @pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no kernel that schedules by session")
    async def test_niceness_counts_where_sessions_are_scheduled(self) -> None:
        """A parser leads a session, so its niceness is the session's too, once it is set aside at the latest."""
        async with accident_prone(processes=1) as preparer:
            hanging = asyncio.create_task(preparer.prepare(request(b"hang"), ignore))
            of_hanging = await busy_pid(preparer)
            await eventually(lambda: session_niceness(of_hanging) == 19)
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)

    async def test_parsers_leave_more_to_others_than_the_worker_does(self) -> None:
        """Also where that was started with a niceness of its own."""
        async with accident_prone(processes=1, niceness=7) as preparer:
            nicer = min(os.getpriority(os.PRIO_PROCESS, 0) + 7, 19)
            await eventually(lambda: {psutil.Process(pid).nice() for pid in preparer.pool.pids} == {nicer})

    async def test_a_large_one_that_is_slow_keeps_its_share_for_a_while(self) -> None:
        """Others are prepared meanwhile, in the place that is left, and it does not end last for having been long."""
        async with accident_prone(processes=2) as preparer:
            large = asyncio.create_task(preparer.prepare(request(b"hang" + b" " * 5_000_000), ignore))
            of_large = await busy_pid(preparer)
            small = asyncio.create_task(preparer.prepare(request(b"hang"), ignore))
            await eventually(lambda: 19 in [psutil.Process(pid).nice() for pid in preparer.pool.busy_pids])
            assert psutil.Process(of_large).nice() < 19
            assert (await preparer.prepare(request(b"fine"), ignore)).chunk_count == 1
            # The large one and another work, the small one is set aside, and one is spare.
            await eventually(lambda: len(preparer.pool.pids) == 4)
            for task in (large, small):
                task.cancel()
            await asyncio.gather(large, small, return_exceptions=True)

    async def test_a_large_one_stands_beside_the_worker_while_it_keeps_its_place(self) -> None:
        """Then behind it again, in the same process."""
        needs_to_lower_niceness()
        async with accident_prone(processes=2) as preparer:
            await preparer.prepare_many([request(b"fine") for _ in range(80)], lambda _position, _stage: None)
            before = set(preparer.pool.pids)
            large = asyncio.create_task(preparer.prepare(request(b"sleep 2" + b" " * 5_000_000), ignore))
            of_large = await busy_pid(preparer)
            await eventually(lambda: os_niceness(of_large) == OWN)
            await large
            assert os_niceness(of_large) == OWN + 5
            assert set(preparer.pool.pids) == before

    async def test_a_small_one_that_is_slow_does_not(self) -> None:
        """It may be done in a moment, and takes what the services leave."""
        async with accident_prone(processes=2) as preparer:
            slow = asyncio.create_task(preparer.prepare(request(b"sleep 1" + b" " * 900_000), ignore))
            of_slow = await busy_pid(preparer)
            await eventually(lambda: preparer._keepers)
            await asyncio.sleep(0.2)
            assert os_niceness(of_slow) > OWN
            await slow

    async def test_a_large_one_that_had_its_share_stands_behind_all(self, monkeypatch) -> None:
        """It was beside the worker for as long as is fair."""
        needs_to_lower_niceness()
        monkeypatch.setattr(parser_processes, "_FAIR_SECONDS", 1.0)
        async with accident_prone(processes=2) as preparer:
            large = asyncio.create_task(preparer.prepare(request(b"hang" + b" " * 5_000_000), ignore))
            of_large = await busy_pid(preparer)
            await eventually(lambda: os_niceness(of_large) == OWN)
            await eventually(lambda: os_niceness(of_large) == 19)
            large.cancel()
            await asyncio.gather(large, return_exceptions=True)

    async def test_one_that_stays_beside_the_worker_gets_no_other_document(self, monkeypatch) -> None:
        """Where the system does not let it be put behind again, another process takes its place."""
        monkeypatch.setattr(parser_pool, "set_niceness", lambda _pid, niceness: niceness == OWN)
        async with accident_prone(processes=2) as preparer:
            large = asyncio.create_task(preparer.prepare(request(b"sleep 2" + b" " * 5_000_000), ignore))
            of_large = await busy_pid(preparer)
            assert (await large).chunk_count == 1
            await eventually(lambda: of_large not in preparer.pool.pids and len(preparer.pool.pids) == 3)
            assert (await preparer.prepare(request(b"fine"), ignore)).chunk_count == 1

    async def test_beside_a_large_one_others_have_longer_before_they_are_set_aside(self, monkeypatch) -> None:
        """What takes a moment takes it in its place: one process more would take of the large one's share."""
        monkeypatch.setattr(parser_processes, "_PATIENCE_BESIDE_LONG_SECONDS", 30.0)
        async with accident_prone(processes=2) as preparer:
            await preparer.prepare_many([request(b"fine") for _ in range(80)], lambda _position, _stage: None)
            large = asyncio.create_task(preparer.prepare(request(b"hang" + b" " * 5_000_000), ignore))
            await eventually(lambda: preparer._keepers)
            before = set(preparer.pool.pids)
            assert (await preparer.prepare(request(b"slow"), ignore)).chunk_count == 1
            assert set(preparer.pool.pids) == before
            large.cancel()
            await asyncio.gather(large, return_exceptions=True)

    async def test_half_of_the_places_are_there_for_others(self) -> None:
        """A second large one is set aside beside the first, and what is small is prepared."""
        async with accident_prone(processes=2) as preparer:
            hanging = [asyncio.create_task(preparer.prepare(request(b"hang" + b" " * 5_000_000), ignore)) for _ in "12"]
            await eventually(lambda: len(preparer.pool.busy_pids) == 2 and len(preparer.pool.pids) == 4)
            assert (await preparer.prepare(request(b"fine"), ignore)).chunk_count == 1
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

    async def test_a_death_keeps_nobody_waiting_for_a_process(self) -> None:
        """Whoever works in a dead process's place was ready before it died, time after time."""
        async with accident_prone(processes=1) as preparer:
            for _ in range(5):
                await eventually(lambda: len(preparer.pool.pids) == 2)
                ready = set(preparer.pool.pids)
                [killed] = await preparer.prepare_many([request(b"crash")], lambda _p, _s: None)
                assert isinstance(killed, ParserCrashedError)
                next_one = asyncio.create_task(preparer.prepare(request(b"slow"), ignore))
                assert await busy_pid(preparer) in ready
                assert (await next_one).chunk_count == 1

    async def test_one_poisoned_in_a_hundred_costs_no_other_its_first_try(self) -> None:
        """Poison of every kind among many: each other document is begun once, and ends."""
        async with accident_prone(processes=2, memory_bytes=300 * MIB) as preparer:
            poison = {50: b"crash", 150: b"exit", 250: b"eat-memory", 350: b"hang"}
            contents = [poison.get(number, b"fine") for number in range(400)]
            told: dict[int, list[Stage]] = {number: [] for number in range(400)}
            killed: list[int] = []
            room = asyncio.Semaphore(12)

            async def one(number: int) -> None:
                async with room:
                    try:
                        await preparer.prepare(request(contents[number], timeout_seconds=2.0), told[number].append)
                    except ParserKilledError:
                        killed.append(number)

            await asyncio.gather(*(one(number) for number in range(400)))
            assert sorted(killed) == sorted(poison)
            # What is under way is looked at now and then; a second try would go through earlier stages once more.
            order = list(Stage)
            for number in told.keys() - poison.keys():
                places = [order.index(stage) for stage in told[number]]
                assert places == sorted(set(places)), (number, told[number])

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nobody tells what a process holds")
    async def test_processes_stay_few(self) -> None:
        """No more than four times as many are set aside: the others wait, as they would without."""
        async with accident_prone(processes=1) as preparer:
            tasks = [asyncio.create_task(preparer.prepare(request(b"hang"), ignore)) for _ in range(7)]
            await eventually(lambda: len(preparer.pool.busy_pids) == 5)
            await asyncio.sleep(1.0)
            assert len(preparer.pool.busy_pids) == 5
            assert len(preparer.pool.pids) == 6
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nobody tells what a process holds")
    async def test_those_set_aside_share_their_memory(self) -> None:
        """Together they hold no more than as many as may work might; who makes room begins again, and ends well."""
        async with accident_prone(processes=1, memory_bytes=300 * MIB) as preparer:
            begun: list[Stage] = []
            elder = asyncio.create_task(preparer.prepare(request(b"hold-memory 0 200 8"), ignore))
            await busy_pid(preparer)
            younger = asyncio.create_task(preparer.prepare(request(b"hold-memory 1 200 0.1"), begun.append))
            await eventually(lambda: len(preparer.pool.busy_pids) == 2)
            await eventually(lambda: len(preparer.pool.busy_pids) == 1)
            assert not elder.done()
            assert (await preparer.prepare(request(b"fine"), ignore)).chunk_count == 1
            assert (await elder).chunk_count == 1
            assert (await younger).chunk_count == 1
            assert (begun.count(Stage.PARSING), begun.count(Stage.WAITING)) == (2, 1)

    async def test_second_chances_are_given_to_few_at_a_time(self) -> None:
        """Whoever needs one works beside no more of these than processes may work, others meanwhile beside it."""
        async with accident_prone(processes=1) as preparer:
            hanging = request(b"hang-natively", kills=1)
            tasks = [asyncio.create_task(preparer.prepare(hanging, ignore)) for _ in range(3)]
            await eventually(lambda: [psutil.Process(pid).nice() for pid in preparer.pool.busy_pids] == [10])
            assert (await preparer.prepare(request(b"fine"), ignore)).chunk_count == 1
            assert len(preparer.pool.busy_pids) == 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def test_a_slow_one_among_many_holds_up_none_behind_it(self) -> None:
        """Documents that share a process with a slow one go on in another once it has ended."""
        async with accident_prone(processes=1) as preparer:
            contents = [b"fine", b"sleep 0.6", *[b"fine"] * 6]
            outcomes = await preparer.prepare_many([request(content) for content in contents], lambda _p, _s: None)
            assert all(isinstance(outcome, PreparedDocument) for outcome in outcomes)
            assert all(psutil.Process(pid).nice() < 19 for pid in preparer.pool.pids)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real() -> AsyncIterator[SupervisedPreparer]:
    """A process with the parsers of the product."""
    limits = ParseLimits(max_unpacked_bytes=400 * MIB)
    preparer = SupervisedPreparer(processes=1, memory_bytes=300 * MIB, limits=limits)
    await preparer.start()
    yield preparer
    await preparer.close()


class TestRealParsers:
    """Nothing stands in for the parsers here."""

    @pytest.mark.parametrize(
        ("filename", "content", "errors"),
        [
            ("bomb.docx", lambda: hostile_documents.docx_bomb(500 * MIB), {DocumentTooLargeError}),
            ("bomb.docx", lambda: hostile_documents.docx_bomb(256 * MIB), {ParserOutOfMemoryError}),
            ("lying.docx", lambda: hostile_documents.lying_docx_bomb(500 * MIB), {ParserOutOfMemoryError}),
            ("bomb.xlsx", lambda: hostile_documents.xlsx_bomb(500 * MIB), {DocumentTooLargeError}),
            ("bomb.pdf", lambda: hostile_documents.pdf_bomb(500 * MIB), {ParserOutOfMemoryError}),
            ("nested.pdf", hostile_documents.nested_pdf, {DocumentCorruptError}),
            ("nested.eml", hostile_documents.nested_email, {DocumentCorruptError, DocumentTooLargeError}),
        ],
        ids=["docx", "docx-below-the-limit", "docx-that-lies", "xlsx", "pdf", "nested-pdf", "nested-email"],
    )
    async def test_a_bomb_is_refused_or_stopped(self, real, filename: str, content, errors: set[type]) -> None:
        """A small file that unpacks to far more than its parser may have fails by name, and the next one is fine."""
        bomb = content()
        assert len(bomb) < 2 * MIB
        assert type(await outcome_of(real, bomb, filename=filename)) in errors
        assert (await real.prepare(request(b"Clear sky."), ignore)).chunk_count == 1

    @pytest.mark.parametrize(
        ("filename", "content"),
        [
            ("laughing.docx", hostile_documents.laughing_docx),
            ("nested.html", hostile_documents.nested_html),
            ("nested.rtf", hostile_documents.nested_rtf),
        ],
    )
    async def test_a_knot_is_read_or_refused(self, real, filename: str, content) -> None:
        """Entities that multiply and elements without end are read as what they are, in seconds and within memory."""
        prepared = await real.prepare(request(content(), filename, timeout_seconds=30.0), ignore)
        assert prepared.chunk_count <= 1

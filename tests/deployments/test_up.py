"""``ingather up`` and ``ingather doctor`` from outside: start, accidents, stop, start again."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ingather.stack.ports import LOOPBACK, is_free
from tests.support.up import INGATHER, Up, running_up, still_alive, wait_until_ready

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A stack in a folder whose name has a space."""
    with running_up(tmp_path_factory.mktemp("a stack") / ".ingather") as up:
        up.wait_ready()
        yield up


def ingather(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*INGATHER, *arguments], capture_output=True, text=True, timeout=120, check=False)


def unix_sockets() -> set[str]:
    """What the S3 server put where it keeps its sockets, whoever started it."""
    return {path.name for path in Path("/tmp").glob("seaweedfs-*.sock")}


def test_it_tells_every_address_to_its_owner_alone(running: Up):
    """``stack.json`` names addresses and credentials, and is readable by its owner alone."""
    facts = running.facts()
    assert httpx.get(f"{facts['api']['url']}/readyz", trust_env=False).status_code == 200
    assert httpx.get(facts["temporal"]["ui_url"], trust_env=False).status_code == 200
    assert facts["redis"]["url"].startswith("redis://:")
    assert {"endpoint_url", "access_key_id", "secret_access_key", "bucket"} <= set(facts["s3"])
    assert set(facts["pids"]) == {"up", "temporal", "redis", "s3", "api", "worker-1"}
    assert stat.S_IMODE((running.data_dir / "stack.json").stat().st_mode) == 0o600


def test_passwords_are_not_on_command_lines_or_on_the_terminal(running: Up):
    """Everybody on the machine can read command lines; terminals are recorded."""
    facts = running.facts()
    shown = running.said() + "".join(" ".join(process.cmdline()) for process in running.processes())
    secrets = [facts["s3"]["secret_access_key"], facts["redis"]["url"].rpartition("@")[0].rpartition(":")[2]]
    assert not [secret for secret in secrets if secret in shown]


@pytest.mark.skipif(sys.platform != "linux", reason="listening sockets of other processes are read from /proc")
def test_everything_listens_on_loopback_only(running: Up):
    """No part can be reached from the network."""
    listening = [
        connection.laddr.ip
        for process in running.processes()
        for connection in process.net_connections(kind="inet")
        if connection.status == "LISTEN"
    ]
    assert listening
    assert set(listening) == {LOOPBACK}


def test_temporal_writes_ahead(running: Up):
    """The write-ahead log is what makes the embedded Temporal fast."""
    assert (running.data_dir / "temporal" / "temporal.db-wal").exists()


def test_doctor_finds_all_of_it_well_and_names_every_address(running: Up):
    """Exit status 0, and the JSON holds what ``stack.json`` does."""
    answer = ingather("doctor", "--data-dir", str(running.data_dir), "--json")
    assert answer.returncode == 0, answer.stdout
    report = json.loads(answer.stdout)
    assert report["ok"]
    assert {key: report[key] for key in ("api", "temporal", "s3", "redis")} == {
        key: running.facts()[key] for key in ("api", "temporal", "s3", "redis")
    }


def test_a_second_up_on_the_same_directory_is_refused(running: Up):
    """It says who holds the directory, and the first goes on."""
    answer = ingather("up", "--data-dir", str(running.data_dir))
    assert answer.returncode == 1
    assert f"process {running.pid}" in answer.stderr
    wait_until_ready(running.facts()["api"]["url"], 5)


@pytest.mark.parametrize("part", ["temporal", "redis", "s3", "api", "worker-1"])
def test_a_part_that_is_killed_comes_back(running: Up, part: str):
    """SIGKILL of any part costs seconds; the log says what happened; addresses stay."""
    before = running.facts()
    os.kill(before["pids"][part], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while running.facts()["pids"].get(part, before["pids"][part]) == before["pids"][part]:
        assert time.monotonic() < deadline, running.said()
        time.sleep(0.1)
    wait_until_ready(before["api"]["url"])
    assert running.facts()["ports"] == before["ports"]
    assert "part.restarted" in running.said()
    if part == "temporal":  # /readyz does not say whether workers poll again
        answer = ingather("doctor", "--data-dir", str(running.data_dir))
        assert answer.returncode == 0, answer.stdout


def test_stopping_leaves_nothing_and_starting_again_goes_on(tmp_path: Path):
    """Ctrl-C ends every process; a second one does no harm; addresses and credentials stay."""
    data_dir = tmp_path / ".ingather"
    of_others = unix_sockets()  # a run that was killed leaves them under the numbers its ports had
    with running_up(data_dir) as up:
        first = up.wait_ready()
        processes = up.processes()
        assert len(processes) >= 6
        up.send(signal.SIGINT)
        time.sleep(0.2)
        up.send(signal.SIGINT)
        assert up.wait_end() == 0
        assert still_alive(processes) == []
        assert all(is_free(port) for port in first["ports"].values())
        left = unix_sockets() - of_others
        assert not [port for port in first["ports"].values() if any(name.endswith(f"-{port}.sock") for name in left)]
    assert up.facts()["pids"] == {}
    with running_up(data_dir) as up:
        second = up.wait_ready()
        assert {key: second[key] for key in ("s3", "redis", "temporal", "ports")} == {
            key: first[key] for key in ("s3", "redis", "temporal", "ports")
        }
        up.send(signal.SIGTERM)
        assert up.wait_end() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_killing_it_kills_every_part(tmp_path: Path):
    """Even SIGKILL leaves nothing behind, and the directory can be used again."""
    data_dir = tmp_path / ".ingather"
    with running_up(data_dir) as up:
        up.wait_ready()
        processes = up.processes()
        up.send(signal.SIGKILL)
        up.wait_end()
        # A parser process that is still loading sees only afterwards that its worker is gone.
        assert still_alive(processes, seconds=30) == []
    with running_up(data_dir) as up:
        up.wait_ready()


def test_two_that_start_at_one_moment_both_get_ready(tmp_path: Path):
    """Both find the same port free; the one that comes too late takes another."""
    with running_up(tmp_path / "one") as one, running_up(tmp_path / "other") as other:
        urls = {up.wait_ready()["api"]["url"] for up in (one, other)}
        assert len(urls) == 2
        assert [httpx.get(f"{url}/livez", trust_env=False).status_code for url in urls] == [200, 200]


def test_stopping_while_it_starts_leaves_nothing(tmp_path: Path):
    """A change of mind half-way is as clean as one later."""
    with running_up(tmp_path / ".ingather") as up:
        while len(up.processes()) < 3:
            time.sleep(0.05)
        processes = up.processes()
        up.send(signal.SIGTERM)
        assert up.wait_end() == 0
        assert still_alive(processes) == []


def test_a_taken_port_is_refused_when_it_was_asked_for(tmp_path: Path):
    """Exit status 2, with the option to change; nothing was started."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        answer = ingather("up", "--data-dir", str(tmp_path / "d"), "--port", str(port))
    assert answer.returncode == 2
    assert f"Port {port} is in use" in answer.stderr
    assert "--port" in answer.stderr


def test_doctor_without_a_stack_says_what_to_do(tmp_path: Path):
    """Exit status 1, and advice beside each part that does not answer."""
    answer = ingather("doctor", "--data-dir", str(tmp_path / "nothing"), "--json")
    assert answer.returncode == 1
    report = json.loads(answer.stdout)
    assert not report["ok"]
    assert all(check["action"] for check in report["checks"] if not check["ok"])

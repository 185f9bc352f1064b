"""``ingather up`` as a user runs it: a process of its own, known by what it prints and leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

INGATHER = (sys.executable, "-c", "from ingather.cli.main import main; main()")


class Up:
    """A running ``ingather up --json``."""

    def __init__(self, data_dir: Path, *options: str, **variables: str) -> None:
        self.data_dir = data_dir
        self.talk = data_dir.with_suffix(".talk")
        command = [*INGATHER, "up", "--json", "--data-dir", str(data_dir), *options]
        with self.talk.open("wb") as talk:
            self._popen = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=talk, text=True, env={**os.environ, **variables}
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_ready(self) -> dict[str, Any]:
        """What it prints when it is ready; fails with what it said when it ends instead."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        assert line, f"it ended with {self._popen.wait()}:\n{self.said()}"
        facts: dict[str, Any] = json.loads(line)
        return facts

    def said(self) -> str:
        return self.talk.read_text(encoding="utf-8")

    def facts(self) -> dict[str, Any]:
        """``stack.json`` as it is now."""
        content: dict[str, Any] = json.loads((self.data_dir / "stack.json").read_text(encoding="utf-8"))
        return content

    def processes(self) -> list[psutil.Process]:
        """It and everything it started."""
        try:
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def wait_end(self, seconds: float = 30) -> int:
        """Its exit status."""
        return self._popen.wait(seconds)

    def close(self) -> None:
        """End it whatever state it is in."""
        if self._popen.poll() is None:
            self._popen.terminate()
            try:
                self._popen.wait(30)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        if self._popen.stdout:
            self._popen.stdout.close()


@contextmanager
def running_up(data_dir: Path, *options: str, **variables: str) -> Iterator[Up]:
    """``ingather up`` for as long as the block lasts, with these variables in its environment."""
    up = Up(data_dir, *options, **variables)
    try:
        yield up
    finally:
        up.close()


def wait_until_ready(api_url: str, seconds: float = 60) -> None:
    """Return when every part says it is ready."""
    deadline, answer = time.monotonic() + seconds, "nothing"
    while time.monotonic() < deadline:
        try:
            response = httpx.get(f"{api_url}/readyz", trust_env=False, timeout=5)
            answer = f"{response.status_code} {response.text}"
            if response.status_code == 200:
                return
        except httpx.TransportError as error:
            answer = repr(error)
        time.sleep(0.1)
    raise AssertionError(f"not ready within {seconds} s: {answer}")


def still_alive(processes: list[psutil.Process], seconds: float = 5) -> list[str]:
    """Those of the processes that run, given a moment to go."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [" ".join(process.cmdline()) for process in alive if process.status() != psutil.STATUS_ZOMBIE]

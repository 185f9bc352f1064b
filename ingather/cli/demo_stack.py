"""The embedded stack as a child process of the demo: `ingather up` on free ports, stopped whatever happens."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode

START_SECONDS = 60.0
STOP_SECONDS = 20.0
"""The stack stops within 15."""
SHOWN_LOG_LINES = 15


class DemoStack:
    """`ingather up --json`, whose first line of output says where everything is."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._log = data_dir / "demo.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.first_key: str | None = None
        """The data directory's first API key, where this is its first run."""

    def start(self) -> None:
        """Return when the API answers.

        Raises:
            CliError: it ended early, or took longer than a minute; with the end of its log.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", "from ingather.cli.main import main; main()", "up", "--json"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--data-dir", str(self._data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # It is the demo's own, on loopback: nobody has to log in to see it.
                env={**os.environ, "PYTHONUNBUFFERED": "1", "INGATHER_AUTH__MODE": "open"},
                # A group of its own: Ctrl-C reaches us alone, and we stop it in order.
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self.url = self._wait_for_url(self._process.stdout)

    def stop(self) -> None:
        """Stop all of it; harmless when it never started.

        Raises:
            CliError: it had to be killed, or ended with an error.
        """
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise self._failed(f"It did not stop within {STOP_SECONDS:.0f} s.") from error
        if self.url and status not in (0, ExitCode.INTERRUPTED, -signal.SIGTERM):
            raise self._failed(f"It ended with status {status}.")

    def _wait_for_url(self, output: IO[bytes]) -> str:
        deadline = time.monotonic() + START_SECONDS
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self._failed(f"It was not ready after {START_SECONDS:.0f} s.")
            piece = os.read(output.fileno(), 65_536)
            if not piece:
                raise self._failed("It ended before it was ready.")
            line += piece
        try:
            api = json.loads(line)["api"]
            self.first_key = api.get("key")
            return str(api["url"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._failed("It did not say where the API is.") from error

    def _failed(self, why: str) -> CliError:
        """The reason, with the child's own error where it told one, else the end of its log."""
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LOG_LINES:]
        told = _told_error(lines[-1]) if lines else None
        return CliError(
            "The embedded stack did not work",
            detail="\n".join([why, *(told or lines)]),
            action="`ingather doctor` checks every part.",
            code="stack_not_started",
        )


def _told_error(line: str) -> list[str] | None:
    """The words of an error that a command wrote as JSON; None when the line is something else."""
    try:
        error = json.loads(line)["error"]
        return [str(error["title"]), *str(error.get("detail", "")).splitlines()]
    except (ValueError, KeyError, TypeError):
        return None

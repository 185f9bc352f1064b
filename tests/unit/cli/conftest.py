"""A stand-in server, and the command line pointed at it, run in this process as a shell would."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingather.cli import console
from ingather.cli.main import main
from tests.support import api_stand_in


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()


Run = Callable[..., Outcome]


@pytest.fixture
def server() -> Iterator[api_stand_in.StandIn]:
    with api_stand_in.running() as stand_in:
        yield stand_in


@pytest.fixture
def ingather(
    server: api_stand_in.StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    """``ingather("list", "--json")`` runs the command against the stand-in."""
    monkeypatch.setenv("INGATHER_URL", server.url)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        console.out.cache_clear()
        console.talk.cache_clear()
        monkeypatch.setattr(sys, "argv", ["ingather", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        written = capfd.readouterr()
        return Outcome(int(end.value.code or 0), written.out, written.err)

    return run

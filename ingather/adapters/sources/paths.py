"""Files below allowed folders, opened so that no link and no ``..`` leads out of them.

A path is walked from the allowed folder down, each part opened in the one before and none of them a symbolic link:
what was checked is what is open, whatever somebody renames meanwhile. Everything here blocks.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ingather.domain.filenames import shown
from ingather.models.errors import SourceAccessDeniedError, SourceFileNotFoundError, SourceUnavailableError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe without a writer would block for ever

NO_ROOTS = "This deployment allows no folder of its workers."
NO_ROOTS_ADVICE = "Set INGATHER_SOURCES__ROOTS in the API and in every worker to the folders that may be read."
_SHOWN = 160
"""Characters of a path in a message."""


def below_root(path: str, roots: Sequence[Path]) -> tuple[Path, tuple[str, ...]]:
    """The allowed folder that a path lies in, and the parts below it. Nothing is looked at.

    Raises ``SourceAccessDeniedError``.
    """
    if not roots:
        raise SourceAccessDeniedError(NO_ROOTS, action=NO_ROOTS_ADVICE)
    for root in roots:
        if path == str(root) or path.startswith(f"{str(root).rstrip('/')}/"):
            rest = path[len(str(root)) :].strip("/")
            return root, parts_of(rest) if rest else ()
    raise SourceAccessDeniedError(
        "The path lies in no folder that this deployment allows.",
        action="Name a path below one of INGATHER_SOURCES__ROOTS, or have the operator add its folder there.",
    )


def parts_of(file_id: str) -> tuple[str, ...]:
    """The parts of a relative path. Raises ``SourceAccessDeniedError`` for one that could lead elsewhere."""
    parts = tuple(file_id.split("/"))
    if "\0" in file_id or any(part in {"", ".", ".."} for part in parts):
        raise SourceAccessDeniedError(
            f"{_shown_path(parts)!r} is no path below the connection's own: it is absolute, or has an empty part, '.' or '..'.",
            action="Name files as GET /v1/connections/{id}/files lists them.",
        )
    return parts


def _shown_path(parts: Sequence[str]) -> str:
    """A path that leads nowhere, with what is wrong with it."""
    path = "/".join(part if part in {"", ".", ".."} else shown(part) for part in parts)
    return path if len(path) <= _SHOWN else f"…{path[1 - _SHOWN :]}"


@contextmanager
def opened_folder(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """A folder below an allowed one, as a descriptor. Raises what is documented for sources."""
    try:
        # The allowed folder itself may be a link: whoever runs the deployment named it.
        here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceUnavailableError(f"The allowed folder cannot be opened: {error.strerror}.") from error
    try:
        for part in parts:
            try:
                below = os.open(part, _FOLDER, dir_fd=here)
            except (OSError, UnicodeError) as error:
                raise _refusal(error, part, here) from error
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


@contextmanager
def opened_file(root: Path, parts: Sequence[str]) -> Iterator[tuple[int, os.stat_result]]:
    """An ordinary file below an allowed folder, as a descriptor, with what it is. Closed with the block."""
    *folders, name = parts
    with opened_folder(root, folders) as folder:
        try:
            file = os.open(name, _FILE, dir_fd=folder)
        except (OSError, UnicodeError) as error:
            raise _refusal(error, name, folder) from error
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            raise SourceFileNotFoundError(f"{shown(name)!r} is not an ordinary file.")
        yield file, facts
    finally:
        os.close(file)


def _refusal(error: Exception, name: str, folder: int) -> Exception:
    if not isinstance(error, OSError):
        return SourceFileNotFoundError(f"There is no {shown(name)!r}.")
    if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK} and _is_link(name, folder):
        return SourceAccessDeniedError(f"{shown(name)!r} is a symbolic link, and links are not followed.")
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO}:
        return SourceFileNotFoundError(f"There is no {shown(name)!r}.")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return SourceAccessDeniedError(f"The worker may not read {shown(name)!r}.")
    return SourceUnavailableError(f"{shown(name)!r} cannot be opened: {error.strerror}.")


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode)
    except OSError:
        return False

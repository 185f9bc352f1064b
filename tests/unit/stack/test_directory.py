"""The data directory: one stack at a time, secrets for the owner alone."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ingather.stack.directory import DataDirectory
from ingather.stack.errors import DataDirectoryInUseError, StackError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    return DataDirectory(tmp_path / "with space" / ".ingather")


def test_a_second_stack_on_the_same_directory_is_refused(directory: DataDirectory):
    """The message names the process that holds it and the way out."""
    refused = pytest.raises(DataDirectoryInUseError, match=rf"process {os.getpid()}.*--data-dir")
    with directory.held(), refused, DataDirectory(directory.root).held():
        pass


def test_the_lock_ends_with_its_holder(directory: DataDirectory):
    """A holder that is killed leaves no stale lock behind."""
    code = (
        "import os, pathlib, sys; from ingather.stack.directory import DataDirectory\n"
        "with DataDirectory(pathlib.Path(sys.argv[1])).held(): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(directory.root)], check=False)
    with directory.held():
        pass


def test_a_folder_that_has_a_gitignore_keeps_it(tmp_path: Path):
    """Somebody's own folder may be named as the data directory."""
    (tmp_path / ".gitignore").write_text("mine\n")
    with DataDirectory(tmp_path).held():
        assert (tmp_path / ".gitignore").read_text() == "mine\n"


def test_credentials_are_generated_once_and_stay(directory: DataDirectory):
    """A second run finds the same credentials; they are long, and different from each other."""
    with directory.held():
        first = directory.secrets()
        assert directory.secrets() == first
    values = list(first.model_dump().values())
    assert len(set(values)) == len(values)
    assert min(len(value) for value in values) >= 20


def test_a_key_that_was_shown_is_another_once_its_record_is_removed(directory: DataDirectory):
    """When it was shown is known, and who lost it removes the record and is shown the next one."""
    with directory.held():
        assert directory.first_key_shown_at() is None
        first = directory.first_key()
        directory.first_key_was_shown(first)
        assert directory.first_key_shown_at() is not None
        assert (directory.first_key().registered, directory.first_key().key) == (first.registered, None)
        (directory.root / "first-key").unlink()
        assert directory.first_key().key is not None
        assert directory.first_key().registered != first.registered


def test_secrets_and_addresses_are_readable_by_their_owner_alone(directory: DataDirectory):
    """Neither group nor others can read credentials, whatever the umask."""
    before = os.umask(0)
    try:
        with directory.held():
            directory.secrets()
            directory.write_stack_file({"redis": {"url": "redis://:secret@127.0.0.1/0"}})
    finally:
        os.umask(before)
    assert mode(directory.root) == 0o700
    assert mode(directory.root / "secrets.json") == 0o600
    assert mode(directory.stack_file) == 0o600


def test_damaged_secrets_are_told_and_not_replaced(directory: DataDirectory):
    """New credentials would lock the user out of data written under the old ones without a word."""
    with directory.held():
        (directory.root / "secrets.json").write_text("{")
        with pytest.raises(StackError, match=r"secrets\.json is damaged"):
            directory.secrets()


def test_a_missing_or_damaged_stack_file_reads_as_empty(directory: DataDirectory):
    """It only remembers addresses; losing it costs new ports."""
    assert directory.read_stack_file() == {}
    with directory.held():
        directory.stack_file.write_text("[")
        assert directory.read_stack_file() == {}


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path):
    """A file in the way is an error with the path, not a stack trace."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="cannot be written"), DataDirectory(tmp_path / "file" / "data").held():
        pass

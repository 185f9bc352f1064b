"""The stack's data directory: where each part keeps its state, the lock, the secrets, ``stack.json``."""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ingather.domain.api_keys import key_hash, new_key
from ingather.stack.errors import DataDirectoryInUseError, StackError
from ingather.stack.private_files import write_private


class Secrets(BaseModel, frozen=True):
    """Credentials of the embedded servers: generated once, kept in the data directory."""

    redis_password: str
    s3_access_key_id: str
    s3_secret_access_key: str
    s3_internal_key: str
    cursor_secret: str


def _new_secrets() -> Secrets:
    return Secrets(
        redis_password=secrets.token_hex(16),
        s3_access_key_id=f"ingather{secrets.token_hex(6)}",
        s3_secret_access_key=secrets.token_hex(20),
        s3_internal_key=secrets.token_hex(20),
        cursor_secret=secrets.token_hex(32),
    )


@dataclass(frozen=True, slots=True)
class FirstKey:
    """The administrator's key that comes with a data directory."""

    registered: str
    """`<id>.<SHA-256>`: what the API is told."""
    key: str | None = None
    """The key itself, until somebody has seen it."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Paths under one absolute ``root``; nothing is made before ``held``."""

    root: Path

    @property
    def stack_file(self) -> Path:
        """Addresses and credentials of the stack that runs here, or ran last; for its owner alone."""
        return self.root / "stack.json"

    @property
    def catalog(self) -> Path:
        return self.root / "catalog.db"

    @property
    def index(self) -> Path:
        return self.root / "index"

    def state(self, part: str) -> Path:
        """The folder of a part's own files."""
        return self.root / part

    def log(self, part: str) -> Path:
        return self.root / "logs" / f"{part}.log"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the directory and hold its lock; raises ``DataDirectoryInUseError`` when another run does.

        The kernel lets go of the lock when the process ends, however it ends.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
            with contextlib.suppress(FileExistsError), (self.root / ".gitignore").open("x") as ignored:
                ignored.write("*\n")
            lock = (self.root / "lock").open("a+")
        except OSError as error:
            raise StackError(f"The data directory {self.root} cannot be written: {error.strerror}.") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                raise DataDirectoryInUseError(self._in_use_message(lock.read())) from None
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def _in_use_message(self, pid: str) -> str:
        return (
            f"Another `ingather up` (process {pid or 'unknown'}) uses the data directory {self.root}. "
            "Stop it first, or give this one a directory of its own with --data-dir."
        )

    def secrets(self) -> Secrets:
        """The directory's credentials, generated at the first call."""
        path = self.root / "secrets.json"
        if path.exists():
            try:
                return Secrets.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise StackError(f"{path} is damaged. Remove it to have new credentials generated.") from error
        new = _new_secrets()
        write_private(path, new.model_dump_json(indent=2))
        return new

    def first_key(self) -> FirstKey:
        """A new one until ``first_key_was_shown``; from then on what was registered, without the key."""
        try:
            return FirstKey(self._first_key_file.read_text(encoding="utf-8").strip())
        except OSError:
            key_id, key = new_key()
            return FirstKey(f"{key_id}.{key_hash(key)}", key)

    def first_key_shown_at(self) -> datetime | None:
        """When the key was shown; None before."""
        try:
            return datetime.fromtimestamp(self._first_key_file.stat().st_mtime, UTC)
        except OSError:
            return None

    def first_key_was_shown(self, first_key: FirstKey) -> None:
        """Somebody has it: it is not made again, and nothing here can bring it back."""
        write_private(self._first_key_file, first_key.registered + "\n")

    @property
    def _first_key_file(self) -> Path:
        return self.root / "first-key"

    def read_stack_file(self) -> dict[str, Any]:
        """What the last run wrote; empty when there was none."""
        try:
            content = json.loads(self.stack_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def write_stack_file(self, content: Mapping[str, Any]) -> None:
        """Replace the file as a whole: a reader sees the old one or the new one."""
        write_private(self.stack_file, json.dumps(content, indent=2))

"""A private PostgreSQL server, for machines that have its programs."""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

UNPRIVILEGED = "postgres"
"""PostgreSQL refuses to run as root; then it runs as this user."""


@contextmanager
def started_postgres() -> Iterator[str]:
    """The server's folder of sockets; it listens on nothing else. Skips the test where there is no PostgreSQL."""
    initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL's initdb and postgres are not on PATH")
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    data = directory / "data"
    try:
        if user is not None:
            shutil.chown(directory, user)
        make = [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(make, user=user, cwd=directory, check=True, capture_output=True)
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60"]
        log = (directory / "log").open("wb")
        server = subprocess.Popen(
            [postgres, "-D", str(data), "-k", str(directory), *options],
            user=user,
            cwd=directory,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        try:
            _wait_for(server, directory)
            yield str(directory)
        finally:
            server.kill()
            server.wait()
    finally:
        shutil.rmtree(directory)


def new_database(sockets: str) -> str:
    """SQLAlchemy URL of a new, empty database."""
    name = f"catalog_{uuid.uuid4().hex}"
    with psycopg.connect(host=sockets, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://postgres@/{name}?host={sockets}"


def _wait_for(server: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(host=str(directory), user="postgres", dbname="postgres").close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((directory / "log").read_text()) from None
            time.sleep(0.05)
        else:
            return

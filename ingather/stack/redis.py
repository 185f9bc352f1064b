"""Valkey as the stack's Redis: append-only file, a password, one loopback port."""

from dataclasses import dataclass, field
from pathlib import Path

from ingather.stack.binaries import VALKEY, find_binary
from ingather.stack.ports import LOOPBACK
from ingather.stack.private_files import write_private
from ingather.stack.probes import redis_ping, until
from ingather.stack.process import Command

PORTS = ("redis",)

_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir "{directory}"
appendonly yes
appendfsync everysec
save ""
daemonize no
databases 16
maxclients 4000
auto-aof-rewrite-min-size 16mb
"""


@dataclass(frozen=True)
class RedisServer:
    """A Valkey server, keeping its state in ``directory``."""

    directory: Path
    log_path: Path
    port: int
    password: str = field(repr=False)
    name: str = "redis"
    grace_seconds: float = 3.0

    @property
    def url(self) -> str:
        """Redis URL with the password."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def command(self) -> Command:
        """The password goes into a file of ours: command lines are readable by everybody on the machine."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "redis.conf"
        directory = self.directory.resolve()
        write_private(
            path,
            _CONFIGURATION.format(host=LOOPBACK, port=self.port, password=self.password, directory=directory),
        )
        return Command(self.name, (str(find_binary(VALKEY)), str(path.resolve())), self.log_path)

    async def wait_ready(self, pid: int) -> None:  # noqa: ARG002 - part of the protocol
        """Ready when it answers with the append-only file loaded."""
        await until(self._answers)

    async def _answers(self) -> bool:
        return await redis_ping(self.port, self.password)

    def clean_up(self) -> None:
        """Nothing outside the data directory."""

"""Temporal's own server and Web UI, as one process on SQLite."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ingather.models.engine import SEARCH_ATTRIBUTES
from ingather.stack.binaries import TEMPORAL, find_binary
from ingather.stack.ports import LOOPBACK
from ingather.stack.probes import http_json, until
from ingather.stack.process import Command

PORTS = ("temporal", "temporal_http", "temporal_ui", "temporal_metrics")

NAMESPACE = "default"

_PRAGMAS = {"journal_mode": "WAL", "synchronous": "NORMAL"}
"""Without them the server does 170 activities a second where it can do 600."""

DYNAMIC_CONFIG = {
    "matching.enableFairness": "true",  # fairness keys do nothing without it
    "history.MaxBufferedQueryCount": "50",  # the default of 1 refuses a second reader of a busy workflow
    "frontend.namespaceRPS.visibility": "100",  # 10 a second would slow down lists of batches
}
"""What any Temporal needs for us; docker-compose's server is told the same."""

ONE_MACHINE = {
    # Four partitions are for many machines; with one, priority and fairness order all tasks of a queue.
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
}
"""What it needs on one machine, as docker-compose's is."""


@dataclass(frozen=True)
class TemporalServer:
    """The dev server of the ``temporal`` command, keeping its state in ``directory``."""

    directory: Path
    log_path: Path
    ports: Mapping[str, int]
    name: str = "temporal"
    grace_seconds: float = 4.0
    search_attributes: Mapping[str, str] = field(default_factory=lambda: dict(SEARCH_ATTRIBUTES))
    dynamic_config: Mapping[str, str] = field(default_factory=dict)
    """Server settings on top of our own."""

    @property
    def address(self) -> str:
        """``host:port`` of the gRPC frontend."""
        return f"{LOOPBACK}:{self.ports['temporal']}"

    @property
    def ui_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['temporal_ui']}"

    @property
    def database(self) -> Path:
        return self.directory / "temporal.db"

    def command(self) -> Command:
        self.directory.mkdir(parents=True, exist_ok=True)
        argv = [str(find_binary(TEMPORAL)), "server", "start-dev", "--log-level", "warn", "--ui-disable-news-fetch"]
        argv += ["--ip", LOOPBACK, "--db-filename", str(self.database.resolve())]
        for option, port in (("port", ""), ("http-port", "_http"), ("ui-port", "_ui"), ("metrics-port", "_metrics")):
            argv += [f"--{option}", str(self.ports[f"temporal{port}"])]
        for pragma, value in _PRAGMAS.items():
            argv += ["--sqlite-pragma", f"{pragma}={value}"]
        for key, value in {**DYNAMIC_CONFIG, **ONE_MACHINE, **self.dynamic_config}.items():
            argv += ["--dynamic-config-value", f"{key}={value}"]
        for key, value in self.search_attributes.items():
            argv += ["--search-attribute", f"{key}={value}"]
        # The user's own Temporal profile (address, TLS) is for clients and must not confuse the server's own.
        own = ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE")
        return Command(self.name, tuple(argv), self.log_path, unset=own)

    async def wait_ready(self, pid: int) -> None:  # noqa: ARG002 - part of the protocol
        """Ready when the namespace knows our search attributes; a workflow start needs them."""
        await until(self._has_search_attributes)

    async def _has_search_attributes(self) -> bool:
        path = f"/cluster/namespaces/{NAMESPACE}/search-attributes"
        answer = await http_json(self.ports["temporal_http"], path)
        return set(self.search_attributes) <= set(answer.get("customAttributes", {}))

    def clean_up(self) -> None:
        """Nothing outside the data directory."""

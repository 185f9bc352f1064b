"""Our own processes as parts of the stack: the API and the workers."""

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from ingather.models.engine import ROLES, WORKFLOW_QUEUE
from ingather.stack.errors import PortTakenError
from ingather.stack.ports import LOOPBACK
from ingather.stack.probes import http_headers, http_json, until
from ingather.stack.process import Command
from ingather.stack.temporal import NAMESPACE

# -P keeps the current directory out of the import path: an `api` folder of the user's must not stand in for ours.
_PYTHON = (sys.executable, "-P", "-m")

API_DRAIN_SECONDS = 4
WORKER_GRACE_SECONDS = 10

MARK_HEADER = "Ingather-Stack"
"""In every answer of an embedded stack's API: whose it is."""


@dataclass(frozen=True)
class ApiPart:
    """uvicorn with our application."""

    port: int
    log_path: Path
    environment: Mapping[str, str] = field(repr=False)
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    """No secret; no other stack's API has it."""
    name: str = "api"
    grace_seconds: float = API_DRAIN_SECONDS + 2.0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def command(self) -> Command:
        # The access log stays off: its lines carry query strings.
        argv = [*_PYTHON, "uvicorn", "--factory", "api.app:create_app", "--host", LOOPBACK, "--port", str(self.port)]
        argv += ["--timeout-graceful-shutdown", str(API_DRAIN_SECONDS), "--no-access-log", "--no-server-header"]
        argv += ["--header", f"{MARK_HEADER}:{self.mark}"]
        argv += ["--ws-max-size", str(64 * 1024), "--ws-per-message-deflate", "false", "--log-level", "warning"]
        return Command(self.name, tuple(argv), self.log_path, self.environment, unset=_temporal_variables())

    async def wait_ready(self, pid: int) -> None:  # noqa: ARG002 - part of the protocol
        """Ready when it listens; whether its dependencies do is the question ``/readyz`` answers.

        Raises ``PortTakenError`` where somebody else answers: a stack that starts at the same moment may have found the
        same port free, and has it now.
        """
        await until(self._alive)

    async def _alive(self) -> bool:
        status, headers = await http_headers(self.port, "/livez")
        if status and headers.get(MARK_HEADER.lower()) != self.mark:
            raise PortTakenError(
                f"Another server took port {self.port} while the API was starting. Start again: it takes a free port,"
                " or choose one with --port."
            )
        return status == 200

    def clean_up(self) -> None:
        """Nothing outside the data directory."""


@dataclass(frozen=True)
class WorkerPart:
    """One worker process with all roles."""

    number: int
    temporal_http_port: int
    log_path: Path
    environment: Mapping[str, str] = field(repr=False)
    # After its own grace it cancels activities, which then hand their documents back.
    grace_seconds: float = WORKER_GRACE_SECONDS + 1.0

    @property
    def name(self) -> str:
        return f"worker-{self.number}"

    def command(self) -> Command:
        argv = (*_PYTHON, "worker", "--roles", ",".join(ROLES))
        return Command(self.name, argv, self.log_path, self.environment, unset=_temporal_variables())

    async def wait_ready(self, pid: int) -> None:
        """Ready when this very process polls every queue."""
        for queue in chain.from_iterable(ROLES.values()):
            await until(lambda queue=queue: self._polls(queue, pid))  # type: ignore[misc]  # mypy infers no default

    async def _polls(self, queue: str, pid: int) -> bool:
        pollers = await queue_pollers(self.temporal_http_port, queue)
        return any(identity.startswith(f"{pid}@") for identity in pollers)

    def clean_up(self) -> None:
        """Nothing outside the data directory."""


async def queue_pollers(temporal_http_port: int, queue: str) -> list[str]:
    """Identities (``pid@host``) of the workers Temporal saw on a task queue within the last minutes."""
    kind = "WORKFLOW" if queue == WORKFLOW_QUEUE else "ACTIVITY"
    path = f"/api/v1/namespaces/{NAMESPACE}/task-queues/{quote(queue)}?taskQueueType=TASK_QUEUE_TYPE_{kind}"
    answer = await http_json(temporal_http_port, path)
    return [str(poller.get("identity", "")) for poller in answer.get("pollers", [])]


def _temporal_variables() -> tuple[str, ...]:
    """The user's Temporal Cloud settings must not leak into processes that talk to the embedded server."""
    of_client = ["CLIENT_CERT_PATH", "CLIENT_KEY_PATH", "CLIENT_CERT_DATA", "CLIENT_KEY_DATA"]
    of_server = ["SERVER_CA_CERT_PATH", "SERVER_CA_CERT_DATA", "SERVER_NAME", "DISABLE_HOST_VERIFICATION"]
    names = ["API_KEY", "PROFILE", "TLS", *(f"TLS_{name}" for name in of_client + of_server)]
    return tuple(f"TEMPORAL_{name}" for name in names)

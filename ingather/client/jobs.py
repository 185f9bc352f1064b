"""How messages about jobs are read over any number of WebSockets. Decides; whoever does the IO connects and waits.

Each message carries a cursor, and a new connection goes on behind the last one, so that what happened
while there was none is told first. A server that keeps none tells where every job stands, which covers it.
"""

import json
from collections.abc import Mapping

from ingather.client.errors import ClientError, ConnectionLostError, api_error
from ingather.client.following import OnLost, Patience
from ingather.client.models import JobMessage
from ingather.client.retries import is_passing
from ingather.client.server import Server

QUIET = 20.0
"""Seconds without a message after which the server is asked whether it is there."""
MAX_MESSAGE_BYTES = 1024 * 1024
PING = json.dumps({"type": "ping"})
_REFUSALS = range(400, 500)
"""HTTP statuses that, and 4,000, are close codes."""
_POLICY = 1008
"""The close code of a request that is refused for good, for no reason that has a code."""


class JobFollowing:
    """Where a reader of a user's jobs stands.

    Args:
        server: where they are.
        user_id: whose jobs.
        job_id: one of them; None is all.
        after: the cursor behind which to go on.
        ping_after: seconds without a message after which the server is asked whether it is there; after as many more
            it counts as lost.
        on_lost: told why a connection was lost, before the next attempt.
    """

    def __init__(
        self,
        server: Server,
        user_id: str,
        job_id: str | None = None,
        *,
        after: str | None = None,
        ping_after: float = QUIET,
        on_lost: OnLost | None = None,
    ) -> None:
        self._server = server
        self._user_id = user_id
        self._job_id = job_id
        self._patience = Patience("job" if job_id else "user's work", job_id or user_id, on_lost)
        self._was_asked = False
        self.after = after
        self.ping_after = ping_after
        self.is_over = False
        """The one job that is followed has ended."""

    def url(self) -> str:
        """The next connection."""
        self._was_asked = False
        return self._server.websocket_url("/batch/ws", self._user_id, {"job_id": self._job_id, "after": self.after})

    @property
    def headers(self) -> dict[str, str]:
        return {name: value for name, value in self._server.headers.items() if name not in ("Accept", "User-Agent")}

    @property
    def is_local(self) -> bool:
        return self._server.is_local

    @property
    def user_agent(self) -> str:
        return self._server.headers["User-Agent"]

    def take(self, text: str | bytes) -> list[JobMessage]:
        """What is to be told of what arrived; nothing of an answer to our own question, or of what is no message."""
        self._was_asked = False
        self._patience.heard()
        try:
            raw = json.loads(text)
        except ValueError:
            return []
        if not isinstance(raw, Mapping) or raw.get("type") == "pong":
            return []
        message = JobMessage.from_json(raw)
        self.after = message.cursor or self.after
        self.is_over = self._job_id is not None and message.is_final
        return [message]

    def quiet(self) -> str:
        """What to send after ``ping_after`` seconds without a message.

        Raises:
            ConnectionLostError: it was sent already, and nothing came.
        """
        if self._was_asked:
            raise ConnectionLostError(f"nothing heard for {self.ping_after * 2:.0f} seconds")
        self._was_asked = True
        return PING

    def lost(self, error: ClientError) -> float:
        """Seconds until the next connection.

        Raises:
            ClientError: the server refused it for good, or was away too long.
        """
        if not is_passing(error):
            raise error
        self._patience.wish = error.retry_after
        return self._patience.lost(error.title)


def closed_with(code: int | None, reason: str) -> ClientError:
    """The error that a close code is."""
    status = 400 if code == _POLICY else (code or 0) - 4000
    if status in _REFUSALS:
        return api_error(status, {"title": reason or f"The server closed the connection with {code}"})
    return ConnectionLostError(reason or "the server closed the connection")

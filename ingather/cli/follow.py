"""Follow a batch's events to its end, across lost connections, without a gap and without a duplicate."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import httpx
from httpx_sse import SSEError

from ingather.cli.client import IngatherClient
from ingather.cli.errors import ApiProblemError, CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.resources import Batch, StreamEvent

PATIENCE = 300.0
"""Seconds without a connection after which following gives up."""
WAITS = (0.5, 1.0, 2.0, 3.0)
"""Seconds between attempts to connect again; the last one repeats."""

Sleep = Callable[[float], None]
Clock = Callable[[], float]


class Audience(Protocol):
    """Who is told what happens."""

    def event(self, event: StreamEvent) -> None: ...

    def lost(self, reason: str) -> None:
        """The connection is gone; another attempt follows."""
        ...


@dataclass
class Follower:
    """Reads one batch's stream until ``stream.end``, and remembers how far it has read."""

    client: IngatherClient
    batch_id: str
    after: int | None = None
    """``seq`` behind which to go on; None starts with a snapshot of now, 0 with the first event."""
    sleep: Sleep = time.sleep
    clock: Clock = time.monotonic

    def run(self, audience: Audience) -> Batch:
        """The batch as it ended.

        Raises:
            CliError: the batch is unknown, or nobody answered for ``PATIENCE`` seconds.
        """
        heard_at, attempt = self.clock(), 0
        while True:
            before = self.after
            try:
                if self._read_connection(audience):
                    return self.client.batch(self.batch_id)
                reason = "the server closed the stream"
                if (batch := self.client.batch(self.batch_id)).is_final:
                    return batch
                heard_at = self.clock()
            except (httpx.TransportError, SSEError) as error:
                reason = str(error) or type(error).__name__
            except ApiProblemError as error:
                if error.status < 500 and error.status != 429:
                    raise
                reason = error.title
            except CliError as error:
                reason = error.title
            if self.after != before:
                heard_at, attempt = self.clock(), 0
            if self.clock() - heard_at > PATIENCE:
                raise self._given_up(reason)
            audience.lost(reason)
            self.sleep(WAITS[min(attempt, len(WAITS) - 1)])
            attempt += 1

    def _read_connection(self, audience: Audience) -> bool:
        """Hand on what one connection brings; True when the batch's last event was among it."""
        with self.client.events(self.batch_id, after=self.after) as events:
            for event in events:
                self._remember(event)
                audience.event(event)
                if event.type == "stream.end":
                    return True
        return False

    def _remember(self, event: StreamEvent) -> None:
        if event.seq is not None:
            self.after = event.seq
        elif event.type == "stream.reset":
            # Our cursor means nothing to the server any more; the snapshot that follows starts anew.
            self.after = None
        elif event.type == "stream.open" and self.after is None:
            latest = event.data.get("latest_seq")
            self.after = latest if isinstance(latest, int) else None

    def _given_up(self, reason: str) -> CliError:
        return CliError(
            "Lost the server",
            detail=f"No connection for {PATIENCE:.0f} seconds: {reason}. The batch itself may well be running.",
            action=f"When the server is back: ingather watch {self.batch_id}",
            exit_code=ExitCode.LIMIT,
            code="connection_lost",
        )

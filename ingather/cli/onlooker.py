"""Beside the events of a batch: why it stands still and when it should be done, asked for now and then.

Events tell what happened. A batch in line, or one without a worker, is one to which nothing happens.
"""

import threading
from types import TracebackType
from typing import Self

from ingather.cli.picture import BatchPicture
from ingather.client import IngatherClient
from ingather.client.errors import ClientError

INTERVAL = 3.0
"""Seconds between two looks."""


class Onlooker:
    """Keeps a picture's outlook fresh for as long as the block lasts. An answer that does not come is not missed."""

    def __init__(self, client: IngatherClient, picture: BatchPicture, interval: float = INTERVAL) -> None:
        self._client = client
        self._picture = picture
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="onlooker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _look_on(self) -> None:
        while not self._ended.wait(self._interval):
            try:
                batch = self._client.batch(self._picture.batch_id)
            except ClientError:
                continue  # whoever reads the events tells of a server that is away
            except RuntimeError:
                return  # the client was closed meanwhile
            self._picture.look(batch)

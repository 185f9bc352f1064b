"""Many files into an open batch: block by block, each sent until it has arrived, none twice.

A block's key follows from the upload's own key and the block's place. So an upload that broke off goes
on where it was when it is started again with the same key and the same files: the server knows the
blocks it has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ingather.cli.errors import CliError
from ingather.cli.selection import match_metadata
from ingather.client import IngatherClient
from ingather.client.bodies import UploadFile
from ingather.client.errors import ApiError
from ingather.client.models import Limits

BLOCK_FILES = 1_000
BLOCK_BYTES = 64 * 1024 * 1024
ONE_REQUEST_FILES = 1_000
"""Up to this many files, and bytes, make one request; more make an open batch in blocks."""
ONE_REQUEST_BYTES = 256 * 1024 * 1024

Progress = Callable[[int, int], None]
"""Called with files that have arrived and bytes that have left so far."""


@dataclass(slots=True)
class BlockUpload:
    """Uploads files into an open batch.

    ``files_sent`` is how far it got, also where it was interrupted.
    """

    client: IngatherClient
    batch_id: str
    key: str
    metadata: Mapping[str, dict[str, Any]]
    block_bytes: int = BLOCK_BYTES
    files_sent: int = 0
    documents: int = 0
    """In the batch, as the server said last."""
    _bytes_sent: int = 0

    def run(self, files: Iterable[UploadFile], progress: Progress) -> None:
        """Send every file. Raises ``ClientError`` where a block cannot be brought in; those before it stay."""
        for number, block in enumerate(blocks(files, self.block_bytes)):
            self._send(number, block, progress)
            self.files_sent += len(block)
            self._bytes_sent += sum(file.size_bytes for file in block)
            progress(self.files_sent, self._bytes_sent)

    def _send(self, number: int, block: list[UploadFile], progress: Progress) -> None:
        by_name, _ = match_metadata(block, self.metadata)
        size = sum(file.size_bytes for file in block)
        try:
            added = self.client.add(
                self.batch_id,
                block,
                metadata=by_name,
                idempotency_key=f"{self.key}/{number}",
                sent=lambda sent: progress(self.files_sent, self._bytes_sent + min(sent, size)),
            )
        except ApiError as error:
            if error.code != "idempotency_key_reused":
                raise
            raise CliError(
                "The files are not those that were uploaded before",
                detail=f"Since the upload with this key began, a file among the first {self.files_sent + len(block):,} "
                "was changed, added or removed.",
                action=f"Begin anew: ingather cancel {self.batch_id}, then submit without --idempotency-key.",
                code=error.code,
            ) from error
        self.documents = added.documents


def room_in_request(limits: Limits) -> int:
    """Bytes of files that one request takes, its own headers left out; small servers take less."""
    return (limits.max_request_bytes or ONE_REQUEST_BYTES * 2) * 9 // 10


def blocks(files: Iterable[UploadFile], most_bytes: int = BLOCK_BYTES) -> Iterator[list[UploadFile]]:
    """Files in order, in blocks of bounded number and bytes; a file larger than that is a block of its own."""
    block: list[UploadFile] = []
    size = 0
    for file in files:
        if block and (len(block) == BLOCK_FILES or size + file.size_bytes > most_bytes):
            yield block
            block, size = [], 0
        block.append(file)
        size += file.size_bytes
    if block:
        yield block

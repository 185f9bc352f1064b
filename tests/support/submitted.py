"""What an API has kept of a submission, and bodies to submit with."""

import json
from typing import Any

from ingather.models.document import Submitted
from tests.support.api import ApiInProcess


async def submission(api: ApiInProcess, batch_id: str) -> list[Submitted]:
    """The lines of a batch's parts, in order."""
    parts = await api.catalog.list_parts(batch_id)
    contents = [await api.blobs.get(part.key) for part in parts]
    return [Submitted.model_validate_json(line) for content in contents for line in content.splitlines()]


async def bytes_of(api: ApiInProcess, line: Submitted) -> bytes:
    assert line.blob is not None
    return await api.blobs.get(line.blob.key, offset=line.blob.offset, size=line.blob.size_bytes)


def form(*files: tuple[str, bytes], **fields: object) -> dict[str, Any]:
    """A multipart body: the files, then fields as JSON."""
    parts: list[Any] = [("files", file) for file in files]
    return {"files": parts + [(name, (None, json.dumps(value))) for name, value in fields.items()]}


def ndjson(*lines: object) -> dict[str, Any]:
    """An NDJSON body; a line that is text already is sent as it is."""
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return {"content": "\n".join(written).encode(), "headers": {"content-type": "application/x-ndjson"}}

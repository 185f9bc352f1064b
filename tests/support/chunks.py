"""Clients of the scanned sheets contract that send files in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

CHUNK_PATH, UPLOAD_PATH = "/api/batches/upload-chunk", "/api/batches/upload"
Json = dict[str, Any]


@dataclass
class ChunkClient:
    """Sends one file; the first chunk's answer gives the upload its id."""

    http: httpx.AsyncClient
    chunks: Sequence[bytes]
    filename: str = "forms.zip"
    fields: Json = field(default_factory=lambda: {"upload_type": "zip_with_qr"})
    headers: dict[str, str] = field(default_factory=dict)
    upload_id: str | None = None
    chunk_first: bool = False
    """Send the bytes before what they are, as many front ends do."""

    async def send(self, index: int, **changes: Any) -> httpx.Response:
        """One chunk; fields that are None are left out."""
        given: Json = {
            "chunk_index": index,
            "total_chunks": len(self.chunks),
            "filename": self.filename,
            "upload_id": self.upload_id,
            "is_final_chunk": "true" if index == len(self.chunks) - 1 else "false",
            **self.fields,
        }
        content = changes.pop("chunk", None)
        parts: list[tuple[str, Any]] = [
            (name, (None, str(value))) for name, value in (given | changes).items() if value is not None
        ]
        chunk = ("chunk", ("blob", self.chunks[index % len(self.chunks)] if content is None else content))
        parts.insert(0 if self.chunk_first else len(parts), chunk)
        response = await self.http.post(CHUNK_PATH, files=parts, headers=self.headers)
        if index == 0 and response.status_code == 200:
            self.upload_id = response.json()["upload_id"]
        return response

    async def taken(self, index: int, **changes: Any) -> Json:
        """One chunk, which must be taken."""
        response = await self.send(index, **changes)
        assert response.status_code == 200, response.text
        answer: Json = response.json()
        return answer

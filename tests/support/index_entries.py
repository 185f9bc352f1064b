"""Documents ready for the search index, without parsing anything."""

import hashlib

import numpy as np

from ingather.domain.artifact import encode
from ingather.models.content import Chunk, ParsedDocument
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.ports.chunk_index import IndexEntry

TENANT = DEFAULT_TENANT_ID
OTHER_TENANT = "00000000-0000-7000-8000-000000000002"
BATCH = "00000000-0000-7000-8000-0000000000b1"
OTHER_BATCH = "00000000-0000-7000-8000-0000000000b2"
DIMENSIONS = 16


def vector_of(text, dimensions=DIMENSIONS):
    """A direction of its own for every text: the same text again, and only that, is close to it."""
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal((1, dimensions)).astype(np.float32)
    return vector / np.linalg.norm(vector)


def artifact_of(texts, *, embedded=True, dimensions=DIMENSIONS):
    chunks = [
        Chunk(ordinal=n, text=text, start=0, end=len(text), page=n + 1, headings=("Top", f"Part {n}"))
        for n, text in enumerate(texts)
    ]
    vectors = np.concatenate([np.empty((0, dimensions), np.float32), *(vector_of(t, dimensions) for t in texts)])
    parsed = ParsedDocument(media_type="text/plain", text="\n".join(texts))
    return encode(parsed, chunks, vectors if embedded else None, quality=1.0, embedder="test", versions={})


def entry(*texts, name="one.txt", collection="default", batch_id=BATCH, fingerprint="f1", ordinal=0, **more):
    """A document named ``name`` whose chunks are ``texts``; its content is told by its name."""
    metadata = more.pop("metadata", {})
    return IndexEntry(
        file_id=file_id_for(batch_id, ordinal),
        batch_id=batch_id,
        collection=collection,
        filename=name,
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        fingerprint=fingerprint,
        metadata=metadata,
        artifact=artifact_of(texts, **more),
    )

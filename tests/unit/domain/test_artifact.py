"""An artifact holds a document and gives it back unchanged."""

import contextlib

import numpy as np
import pyarrow as pa
import pytest

from ingather.domain import artifact
from ingather.models.content import Chunk, Heading, PageSpan, ParsedDocument
from ingather.models.errors import ArtifactUnreadableError

PARSED = ParsedDocument(
    media_type="application/pdf",
    text="Observatory\n\n望遠鏡 🔭",
    pages=(PageSpan(1, 0, 11), PageSpan(2, 13, 18)),
    headings=(Heading(1, "Observatory", 0),),
    title="Guide",
    warnings=("page_unreadable",),
)
CHUNKS = [
    Chunk(0, "Observatory", 0, 11, page=1, headings=("Observatory",)),
    Chunk(1, "望遠鏡 🔭", 13, 18, page=2, headings=("Observatory",)),
]
VECTORS = np.array([[1, 0, 0], [0, 0.5, 0.25]], dtype=np.float32)


def encoded(vectors: "np.ndarray | None" = VECTORS) -> bytes:
    return artifact.encode(PARSED, CHUNKS, vectors, quality=0.75, embedder="model-1", versions={"pdf": "5"})


def test_gives_back_what_was_put_in() -> None:
    """Chunks, vectors and everything about the document survive the round trip."""
    decoded = artifact.decode(encoded())
    assert decoded.chunks() == CHUNKS
    assert decoded.embedded
    np.testing.assert_array_equal(decoded.vectors(), VECTORS)
    header = decoded.header
    assert (header.text, header.pages, header.headings) == (PARSED.text, PARSED.pages, PARSED.headings)
    assert (header.title, header.media_type, header.warnings) == ("Guide", "application/pdf", ("page_unreadable",))
    assert (header.quality, header.embedder, header.versions) == (0.75, "model-1", {"pdf": "5"})


def test_has_the_promised_columns() -> None:
    """Readers in other languages find the columns and types the module promises."""
    schema = artifact.decode(encoded()).table.schema
    assert [(f.name, str(f.type)) for f in schema] == [
        ("ordinal", "int32"),
        ("text", "string"),
        ("start", "int32"),
        ("end", "int32"),
        ("page", "int32"),
        ("headings", "list<item: string>"),
        ("vector", "fixed_size_list<item: float>[3]"),
    ]


def test_vectors_may_come_later() -> None:
    """Without vectors an artifact says so; filled in later it equals one that had them from the start."""
    bare = encoded(None)
    assert not artifact.decode(bare).embedded
    assert artifact.decode(bare).vectors() is None
    assert artifact.decode(bare).header.embedder is None
    assert artifact.with_vectors(bare, VECTORS, embedder="model-1") == encoded()


def test_may_stand_for_another_document() -> None:
    """What that one is takes the place of what the text is; the rest, vectors too, stays."""
    facts = {"media_type": "image/*", "page_count": 3, "title": "Scan", "warnings": ("blurred",)}
    told, before = artifact.decode(artifact.standing_for(encoded(), **facts)), artifact.decode(encoded())
    assert {name: getattr(told.header, name) for name in facts} == facts
    assert (told.header.text, told.header.embedder, told.chunks()) == (PARSED.text, "model-1", before.chunks())
    np.testing.assert_array_equal(told.vectors(), VECTORS)
    assert not artifact.decode(artifact.standing_for(encoded(None), **facts)).embedded


def test_reads_the_text_alone() -> None:
    """The full text can be had directly."""
    assert artifact.read_text(encoded()) == PARSED.text


def test_is_the_same_bytes_each_time() -> None:
    """Encoding is deterministic, so that a repeated attempt overwrites an object with itself."""
    assert encoded() == encoded()


def test_a_document_without_chunks_lacks_no_vector() -> None:
    """Nothing has to be embedded where there is nothing."""
    empty = artifact.encode(PARSED, [], None, quality=0.0, embedder=None, versions={})
    assert artifact.decode(empty).embedded
    assert artifact.decode(empty).chunks() == []


def test_refuses_a_wrong_number_of_vectors() -> None:
    """A vector too few is noticed when it is written, not when it is searched."""
    with pytest.raises(ValueError, match="1 vectors for 2 chunks"):
        encoded(VECTORS[:1])


@pytest.mark.parametrize("broken", [b"", b"no arrow", encoded()[:100]])
def test_refuses_other_bytes(broken: bytes) -> None:
    """Bytes that are no artifact are refused as such."""
    with pytest.raises(ArtifactUnreadableError):
        artifact.decode(broken)


def test_refuses_an_arrow_file_of_somebody_else() -> None:
    """An Arrow file without our header is no artifact."""
    sink = pa.BufferOutputStream()
    table = pa.table({"a": [1]})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ArtifactUnreadableError):
        artifact.decode(sink.getvalue().to_pybytes())


def test_damaged_bytes_are_told_or_harmless() -> None:
    """Wherever a byte is wrong, the artifact is refused as unreadable or can be read to its end: nothing else is raised."""
    sound = encoded()
    for position in range(0, len(sound), 7):
        damaged = bytearray(sound)
        damaged[position] ^= 0xFF
        with contextlib.suppress(ArtifactUnreadableError):
            artifact.decode(bytes(damaged)).chunks()


def test_an_offset_that_leads_out_of_the_file_is_not_followed() -> None:
    """Arrow itself takes it on trust, and would read memory that is not the artifact's."""
    end_of_text = len(PARSED.text[: CHUNKS[0].end].encode()).to_bytes(4, "little")
    sound = encoded()
    position = sound.index(bytes(4) + end_of_text) + 4
    with pytest.raises(ArtifactUnreadableError):
        artifact.decode(sound[:position] + (10**6).to_bytes(4, "little") + sound[position + 4 :])

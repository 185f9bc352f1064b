"""The artifact: everything a document became, in one Arrow IPC file that can be stored, sent and indexed as it is.

One row a chunk, all in one record batch. The schema's metadata holds one JSON header with what
belongs to the document as a whole, and the batch's own metadata its full text in UTF-8, so that nothing has to be
parsed twice. (The text stands at the batch because Arrow writes a schema twice.) The file is
written deterministically: the same document under the same fingerprint gives the same bytes.

========  ==================================  ================================================
column    type                                meaning
========  ==================================  ================================================
ordinal   int32                               0-based position in the document
text      string                              ``text[start:end]`` of the full text
start     int32                               first character
end       int32                               one past the last character
page      int32, nullable                     1-based page where the chunk starts
headings  list<string>                        titles from the outermost heading down
formulas  list<string>; absent without any  formulas in LaTeX within the chunk, as the text has them
vector    fixed_size_list<float32>[n] | null  the embedding; of Arrow type null until it is there
========  ==================================  ================================================
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ingather.models.content import Chunk, Heading, PageSpan, ParsedDocument
from ingather.models.errors import ArtifactUnreadableError

FORMAT_VERSION: Final = 1
_HEADER_KEY: Final = b"ingather"
_TEXT_KEY: Final = b"text"
_PLAIN_COLUMNS: Final = (
    ("ordinal", pa.int32(), False),
    ("text", pa.string(), False),
    ("start", pa.int32(), False),
    ("end", pa.int32(), False),
    ("page", pa.int32(), True),
    ("headings", pa.list_(pa.string()), False),
)
_FORMULAS: Final = "formulas"
# Compression was measured and left out: on a 4 KB text zstd saves a seventh of the bytes and more than doubles
# the time to write, because most of an artifact is vectors, which do not compress.
_WRITE_OPTIONS: Final = pa.ipc.IpcWriteOptions(use_threads=False)


@dataclass(frozen=True, slots=True)
class ArtifactHeader:
    """What belongs to the document as a whole."""

    title: str | None
    media_type: str
    text: str = field(repr=False)
    pages: tuple[PageSpan, ...]
    headings: tuple[Heading, ...]
    warnings: tuple[str, ...]
    quality: float
    embedder: str | None
    """Name of the model the vectors come from; None while they are missing."""
    versions: dict[str, str]
    """Names and versions of the parsers, the chunker and the embedder."""
    page_count: int | None = None
    """Of a document whose text was written anew, without its pages; None where ``pages`` says it."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A decoded artifact. ``table`` shares the memory of the bytes it was read from."""

    header: ArtifactHeader
    table: pa.Table = field(repr=False)

    @property
    def embedded(self) -> bool:
        """Whether every chunk has its vector."""
        return not pa.types.is_null(self.table.schema.field("vector").type) or self.table.num_rows == 0

    def chunks(self) -> list[Chunk]:
        """The chunks as models, without vectors."""
        columns = self.table.select([name for name, _, _ in _PLAIN_COLUMNS]).to_pydict()
        has_formulas = _FORMULAS in self.table.column_names
        columns[_FORMULAS] = self.table.column(_FORMULAS).to_pylist() if has_formulas else [()] * self.table.num_rows
        return [
            Chunk(ordinal=o, text=t, start=s, end=e, page=p, headings=tuple(h), formulas=tuple(f))
            for o, t, s, e, p, h, f in zip(*columns.values(), strict=True)
        ]

    def vectors(self) -> npt.NDArray[np.float32] | None:
        """Shape ``(chunks, dimensions)``; None while vectors are missing."""
        column = self.table.column("vector").combine_chunks()
        if pa.types.is_null(column.type):
            return None
        flat = np.asarray(column.flatten())
        return cast("npt.NDArray[np.float32]", flat.reshape(len(column), column.type.list_size))


def encode(
    parsed: ParsedDocument,
    chunks: Sequence[Chunk],
    vectors: npt.NDArray[np.float32] | None,
    *,
    quality: float,
    embedder: str | None,
    versions: dict[str, str],
) -> bytes:
    """Write an artifact.

    Args:
        parsed: the document.
        chunks: its chunks, in order.
        vectors: shape ``(len(chunks), dimensions)``, or None where a remote embedder fills them in later.
        quality: 0 to 1.
        embedder: the name of the model that made ``vectors``.
        versions: names and versions of the code that did all this.
    """
    header = ArtifactHeader(
        title=parsed.title,
        media_type=parsed.media_type,
        text=parsed.text,
        pages=parsed.pages,
        headings=parsed.headings,
        warnings=parsed.warnings,
        quality=quality,
        embedder=embedder if vectors is not None else None,
        versions=versions,
    )
    columns = (
        [chunk.ordinal for chunk in chunks],
        [chunk.text for chunk in chunks],
        [chunk.start for chunk in chunks],
        [chunk.end for chunk in chunks],
        [chunk.page for chunk in chunks],
        [chunk.headings for chunk in chunks],
    )
    arrays = [pa.array(values, type_) for values, (_, type_, _) in zip(columns, _PLAIN_COLUMNS, strict=True)]
    formulas = [chunk.formulas for chunk in chunks]
    found = pa.array(formulas, pa.list_(pa.string())) if any(formulas) else None
    return _write(header, arrays, vectors, row_count=len(chunks), formulas=found)


def decode(artifact: bytes) -> Artifact:
    """Read an artifact. Raises ``ArtifactUnreadableError`` where the bytes are none, or damaged."""
    raw, text, batch = _read(artifact)
    try:
        header = _header_from_json(raw, text.decode("utf-8"))
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(artifact) from error
    return Artifact(header=header, table=pa.Table.from_batches([batch]))


def decode_table(artifact: bytes) -> pa.Table:
    """Only the chunks, in half the time. Raises as ``decode``."""
    _, _, batch = _read(artifact)
    return pa.Table.from_batches([batch])


def _read(artifact: bytes) -> tuple[dict[str, Any], bytes, pa.RecordBatch]:
    try:
        batch, own_metadata = pa.ipc.open_file(pa.py_buffer(artifact)).get_batch_with_custom_metadata(0)
        # Arrow takes offsets on trust: damaged ones would be followed out of the file by whoever reads a text.
        # A twentieth of the time to read it.
        batch.validate(full=True)
        raw = orjson.loads(batch.schema.metadata[_HEADER_KEY])
        text = own_metadata[_TEXT_KEY]
        version = raw["format"]
        is_ours = all(batch.schema.field(name).type == type_ for name, type_, _ in _PLAIN_COLUMNS)
        batch.schema.field("vector")
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(artifact) from error
    if version != FORMAT_VERSION:
        raise ArtifactUnreadableError(
            f"The stored result is of format {version}, and {FORMAT_VERSION} is the one read here."
        )
    if not is_ours:
        raise _unreadable(artifact)
    return raw, text, batch


def _unreadable(artifact: bytes) -> ArtifactUnreadableError:
    return ArtifactUnreadableError(f"The stored result of {len(artifact)} bytes is damaged, or no result of ours.")


def read_chunks(artifact: bytes, *, first: int, limit: int, page: int | None = None) -> tuple[list[Chunk], bool]:
    """Chunks from the ordinal ``first`` on, those that begin on a page or all, and whether there are more."""
    found = decode(artifact)
    rows = found.table.slice(first)
    if page is not None:
        rows = rows.filter(pc.equal(rows.column("page"), page))
    kept = Artifact(found.header, rows.slice(0, limit))
    return kept.chunks(), rows.num_rows > limit


def read_text(artifact: bytes) -> str:
    """The document's full text."""
    return decode(artifact).header.text


def with_vectors(artifact: bytes, vectors: npt.NDArray[np.float32], *, embedder: str) -> bytes:
    """The same artifact with its vectors filled in (or replaced), one row of ``vectors`` a chunk."""
    return _changed(decode(artifact), vectors, embedder=embedder)


def standing_for(
    artifact: bytes, *, media_type: str, page_count: int | None, title: str | None, warnings: tuple[str, ...]
) -> bytes:
    """The artifact of a text that was made of another document, with what that document is."""
    decoded = decode(artifact)
    facts = {"media_type": media_type, "page_count": page_count, "title": title, "warnings": warnings}
    return _changed(decoded, decoded.vectors(), **facts)


def _changed(decoded: Artifact, vectors: npt.NDArray[np.float32] | None, **changes: object) -> bytes:
    header = ArtifactHeader(**{**_shallow(decoded.header), **changes})
    arrays = [decoded.table.column(name).combine_chunks() for name, _, _ in _PLAIN_COLUMNS]
    has_formulas = _FORMULAS in decoded.table.column_names
    formulas = decoded.table.column(_FORMULAS).combine_chunks() if has_formulas else None
    return _write(header, arrays, vectors, row_count=decoded.table.num_rows, formulas=formulas)


def _write(
    header: ArtifactHeader,
    arrays: list[pa.Array],
    vectors: npt.NDArray[np.float32] | None,
    *,
    row_count: int,
    formulas: pa.Array | None,
) -> bytes:
    if vectors is not None and len(vectors) != row_count:
        raise ValueError(f"{len(vectors)} vectors for {row_count} chunks")
    if vectors is None:
        vector_column = pa.nulls(row_count)
    else:
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        vector_column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    fields = [pa.field(name, type_, nullable=nullable) for name, type_, nullable in _PLAIN_COLUMNS]
    if formulas is not None:
        fields.append(pa.field(_FORMULAS, formulas.type, nullable=False))
        arrays = [*arrays, formulas]
    fields.append(pa.field("vector", vector_column.type, nullable=True))
    head = {"format": FORMAT_VERSION, **_shallow(header)}
    if header.page_count is None:
        # What was written before there was one stays the same bytes.
        del head["page_count"]
    text = head.pop("text").encode("utf-8")
    schema = pa.schema(fields, metadata={_HEADER_KEY: orjson.dumps(head)})
    batch = pa.RecordBatch.from_arrays([*arrays, vector_column], schema=schema)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema, options=_WRITE_OPTIONS) as writer:
        writer.write_batch(batch, custom_metadata={_TEXT_KEY: text})
    return sink.getvalue()


def _shallow(header: ArtifactHeader) -> dict[str, Any]:
    # orjson writes the page and heading dataclasses itself, so they are not turned into dictionaries first.
    return {name: getattr(header, name) for name in ArtifactHeader.__slots__}


def _header_from_json(raw: dict[str, Any], text: str) -> ArtifactHeader:
    return ArtifactHeader(
        title=raw["title"],
        media_type=raw["media_type"],
        text=text,
        pages=tuple(PageSpan(**page) for page in raw["pages"]),
        headings=tuple(Heading(**heading) for heading in raw["headings"]),
        warnings=tuple(raw["warnings"]),
        quality=raw["quality"],
        embedder=raw["embedder"],
        versions=raw["versions"],
        page_count=raw.get("page_count"),
    )

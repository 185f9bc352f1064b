"""How documents become rows of a LanceDB table, and rows become hits."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from ingather.domain.artifact import decode_table
from ingather.domain.metadata_pairs import metadata_pair, well_formed
from ingather.models.errors import ArtifactUnreadableError, ConfigurationError, IngatherError
from ingather.models.search import SearchHit, SearchQuery
from ingather.ports.chunk_index import IndexEntry

HIT_COLUMNS = (
    "id",
    "collection",
    "file_id",
    "batch_id",
    "filename",
    "ordinal",
    "page",
    "headings",
    "text",
    "metadata",
)
"""What a hit shows: everything but the vector and what only filters need."""


def row_schema(dimensions: int) -> pa.Schema:
    """The table's columns.

    ``id`` is ``{collection}/{sha256}/{chunk ordinal}``. As a declared primary key that can never be
    null it makes LanceDB notice two writers that insert the same row at the same time; without the
    mark both would succeed, and the row would be there twice.
    """
    key = {"lance-schema:unenforced-primary-key": "true"}
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata=key),
            pa.field("collection", pa.string()),
            pa.field("sha256", pa.string()),
            pa.field("fingerprint", pa.string()),
            pa.field("file_id", pa.string()),
            pa.field("batch_id", pa.string()),
            pa.field("filename", pa.string()),
            pa.field("ordinal", pa.int32()),
            pa.field("page", pa.int32()),
            pa.field("headings", pa.list_(pa.string())),
            pa.field("text", pa.string()),
            pa.field("metadata", pa.string()),
            pa.field("metadata_pairs", pa.list_(pa.string())),
            pa.field("vector", pa.list_(pa.float32(), dimensions)),
        ]
    )


@dataclass(frozen=True, slots=True)
class Replacement:
    """Rows to write, and the documents they are all the rows of."""

    rows: pa.Table = field(repr=False)
    documents: tuple[tuple[str, str], ...]
    """Collection and SHA-256, sorted; among them documents without a single chunk."""

    def condition(self) -> str:
        """SQL for every row that belongs to one of the documents."""
        groups = groupby(self.documents, key=lambda document: document[0])
        return " OR ".join(
            f"(collection = {_quoted(collection)} AND sha256 IN ({', '.join(_quoted(sha) for _, sha in documents)}))"
            for collection, documents in groups
        )


def replacement_for(entries: Sequence[IndexEntry], dimensions: int) -> tuple[Replacement, dict[str, IngatherError]]:
    """Rows of all documents that can be read, and why others cannot, by file id.

    Of two entries with the same content in one collection the later one counts.
    """
    schema = row_schema(dimensions)
    readable: dict[tuple[str, str], tuple[IndexEntry, pa.Table]] = {}
    refused: dict[str, IngatherError] = {}
    for entry in entries:
        try:
            readable[entry.collection, entry.sha256] = entry, _chunks_of(entry, schema)
        except (ArtifactUnreadableError, ConfigurationError) as error:
            refused[entry.file_id] = error
    kept, chunks = [entry for entry, _ in readable.values()], [table for _, table in readable.values()]
    return Replacement(rows=_rows(kept, chunks, schema), documents=tuple(sorted(readable))), refused


_OF_THE_CHUNK = ("ordinal", "page", "headings", "text", "vector")
"""Columns that an artifact has already."""


def _chunks_of(entry: IndexEntry, schema: pa.Schema) -> pa.Table:
    chunks = decode_table(entry.artifact)
    if chunks.num_rows:
        _check_vectors(chunks.schema.field("vector").type, schema.field("vector").type)
    return chunks.select(_OF_THE_CHUNK)


def _rows(entries: Sequence[IndexEntry], chunks: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Column by column over all documents: a column of one small document costs as much as of a hundred."""
    wanted = pa.schema([schema.field(name) for name in _OF_THE_CHUNK])
    filled = [each for each in chunks if each.num_rows]
    together = pa.concat_tables(filled).cast(wanted) if filled else wanted.empty_table()
    counts = [each.num_rows for each in chunks]
    of_the_document = {
        "collection": [entry.collection for entry in entries],
        "sha256": [entry.sha256 for entry in entries],
        "fingerprint": [entry.fingerprint for entry in entries],
        "file_id": [entry.file_id for entry in entries],
        "batch_id": [entry.batch_id for entry in entries],
        "filename": [well_formed(entry.filename) for entry in entries],
        "metadata": [json.dumps(entry.metadata, separators=(",", ":")) for entry in entries],
        "metadata_pairs": [[metadata_pair(key, value) for key, value in entry.metadata.items()] for entry in entries],
    }
    document_of_row = pa.array(np.repeat(np.arange(len(entries)), counts))
    columns: dict[str, Any] = {
        name: pa.array(values, schema.field(name).type).take(document_of_row)
        for name, values in of_the_document.items()
    }
    prefixes = [f"{entry.collection}/{entry.sha256}" for entry in entries]
    ordinals = together["ordinal"].to_pylist()
    rows = zip(document_of_row.to_pylist(), ordinals, strict=True)
    columns["id"] = pa.array([f"{prefixes[document]}/{ordinal}" for document, ordinal in rows], pa.string())
    columns |= {name: together[name] for name in _OF_THE_CHUNK}
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _check_vectors(found: pa.DataType, wanted: pa.DataType) -> None:
    if pa.types.is_null(found):
        raise ArtifactUnreadableError("The stored result has no vectors yet.")
    if not pa.types.is_fixed_size_list(found):
        raise ArtifactUnreadableError("The stored result has something else in its vectors' place.")
    if found.list_size != wanted.list_size:
        raise ConfigurationError(
            f"The document's vectors have {found.list_size} dimensions, the search index takes {wanted.list_size}.",
            action="Set INGATHER_EMBEDDER__DIMENSIONS to what the model gives.",
        )


def hit(row: dict[str, Any], score: float) -> SearchHit:
    """A row with ``HIT_COLUMNS`` as the answer to a search."""
    return SearchHit(
        text=row["text"],
        score=score,
        document_id=row["file_id"],
        filename=row["filename"],
        page=row["page"],
        headings=tuple(row["headings"] or ()),
        batch_id=row["batch_id"],
        collection=row["collection"],
        chunk_ordinal=row["ordinal"],
        metadata=json.loads(row["metadata"]),
    )


def search_condition(query: SearchQuery) -> str | None:
    """SQL for the rows a search may answer with; None for all."""
    pairs = [
        f"array_has(metadata_pairs, {_quoted(metadata_pair(key, value))})" for key, value in query.metadata.items()
    ]
    return _all_of([*_place(query.batch_id, query.collection), *pairs])


def count_condition(batch_id: str | None, collection: str | None) -> str | None:
    """SQL for the rows of a batch, of a collection, or of both."""
    return _all_of(_place(batch_id, collection))


def _place(batch_id: str | None, collection: str | None) -> list[str]:
    wanted = {"batch_id": batch_id, "collection": collection}
    return [f"{column} = {_quoted(value)}" for column, value in wanted.items() if value is not None]


def _all_of(conditions: list[str]) -> str | None:
    return " AND ".join(conditions) or None


def _quoted(text: str) -> str:
    """A SQL string literal. LanceDB's SQL has no other escape than the doubled quote."""
    return "'" + well_formed(text).replace("'", "''") + "'"

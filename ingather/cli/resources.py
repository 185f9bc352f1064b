"""What the API answers, as far as the command line reads it. ``raw`` keeps all of it for ``--json``.

Unknown fields and enum values pass through: a newer server does not break an older command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

FINAL_STATUSES = frozenset({"completed", "completed_with_failures", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class DocumentCounts:
    """Documents by where they stand; the parts add up to ``total``."""

    total: int = 0
    pending: int = 0
    in_flight: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.skipped + self.cancelled

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(**{name: int(raw.get(name) or 0) for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Batch:
    id: str
    name: str
    status: str
    collection: str
    priority: int
    counts: DocumentCounts
    progress: float
    """0 to 1."""
    created_at: str
    waiting_for: str | None = None
    estimated_completion_at: str | None = None
    stale: bool = False
    was_replayed: bool = False
    """The answer to a submission that had been made before, under the same idempotency key."""
    links: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            id=str(raw["id"]),
            name=str(raw.get("name") or ""),
            status=str(raw.get("status") or "unknown"),
            collection=str(raw.get("collection") or ""),
            priority=int(raw.get("priority") or 3),
            counts=DocumentCounts.from_json(raw.get("counts") or {}),
            progress=float(raw.get("progress") or 0.0),
            created_at=str(raw.get("created_at") or ""),
            waiting_for=_text(raw.get("waiting_for")),
            estimated_completion_at=raw.get("estimated_completion_at"),
            stale=bool(raw.get("stale")),
            links={key: value for key, value in (raw.get("links") or {}).items() if isinstance(value, str)},
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Addition:
    """What an open batch took in."""

    batch_id: str
    documents_added: int
    documents: int
    """In the batch so far."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            batch_id=str(raw.get("batch_id") or ""),
            documents_added=_integer(raw.get("documents_added")) or 0,
            documents=_integer(raw.get("documents")) or 0,
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    code: str
    message: str
    stage: str | None
    action: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        facts = raw.get("facts")
        return cls(
            facts=facts if isinstance(facts, Mapping) else {},
            code=str(raw.get("code") or "unknown"),
            message=str(raw.get("message") or ""),
            stage=raw.get("stage"),
            action=str(raw.get("action") or ""),
        )


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    ordinal: int
    filename: str
    status: str
    stage: str | None
    attempts: int
    error: Failure | None
    media_type: str | None
    size_bytes: int | None
    pages: int | None
    chunks: int | None
    raw_key: str | None = None
    warnings: tuple[str, ...] = ()
    """Such as ``no_text``: it is done, and something is missing."""
    links: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        error = raw.get("error")
        return cls(
            id=str(raw.get("id") or ""),
            ordinal=int(raw.get("ordinal") or 0),
            filename=str(raw.get("filename") or ""),
            status=str(raw.get("status") or "unknown"),
            stage=raw.get("stage"),
            attempts=int(raw.get("attempts") or 0),
            error=Failure.from_json(error) if isinstance(error, Mapping) else None,
            media_type=raw.get("media_type"),
            size_bytes=raw.get("size_bytes"),
            pages=raw.get("pages"),
            chunks=raw.get("chunks"),
            raw_key=raw.get("raw_key"),
            warnings=tuple(str(warning) for warning in raw.get("warnings") or ()),
            links={key: value for key, value in (raw.get("links") or {}).items() if isinstance(value, str)},
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that answers a search."""

    text: str
    score: float
    filename: str
    page: int | None
    headings: tuple[str, ...]
    batch_id: str
    collection: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(
            text=str(raw.get("text") or ""),
            score=float(raw.get("score") or 0.0),
            filename=str(raw.get("filename") or ""),
            page=raw.get("page"),
            headings=tuple(str(title) for title in raw.get("headings") or ()),
            batch_id=str(raw.get("batch_id") or ""),
            collection=str(raw.get("collection") or ""),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """A frame of a batch's event stream. ``seq`` is None for frames about the stream itself."""

    type: str
    seq: int | None
    data: Mapping[str, Any]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """The server's limits that a submission is checked against before a byte is sent. None is unknown."""

    max_documents_per_batch: int | None = None
    max_file_bytes: int | None = None
    max_request_bytes: int | None = None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(**{name: _integer(raw.get(name)) for name in cls.__slots__})


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)

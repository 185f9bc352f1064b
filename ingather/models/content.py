"""What a document is made of, from stored bytes to searchable chunks."""

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from ingather.models.identity import Sha256


class MediaType(StrEnum):
    """Types a parser exists for, by IANA name. Detected from content, never trusted from a name."""

    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    HTML = "text/html"
    MARKDOWN = "text/markdown"
    TEXT = "text/plain"
    CSV = "text/csv"
    EML = "message/rfc822"
    RTF = "application/rtf"
    IMAGE = "image/*"
    """PNG, JPEG, TIFF, WebP, GIF or BMP: readable, and without text while OCR is off."""


SMALL_UPLOAD_BYTES = 1024 * 1024
"""Up to this size a document that came in shares an object with others, a *pack*: one for many saves a round trip each."""
UPLOAD_PACK_BYTES = 4 * 1024 * 1024


class BlobRef(BaseModel):
    """A claim check: where bytes lie, instead of the bytes.

    Small uploads share one object (a *pack*); ``offset`` then says where this document starts.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    size_bytes: int = Field(ge=0)
    sha256: Sha256
    offset: int = Field(default=0, ge=0)


class Stage(StrEnum):
    """Where in its pipeline a document is, or was when it failed."""

    FETCHING = "fetching"
    """On its way out of the object that it came in with."""
    ACCESSING = "accessing"
    """Its source is being asked for it."""
    DOWNLOADING = "downloading"
    """On its way from its source."""
    STORING = "storing"
    WAITING = "waiting"
    """Stored, and next in line for a parser process."""
    DETECTING = "detecting"
    PARSING = "parsing"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    WRITING = "writing"
    EXPANDING = "expanding"
    READING = "reading"
    """A language model reads what the parser found."""
    ANSWERING = "answering"
    """A text is with the language model, or with what answers in its place."""
    HANDING_ON = "handing_on"
    """On its way into the next stage's list."""


@dataclass(frozen=True, slots=True)
class PageSpan:
    """One page (or slide, or sheet): its 1-based number and its half-open character range in the text."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading's level (1 is the highest), title and character offset in the text."""

    level: int
    title: str
    start: int


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a parser got out of the bytes.

    ``text`` is NFC-free, exactly as chunks quote it: every offset counts its characters.
    """

    media_type: str
    text: str
    pages: tuple[PageSpan, ...] = ()
    headings: tuple[Heading, ...] = ()
    title: str | None = None
    warnings: tuple[str, ...] = ()
    """Stable words such as ``no_text``; the document is done all the same."""


@dataclass(frozen=True, slots=True)
class SheetReading:
    """What is on a scanned sheet, as a parser process saw it."""

    width: int
    """Pixels of the first page."""
    height: int
    page_count: int
    codes: tuple[str, ...] = ()
    """Every different QR code, first the first page's, those of a page from top to bottom."""
    is_cover: bool = False
    """It has one page: a code, and next to nothing else."""
    media_type: str = "image/*"
    picture: str = ""
    """How dark the first page is in 384 places, in base64: alike for pages that look alike. Empty where it is blank."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A searchable piece: ``text == parsed.text[start:end]``."""

    ordinal: int
    text: str
    start: int
    end: int
    page: int | None = None
    """1-based number of the page where the chunk starts; None for types without pages."""
    headings: tuple[str, ...] = ()
    """Titles from the outermost heading down to the one the chunk stands under."""
    formulas: tuple[str, ...] = ()
    """Its formulas in LaTeX, as they stand in the text; none where nobody asked for them."""


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """One document to turn into chunks with vectors. Bytes stay inside the worker and its parser process."""

    content: bytes = field(repr=False)
    filename: str
    chunk_size: int
    """Characters."""
    chunk_overlap: int
    """Characters."""
    quality_threshold: float
    """0 to 1; text that scores less is refused."""
    preserve_structure: bool = True
    """Let chunks break at headings and pages first, and keep both as chunk metadata."""
    extract_math: bool = False
    """Keep formulas whole, and list them as chunk metadata."""
    parsing_model: str | None = None
    """The language model that reads what the parser found; None for the parser alone."""
    embedding_model: str | None = None
    """The model that the chunks are embedded by; None for the deployment's own."""
    timeout_seconds: float = 60.0
    """Wall clock for the parser process."""
    patience_seconds: float | None = None
    """In ``prepare_many``: seconds after which a document that also takes longer than others do may be stopped, so that
    those behind it need not wait."""
    page: int | None = None
    """Draw this page, 1-based, in place of preparing the document: the artifact is a PNG (``ingather.adapters.page_drawing``)."""
    width: int = 0
    """Of that drawing, in pixels."""
    kills: int = 0
    """How many parser processes the document has cost already; at two it has no chance left."""
    is_sheet: bool = False
    """A scanned sheet: read what is on it, not what it says."""
    ocr: bool = False
    """Read what a sheet says, too."""


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """The result of parse, chunk and embed.

    ``artifact`` is one Arrow IPC file (see ``ingather.domain.artifact``), ready to store and to index.
    """

    artifact: bytes = field(repr=False)
    media_type: str
    page_count: int | None
    chunk_count: int
    character_count: int
    quality: float
    """0 to 1: the share of the text that looks like words (``ingather.domain.quality``)."""
    embedded: bool
    """False when vectors are still missing because the embedder is a remote service."""
    title: str | None = None
    warnings: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds by stage."""
    sheet: SheetReading | None = None
    """What is on a scanned sheet; without any text it has no artifact."""

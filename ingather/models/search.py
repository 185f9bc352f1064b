"""What to look for, and what was found."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ingather.models.identity import TenantId


class SearchQuery(BaseModel):
    """A hybrid search: vectors and full text, ranks fused."""

    model_config = ConfigDict(frozen=True)

    tenant_id: TenantId
    text: str = Field(min_length=1, max_length=2_000)
    collection: str | None = None
    batch_id: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict, max_length=20)
    """Every pair must equal the document's metadata (values compared as text)."""
    limit: int = Field(default=10, ge=1, le=100)
    model: str | None = None
    """Whose index is asked: a further model's, by its name; None for the deployment's own."""


class SearchHit(BaseModel):
    """One chunk that answers."""

    model_config = ConfigDict(frozen=True)

    text: str
    score: float
    """Fused rank score, higher is better; comparable within one answer only."""
    document_id: str
    filename: str
    page: int | None = None
    headings: tuple[str, ...] = ()
    batch_id: str
    collection: str
    chunk_ordinal: int
    metadata: dict[str, Any] = Field(default_factory=dict)

"""What a tenant asks of its documents' metadata."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class MetadataRules(BaseModel):
    """The rules a batch was submitted under. They stay the batch's own, whatever its tenant is set to later."""

    model_config = ConfigDict(frozen=True)

    defaults: dict[str, Any] = Field(default_factory=dict)
    """What a document gets of which the client said nothing."""
    schemas: tuple[dict[str, Any], ...] = ()
    """JSON Schemas that every document's metadata must fit: the collection's, the tenant's."""

    @property
    def say_nothing(self) -> bool:
        return not self.defaults and not self.schemas

"""What the next stage is told of a document that is handed on instead of parsed here."""

from pydantic import BaseModel, ConfigDict

from ingather.models.identity import BatchId, FileId, Sha256, TenantId


class HandedOn(BaseModel):
    """One entry of a tenant's list: these fields and no others, since programs elsewhere read them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_id: FileId
    batch_id: BatchId
    sha256: Sha256
    storage_path: str
    """Key of its bytes in the bucket, ``raw/{tenant_id}/{file_id}/{sha256}``."""
    tenant_id: TenantId

"""Who and which: identifiers, and how each is derived so that a retry finds the same one."""

import uuid
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, SecretStr, StringConstraints

DEFAULT_TENANT_ID = "00000000-0000-7000-8000-000000000001"
DEFAULT_TENANT_NAME = "default"

_UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

TenantId = Annotated[str, StringConstraints(pattern=_UUID_PATTERN)]
"""Lower-case UUID. It starts every object key, Redis key and catalog query."""

BatchId = Annotated[str, StringConstraints(pattern=_UUID_PATTERN)]
"""Lower-case UUID: version 7 when generated, version 5 when derived from an idempotency key."""

FileId = Annotated[str, StringConstraints(pattern=_UUID_PATTERN)]
"""Lower-case UUIDv5 of batch id and ordinal; the document's id in every API."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a document's bytes, lower-case hex."""


def _sendable(secret: SecretStr) -> SecretStr:
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError:
        # Its own words would quote from the secret.
        raise ValueError("It holds half of a character.") from None
    return secret


SecretText = Annotated[SecretStr, AfterValidator(_sendable)]
"""A secret out of JSON, which can carry half of a surrogate pair: UTF-8, and so whoever hashes or sends it, cannot."""


def file_id_for(batch_id: str, ordinal: int) -> str:
    """The document's id: UUIDv5 with the batch id as namespace, so every attempt names the same file."""
    return str(uuid.uuid5(_namespace(batch_id), str(ordinal)))


@lru_cache(maxsize=256)
def _namespace(batch_id: str) -> uuid.UUID:
    return uuid.UUID(batch_id)


def batch_id_for(tenant_id: str, contract: str, key: str) -> str:
    """The batch id an idempotency key stands for: UUIDv5 of tenant, contract and the client's key."""
    return str(uuid.uuid5(uuid.UUID(tenant_id), f"{contract}\n{key}"))


def workflow_id_for(batch_id: str) -> str:
    """Workflow id of a batch; children append ``/{index}``."""
    return f"batch/{batch_id}"


def batch_id_of_workflow(workflow_id: str) -> str | None:
    """The batch a workflow works for, be it the batch's own or a child; None for a workflow of another kind."""
    kind, _, rest = workflow_id.partition("/")
    return rest.split("/", 1)[0] if kind == "batch" and rest else None


def child_workflow_id_for(batch_id: str, index: int, retry_round: int) -> str:
    """Workflow id of a large batch's child: ``batch/{id}/{index}``, ``batch/{id}/{index}/r{round}`` in a retry."""
    suffix = f"/r{retry_round}" if retry_round else ""
    return f"{workflow_id_for(batch_id)}/{index}{suffix}"


def places_workflow_id_for(tenant_id: str) -> str:
    """Workflow id of a tenant's waiting line."""
    return f"places/{tenant_id}"


def delivery_workflow_id_for(delivery_id: str) -> str:
    """Workflow id of one event on its way to one endpoint."""
    return f"webhook/{delivery_id}"


def activity_id_for(ordinal: int, retry_round: int) -> str:
    """Activity id of one document, as shown in the Temporal UI (``doc-0000042``, ``doc-0000042-r1``)."""
    suffix = f"-r{retry_round}" if retry_round else ""
    return f"doc-{ordinal:07d}{suffix}"


def pack_activity_id_for(first_ordinal: int, retry_round: int) -> str:
    """Activity id of several small documents that share an activity, named after the first of them."""
    suffix = f"-r{retry_round}" if retry_round else ""
    return f"pack-{first_ordinal:07d}{suffix}"

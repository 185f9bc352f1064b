"""Who may ask, and on whose behalf: tenants, users, API keys, and what a credential turns into."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ingather.models.identity import TenantId

MAX_COLLECTION_SCHEMAS = 200
MIN_FAIRNESS_WEIGHT, MAX_FAIRNESS_WEIGHT = 0.001, 1_000.0

PipelineName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,49}$")]


class Scope(StrEnum):
    """What a credential may do, within its tenant."""

    READ = "read"
    """Look at batches, documents, events and settings; search."""
    WRITE = "write"
    """Submit and steer."""
    ADMIN = "admin"
    """Manage tenants, users and keys of the whole deployment."""


DEFAULT_SCOPES = frozenset({Scope.READ, Scope.WRITE})
ALL_SCOPES = frozenset(Scope)


class TenantLimits(BaseModel):
    """Limits of one tenant in place of the deployment's own; None leaves those."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_concurrent_jobs: int | None = Field(default=None, ge=1, le=200)
    max_concurrent_bytes: int | None = Field(default=None, ge=1)
    max_documents_per_batch: int | None = Field(default=None, ge=1, le=1_000_000)
    max_files_per_batch: int | None = Field(default=None, ge=1)
    """Files of one upload through the document door."""
    max_file_bytes: int | None = Field(default=None, ge=1)
    max_request_bytes: int | None = Field(default=None, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Of one key or user, as the next two."""
    uploads_per_minute: int | None = Field(default=None, ge=1)
    jobs_per_user_per_minute: int | None = Field(default=None, ge=1)
    streams_per_key: int | None = Field(default=None, ge=1)
    """Open at one time."""
    max_webhooks: int | None = Field(default=None, ge=1, le=1_000)

    def over(self, published: Mapping[str, Any]) -> dict[str, Any]:
        """The deployment's limits with this tenant's in their place."""
        own = self.model_dump(exclude_none=True)
        return {**published, **{name: value for name, value in own.items() if name in published}}


class Tenant(BaseModel):
    """A customer of this deployment, and how its documents are treated where a batch does not say."""

    model_config = ConfigDict(frozen=True)

    tenant_id: TenantId
    name: str = Field(min_length=1, max_length=255)
    pipeline: PipelineName = "ingest"
    """What its batches run through: ``ingest``, or ``handoff``."""
    default_metadata: dict[str, Any] = Field(default_factory=dict)
    """Metadata of a document that comes without any."""
    metadata_schema: dict[str, Any] | None = None
    """JSON Schema that each document's metadata must fit."""
    collection_schemas: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """JSON Schema by collection, there in place of ``metadata_schema``."""
    limits: TenantLimits = TenantLimits()
    fairness_weight: float = Field(default=1.0, ge=MIN_FAIRNESS_WEIGHT, le=MAX_FAIRNESS_WEIGHT)
    """Share of the workers while tenants compete for them; twice the weight is twice the documents."""
    created_at: datetime

    def schema_for(self, collection: str) -> dict[str, Any] | None:
        """The JSON Schema for documents of a collection; None where anything goes."""
        return self.collection_schemas.get(collection, self.metadata_schema)


KEY_USER_PREFIX = "key:"
"""Begins the name under which a key without a user acts. No user's name begins with it, so that the two never meet."""


class User(BaseModel):
    """A person, or a program that logs in like one. Its name is unique in the whole deployment."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    tenant_id: TenantId
    username: str = Field(min_length=1, max_length=255)
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    created_at: datetime
    disabled_at: datetime | None = None
    """Since then it is refused, with its tokens, sessions and keys; None while it is let in."""
    password_changed_at: datetime | None = None
    """Tokens and sessions from before are refused; None where the password is the first one."""

    @property
    def is_disabled(self) -> bool:
        return self.disabled_at is not None


class ApiKey(BaseModel):
    """What is known of an API key: everything but the key."""

    model_config = ConfigDict(frozen=True)

    key_id: str
    """The eight characters after ``ing_live_``."""
    tenant_id: TenantId
    name: str = Field(min_length=1, max_length=255)
    username: str | None = None
    """The user it acts as; where there is none, it acts as `key:` and its own name."""
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    """To the minute."""
    revoked_at: datetime | None = None
    rotated_from: str | None = None
    """The key it follows, which is still accepted for a while. At most one follows a key."""
    fingerprint: str | None = None
    """SHA-256 of the request that made it, where that can be repeated: with an ``Idempotency-Key``."""

    def is_live(self, now: datetime) -> bool:
        """Whether it is still accepted."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class CredentialKind(StrEnum):
    NONE = "none"
    """Nobody said who asks; only where the deployment is open."""
    KEY = "key"
    TOKEN = "token"  # noqa: S105  # the kind, not one


class Session(BaseModel):
    """Somebody who has signed in with a browser: what is known of it but the secret in the cookie."""

    model_config = ConfigDict(frozen=True)

    tenant_id: TenantId
    kind: CredentialKind
    """What was shown to sign in."""
    credential_id: str
    """Of that key, or user. The session ends with it."""
    created_at: datetime
    expires_at: datetime


class Principal(BaseModel):
    """Who asks, as far as the credential says."""

    model_config = ConfigDict(frozen=True)

    kind: CredentialKind = CredentialKind.NONE
    credential_id: str = ""
    """Key id, or user id of a token: what its requests are counted under."""
    tenant_id: TenantId | None = None
    """The credential's tenant; None without one."""
    user: str = "anonymous"
    """The name it acts under: ``created_by`` of its batches, ``actor`` of its audit events."""
    scopes: frozenset[Scope] = frozenset()
    expires_at: datetime | None = None
    """When an access token ends; None where the credential is looked up each time."""

    @property
    def is_anonymous(self) -> bool:
        return self.kind is CredentialKind.NONE

    def may(self, scope: Scope) -> bool:
        """Administrators may do everything."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

"""Typed settings, nested by subject, read from ``INGATHER_*`` variables. Only composition roots read them.

Temporal keeps its own standard variables (``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``,
``TEMPORAL_API_KEY``, ``TEMPORAL_TLS_*``), read through ``temporalio.envconfig``.
"""

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from ingather.models.engine import LONGEST_MODEL_SECONDS
from ingather.models.errors import ConfigurationError
from ingather.models.text import MOST_TEXTS

MIB = 1024 * 1024
GIB = 1024 * MIB


def _seconds(value: object) -> object:
    """A bare number is seconds, also as text, which is what the environment holds."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]
"""`90`, `0:01:30`, `1 day, 0:00:00` or `PT90S`."""
SigningSecret = Annotated[SecretStr, Field(min_length=32)]
"""Shorter than 32 bytes, the key of an HMAC-SHA-256 could be found by trying."""


class ApiSettings(BaseModel):
    host: str = "127.0.0.1"
    """Address it listens on; anything but loopback needs `INGATHER_AUTH__MODE=required`."""
    public_url: str | None = None
    """Base of the links the API hands out; the request's own when unset."""
    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may open a WebSocket, beside the API's own and that of `public_url`; a JSON array."""
    cursor_secret: SigningSecret | None = None
    """Signs list cursors, 32 bytes or more; a random one per process when unset, so set it where several API processes run."""


class AuthSettings(BaseModel):
    mode: Literal["open", "required"] = "open"
    """``open``: everybody on this machine may do everything, which is why it is refused on any address but loopback. ``required``: nobody without a credential."""
    token_secret: SigningSecret | None = None
    """Signs access tokens and stream tickets, 32 bytes or more; a random one per process when unset, so set it where several API processes run."""
    token_lifetime: Duration = timedelta(hours=1)
    """How long a token of `POST /v1/tokens` is good."""
    stream_ticket_lifetime: Duration = timedelta(hours=24)
    """How long a ticket of `POST /v1/stream-tickets` that was opened opens its stream again."""
    session_lifetime: Duration = timedelta(hours=12)
    """How long somebody who signed in to the dashboard stays so."""
    issuer: str = "ingather"
    """The `iss` of tokens made and accepted here."""
    audience: str = "ingather-api"
    """The `aud` of tokens made and accepted here."""
    first_key: str | None = Field(default=None, pattern=r"^[0-9A-Za-z]{8}\.[0-9a-f]{64}$")
    """An administrator's key of the default tenant, as `<id>.<SHA-256>`: the API registers it when it starts. `ingather keys generate` makes one."""

    @field_validator("first_key", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        """A compose file passes a variable on that may be empty."""
        return value or None


class S3Settings(BaseModel):
    endpoint_url: str | None = None
    """Address of the object storage; AWS's own when unset."""
    region: str = "us-east-1"
    """Region that requests are signed for."""
    bucket: str = "ingather"
    """Where all objects are kept."""
    access_key_id: str | None = None
    """With the secret; without both, credentials are looked for where AWS's own programs do: environment, profile, role."""
    secret_access_key: SecretStr | None = None
    """Belongs to the access key id."""


class RedisSettings(BaseModel):
    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Where events and progress are shared."""


class CatalogSettings(BaseModel):
    url: SecretStr = SecretStr("sqlite:///.ingather/catalog.db")
    """SQLAlchemy URL: ``sqlite:///path`` or ``postgresql+psycopg://…``."""


class IndexSettings(BaseModel):
    uri: str = ".ingather/index"
    """A folder, or ``s3://bucket/prefix`` (then with the S3 settings)."""


class OtherEmbedder(BaseModel):
    kind: Literal["wordllama", "openai"] = "openai"
    base_url: str | None = None
    model: str = "wordllama"
    api_key: SecretStr | None = None
    dimensions: int = Field(default=256, ge=8, le=4_096)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == "openai" and (self.base_url is None or "model" not in self.model_fields_set):
            raise ValueError("a further embedding model of the kind openai needs base_url, model and dimensions")
        return self


class EmbedderSettings(BaseModel):
    kind: Literal["wordllama", "openai"] = "wordllama"
    """``wordllama`` runs here without a network; ``openai`` is any OpenAI-compatible endpoint."""
    base_url: str | None = None
    """Address of an OpenAI-compatible service."""
    model: str | None = None
    """Name of that service's model."""
    api_key: SecretStr | None = None
    """Sent as a bearer token, where the service wants one."""
    dimensions: int = Field(default=256, ge=8, le=4_096)
    """Length of the remote model's vectors."""
    others: tuple[OtherEmbedder, ...] = ()
    """Further models that batches may name, each with an index of its own: a JSON array of `{"model", "base_url", "api_key", "dimensions"}`, or `{"kind": "wordllama"}`."""


class LlmSettings(BaseModel):
    base_url: str | None = None
    """Address of an OpenAI-compatible service, up to and including the version; without it `/batch_process` answers without a language model, out of the texts' own words."""
    model: str | None = None
    """Name of that service's model."""
    vision_model: str | None = None
    """Name of a model of that service that sees: for pictures, and for pages of PDFs without text, in jobs with `use_llm_parsing`. Without it they have no text."""
    api_key: SecretStr | None = None
    """Sent as a bearer token, where the service wants one."""
    timeout: Duration = Field(
        default=timedelta(seconds=60), gt=timedelta(), le=timedelta(seconds=LONGEST_MODEL_SECONDS)
    )
    """For one request to it."""
    structured_outputs: Literal["json_schema", "json_object", "off"] = "json_schema"
    """How the service is asked for JSON: by its schema, as any JSON, or in words alone. What it answers is held to the schema in any case."""
    max_retries: int = Field(default=5, ge=0, le=20)
    """How often a text is tried again whose model did not answer."""

    @field_validator("base_url", "model", "vision_model", "api_key", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        """A compose file passes a variable on that may be empty."""
        return value or None


class SourceSettings(BaseModel):
    roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders that `local_directory` and `local_zip` connections may lead into, as a path list (`/srv/in:/mnt/scans`) or a JSON array; none when empty. `{tenant_id}` in a path stands for the connection's tenant; without it every tenant may read all of the folder."""
    keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Keys that credentials of connections and secrets of webhooks are encrypted with, newest first, separated by commas or as a JSON array; `ingather connections new-key` makes one. Without any, a webhook or a connection with credentials is refused."""
    allow_private: bool = False
    """Let connections lead to addresses that are not on the public Internet: for development, and for an object storage or web server in a network of your own."""

    @field_validator("roots", mode="before")
    @classmethod
    def _path_list(cls, value: object) -> object:
        return _listed(value, os.pathsep)

    @field_validator("roots")
    @classmethod
    def _absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(Path(os.path.normpath(path.expanduser().absolute())) for path in value)

    @field_validator("keys", mode="before")
    @classmethod
    def _key_list(cls, value: object) -> object:
        return _listed(value, ",")


def _listed(value: object, separator: str) -> object:
    """A list out of an environment variable: JSON where it looks like that, else separated."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [each.strip() for each in value.split(separator) if each.strip()]


class WebhookSettings(BaseModel):
    allow_private: bool = False
    """Let webhooks lead to addresses that are not on the public Internet: for development, and for receivers in a network of your own."""
    timeout: Duration = Field(default=timedelta(seconds=20), gt=timedelta(), le=timedelta(minutes=2))
    """How long a receiver may take to answer; an attempt that takes longer has failed."""
    rotation_overlap: Duration = Field(default=timedelta(hours=24), ge=timedelta())
    """How long after a rotation the old secret signs too."""
    keep_deliveries: Duration = Field(default=timedelta(days=30), ge=timedelta(hours=1))
    """How long deliveries that ended stay in the log."""


class TemporalUiSettings(BaseModel):
    url: str | None = None
    """Base URL of the Temporal Web UI, for links; no links when unset."""


class SheetSettings(BaseModel):
    ocr: bool = False
    """Read what scanned sheets say, too: into the results and the index. Needs the extra `ingather[ocr]`, which brings the models along, some seconds of a core for each sheet, and 700 MB in each parser process: set `INGATHER_LIMITS__PARSER_MEMORY_BYTES` to 4 GiB, so that none is replaced after every sheet."""


class EngineSettings(BaseModel):
    children_at_once: int = Field(default=8, ge=1, le=20)
    """Children of a large batch that run at one time, up to 1,000 documents each; a running batch keeps what it began with."""
    allow_noop: bool = False
    """For measuring only: take batches of the pipeline `noop`, which counts documents as done and stores none of them."""


class WorkerSettings(BaseModel):
    parser_processes: int = Field(default=0, ge=0, le=64)
    """Parser processes of one worker; 0 takes one a core, fewer where memory is short."""
    parser_recycle_after: int = Field(default=500, ge=1)
    """Documents a parser process handles before a new one takes over."""
    memory_bytes: int = Field(default=0, ge=0)
    """Documents a worker holds at one time, in bytes of their files; 0 takes an eighth of the memory there is."""
    shutdown_grace: Duration = timedelta(seconds=60)
    """After SIGTERM: what is under way may finish for so long, then it is handed to another worker."""
    deployment: str = "ingather"
    """Name of the Temporal Worker Deployment that versions belong to."""
    build_id: str | None = None
    """Version of this worker within its deployment. Unset, workers have no versions and any of them does any task."""
    make_current: bool = False
    """Route all tasks to this version as soon as its workers poll, instead of waiting for somebody to say so."""

    @field_validator("build_id", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        """A compose file passes a variable on that may be empty."""
        return value or None


class Limits(BaseModel):
    """Every limit, published under the same name at ``/v1/limits``."""

    max_documents_per_batch: int = Field(default=1_000_000, ge=1, le=1_000_000)
    """Unpacked archives and all requests of an open batch together."""
    max_files_per_batch: int = Field(default=100, ge=1, le=10_000)
    """Files of one upload through ``/api/v1/documents/ingest/batch``; ``/v1/batches`` takes more."""
    max_file_bytes: int = Field(default=200 * 1000 * 1000, ge=1)
    """Bytes of one document."""
    max_request_bytes: int = Field(default=5 * GIB, ge=1)
    """Total of one multipart request."""
    max_json_bytes: int = Field(default=64 * MIB, ge=1)
    """One JSON request with inline documents."""
    max_json_values: int = Field(default=500_000, ge=1_000)
    """Values in one JSON request or NDJSON line, those within others too: what a small text can become in memory."""
    max_line_bytes: int = Field(default=8 * MIB, ge=1_024, le=64 * MIB)
    """One line of an NDJSON request, a document with its base64."""
    max_metadata_bytes: int = Field(default=64 * 1024, ge=1)
    """Metadata of one document or batch, as JSON."""
    max_chunk_bytes: int = Field(default=100 * MIB, ge=5 * MIB, le=4 * GIB)
    """One chunk of an upload through ``/api/batches/upload-chunk``, or all of one through ``/api/batches/upload``."""
    max_upload_bytes: int = Field(default=64 * GIB, ge=1, le=64 * GIB)
    """One file that is uploaded in chunks, or over tus."""
    max_upload_chunks: int = Field(default=100_000, ge=1, le=1_000_000)
    """Chunks of one upload."""
    upload_lifetime_hours: float = Field(default=24.0, gt=0, le=168)
    """How long an upload may take, and how long one over tus that is finished may wait to be named in a batch; then it is removed."""
    zip_entries: int = Field(default=20_000, ge=1)
    """Entries of one ZIP."""
    zip_unpacked_bytes: int = Field(default=20 * GIB, ge=1)
    """Bytes that one ZIP may unpack to."""
    zip_ratio: int = Field(default=100, ge=1)
    """Unpacked to packed bytes."""
    zip_depth: int = Field(default=2, ge=1, le=5)
    """Archives within archives; 1 is none."""
    parser_seconds: float = Field(default=60.0, gt=0, le=3_600)
    """Wall clock of one parse, where a batch does not say."""
    max_parser_seconds: float = Field(default=300.0, gt=0, le=3_600)
    """The most that a batch's ``timeout_seconds`` may ask for; no less than ``parser_seconds``."""
    parser_memory_bytes: int = Field(default=2 * GIB, ge=128 * MIB)
    """Memory of one parser process."""
    parser_pages: int = Field(default=20_000, ge=1)
    """Pages of one document; more is `too_large`."""
    parser_pixels: int = Field(default=50_000_000, ge=1_000_000)
    """Pixels of one page of a scanned sheet; more is `too_large`, and a page of a PDF is drawn smaller."""
    max_concurrent_jobs: int = Field(default=4, ge=1, le=200)
    """Batches of one tenant that run at one time; the others wait in line."""
    max_concurrent_bytes: int = Field(default=5 * GIB, ge=1)
    """Submitted bytes of one tenant's running batches; one that is larger by itself runs alone.
    ``/api/v1/documents/ingest/batch`` refuses uploads beyond it, where ``/v1/batches`` lets them wait in line."""
    max_webhooks: int = Field(default=20, ge=1, le=1_000)
    """Webhooks of one tenant, those of single batches not counted."""
    streams_per_client: int = Field(default=500, ge=1)
    """Event streams open at one time from one tenant."""
    streams_per_key: int = Field(default=20, ge=1)
    """Event streams open at one time with one key, or of one user."""
    max_batch_requests: int = Field(default=50, ge=1, le=MOST_TEXTS)
    """Texts of one ``/batch_process``."""
    text_concurrency: int = Field(default=5, ge=1, le=48)
    """Texts of one batch that are with the language model at one time."""
    text_answer_seconds: float = Field(default=600.0, gt=0, le=86_400)
    """How long ``/batch_process`` waits for its batch before it answers 202."""
    requests_per_minute: int = Field(default=600, ge=1)
    """Of one key or user; uploads and opened streams are counted by themselves."""
    anonymous_requests_per_minute: int = Field(default=60_000, ge=1)
    """Of all together who show no credential, in `open` mode."""
    uploads_per_minute: int = Field(default=600, ge=1)
    """Requests of one key or user that bring documents."""
    websockets_per_user: int = Field(default=10, ge=1)
    """WebSockets of ``/batch/ws`` open at one time for one user, in each API process."""
    streams_opened_per_minute: int = Field(default=120, ge=1)
    """Event streams that one key or user opens."""
    jobs_per_user_per_minute: int = Field(default=60, ge=1)
    """Batches that one user, or one key without a user, creates."""
    logins_per_user_per_minute: int = Field(default=60, ge=1)
    """Attempts under one user name from one address, right or wrong."""
    failed_credentials_per_minute: int = Field(default=120, ge=1)
    """Wrong keys, tokens and passwords from one address, in each API process; then only keys that were right before are looked at."""
    page_size_default: int = Field(default=50, ge=1)
    """Entries of a page of a list, where the request names no `limit`."""
    page_size_max: int = Field(default=200, ge=1)
    """The largest `limit` of a list."""

    @model_validator(mode="after")
    def _may_ask_for_the_default(self) -> Self:
        if self.max_parser_seconds < self.parser_seconds:
            raise ValueError(
                "max_parser_seconds is less than parser_seconds: set INGATHER_LIMITS__MAX_PARSER_SECONDS too"
            )
        return self


class LogSettings(BaseModel):
    format: Literal["json", "console", "auto"] = "auto"
    """``auto`` is readable on a terminal and JSON lines elsewhere."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="INGATHER_",
        env_nested_delimiter="__",
        extra="ignore",
        nested_model_default_partial_update=True,
        hide_input_in_errors=True,  # it may be a secret
    )

    data_dir: Path = Path(".ingather")
    """Where a deployment on one machine keeps its files."""
    api: ApiSettings = ApiSettings()
    auth: AuthSettings = AuthSettings()
    s3: S3Settings = S3Settings()
    redis: RedisSettings = RedisSettings()
    catalog: CatalogSettings = CatalogSettings()
    index: IndexSettings = IndexSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    llm: LlmSettings = LlmSettings()
    sources: SourceSettings = SourceSettings()
    webhooks: WebhookSettings = WebhookSettings()
    temporal_ui: TemporalUiSettings = TemporalUiSettings()
    engine: EngineSettings = EngineSettings()
    sheets: SheetSettings = SheetSettings()
    worker: WorkerSettings = WorkerSettings()
    limits: Limits = Limits()
    log: LogSettings = LogSettings()


def read_settings(data_dir: Path | None = None) -> Settings:
    """What the environment says.

    Args:
        data_dir: in place of the environment's.

    Raises:
        ConfigurationError: a value does not fit; names the variables, and never what they hold.
    """
    try:
        return Settings() if data_dir is None else Settings(data_dir=data_dir)
    except ValidationError as error:
        told = (_told(fault["loc"], fault["msg"]) for fault in error.errors(include_input=False, include_url=False))
        raise ConfigurationError("; ".join(told)) from None
    except SettingsError as error:
        named = re.search(r'field "(\w+)"', str(error))
        variable = f"INGATHER_{named[1].upper()}" if named else "INGATHER_"
        raise ConfigurationError(
            f"A variable whose name begins with {variable} should hold JSON and does not"
        ) from None


def _told(place: tuple[int | str, ...], message: str) -> str:
    """A fault under the name of its variable; within JSON with the way there."""
    depth = next((n for n, part in enumerate(place) if isinstance(part, int)), len(place))
    variable = "INGATHER_" + "__".join(str(part) for part in place[:depth]).upper()
    within = "".join(f", {part}" for part in place[depth:])
    return f"{variable}{within}: {message.removeprefix('Value error, ')}"


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Variables that look like settings and are none, each with the one that may be meant.

    The client's own (``INGATHER_URL``, ``INGATHER_API_KEY``) have no double underscore.
    """
    known = list(_names(Settings, "INGATHER_"))
    mine = (name for name in environment if name.startswith("INGATHER_") and "__" in name)
    strange = (name for name in mine if not any(name == each or name.startswith(f"{each}__") for each in known))
    return {name: next(iter(difflib.get_close_matches(name, known, 1)), None) for name in strange}


def _names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        nested, variable = field.annotation, prefix + name.upper()
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _names(nested, f"{variable}__")
        else:
            yield variable

"""What each kind of connection is told: fields that may be shown, and credentials that may not."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

from ingather.models.identity import SecretText
from ingather.models.source import SourceType

MAX_URLS = 10_000

_Url = Annotated[str, StringConstraints(min_length=8, max_length=4_096, pattern=r"^https?://[^\x00-\x20]+$")]
_Path = Annotated[str, StringConstraints(min_length=1, max_length=4_096, pattern=r"^/[^\x00]*$")]
_Secret = Annotated[SecretText, Field(min_length=1, max_length=16_384)]
_HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
_HeaderValue = Annotated[SecretStr, Field(max_length=8_192)]
_FRAMING = frozenset({"host", "connection", "content-length", "transfer-encoding", "upgrade", "accept-encoding"})
"""Headers that say how a request is sent, and not what for."""


def _check_sendable(values: Iterable[SecretStr]) -> None:
    """Refused here: the library that would send it quotes it in its error."""
    for value in values:
        text = value.get_secret_value()
        if not text.isascii() or not text.isprintable():
            raise ValueError("a header has printable ASCII characters only")


class ConnectionSettings(BaseModel):
    """Of one kind of source. A field of a secret type is encrypted at rest and never shown again."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LocalDirectorySettings(ConnectionSettings):
    """A folder on the workers' disk."""

    path: _Path
    """Absolute, below one of `INGATHER_SOURCES__ROOTS`."""


class LocalZipSettings(ConnectionSettings):
    """A ZIP archive on the workers' disk."""

    path: _Path
    """Absolute, below one of `INGATHER_SOURCES__ROOTS`."""


class S3Settings(ConnectionSettings):
    """A bucket, or what is below a prefix of it. Without an access key it is read as the public may."""

    bucket: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")
    prefix: str = Field(default="", max_length=1_024)
    """Ends in a slash where it is a folder; file ids go on behind it."""
    endpoint_url: _Url | None = None
    """AWS's own of the region when left out."""
    region: str = Field(default="us-east-1", pattern=r"^[a-z0-9-]{1,50}$")
    access_key_id: str | None = Field(default=None, max_length=256, pattern=r"^[!-~]+$")
    secret_access_key: _Secret | None = None
    session_token: _Secret | None = None

    @field_validator("session_token")
    @classmethod
    def _sendable(cls, value: SecretStr | None) -> SecretStr | None:
        _check_sendable([value] if value else [])
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> "S3Settings":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together")
        return self


class HttpSettings(ConnectionSettings):
    """A list of addresses, or all that lies below one."""

    base_url: _Url | None = None
    """File ids are paths below it."""
    urls: tuple[_Url, ...] = Field(default=(), max_length=MAX_URLS)
    """File ids are these addresses."""
    headers: dict[_HeaderName, _HeaderValue] = Field(default_factory=dict, max_length=20)
    """Sent with every request, such as `Authorization`; all of them count as credentials."""

    @field_validator("headers")
    @classmethod
    def _sendable(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        _check_sendable(value.values())
        if any(name.lower() in _FRAMING for name in value):
            raise ValueError("headers that say how a request is sent cannot be set")
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> "HttpSettings":
        if (self.base_url is None) == (not self.urls):
            raise ValueError("give base_url or urls, not both")
        return self


class GoogleDriveSettings(ConnectionSettings):
    """A Google Drive, as a user (refresh token) or a service account sees it."""

    client_id: str | None = Field(default=None, min_length=1, max_length=512)
    client_secret: _Secret | None = None
    refresh_token: _Secret | None = None
    service_account: _Secret | None = None
    """The key file's JSON, as text."""
    subject: str | None = Field(default=None, max_length=320)
    """The user a service account acts for, where the domain allows it."""
    folder_id: str = Field(default="root", pattern=r"^[A-Za-z0-9_-]{1,200}$")
    """Where browsing begins."""
    drive_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,200}$")
    """A shared drive."""
    base_url: _Url = "https://www.googleapis.com/drive/v3"
    token_url: _Url = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address

    @model_validator(mode="after")
    def _one_way_in(self) -> "GoogleDriveSettings":
        as_user = (self.client_id, self.client_secret, self.refresh_token)
        if self.service_account is None and None in as_user:
            raise ValueError("give service_account, or client_id, client_secret and refresh_token")
        if self.service_account is not None and any(each is not None for each in as_user):
            raise ValueError("give service_account or a refresh_token, not both")
        return self


SETTINGS: dict[SourceType, type[ConnectionSettings]] = {
    SourceType.GOOGLE_DRIVE: GoogleDriveSettings,
    SourceType.LOCAL_ZIP: LocalZipSettings,
    SourceType.LOCAL_DIRECTORY: LocalDirectorySettings,
    SourceType.S3: S3Settings,
    SourceType.HTTP: HttpSettings,
}


def secret_fields(kind: type[ConnectionSettings]) -> frozenset[str]:
    """Names of the fields that hold credentials, by their types."""
    return frozenset(name for name, field in kind.model_fields.items() if "Secret" in repr(field.annotation))


def split(settings: ConnectionSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """What may be shown, and in the clear what may not. Fields that say nothing are in neither."""
    secret = secret_fields(type(settings))
    given = settings.model_dump(mode="json", exclude_defaults=True, exclude=set(secret))
    hidden = {name: _revealed(value) for name in sorted(secret) if (value := getattr(settings, name))}
    return given, hidden


def _revealed(value: SecretStr | dict[str, SecretStr]) -> Any:
    if isinstance(value, dict):
        return {name: each.get_secret_value() for name, each in value.items()}
    return value.get_secret_value()

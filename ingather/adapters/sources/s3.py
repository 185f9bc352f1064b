"""Objects of somebody's bucket, with credentials of its own: never with those of this deployment."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

import httpx

from ingather.adapters.guarded_http import AddressRefusedError, check_url
from ingather.adapters.retry_after import moment
from ingather.adapters.sources.patience import Patience
from ingather.adapters.sources.web import (
    PASSING_STATUSES,
    Build,
    WebSource,
    announced_bytes,
    passing,
    read_bounded,
    refused,
    whole_body,
)
from ingather.domain.filenames import shown
from ingather.models.connection_settings import S3Settings
from ingather.models.errors import (
    DocumentError,
    SourceAccessDeniedError,
    SourceFileNotFoundError,
    SourceUnavailableError,
)
from ingather.models.source import SourceFile
from ingather.ports.source import Download, SourcePage

_PASSING_CODES: Final = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling"})
_MAX_KEYS: Final = 1_000


class S3Source:
    """File ids are keys without the connection's prefix.

    Raises:
        SourceAccessDeniedError: the endpoint can be told to lie in a private network.
    """

    def __init__(self, settings: S3Settings, *, allow_private: bool, patience: Patience) -> None:
        self._prefix = settings.prefix
        self._region = settings.region
        self._base = _bucket_url(settings)
        self._key_id = settings.access_key_id
        self._secret = settings.secret_access_key.get_secret_value() if settings.secret_access_key else ""
        self._token = settings.session_token.get_secret_value() if settings.session_token else None
        try:
            check_url(self._base, allow_private=allow_private)
        except AddressRefusedError as error:
            raise refused(error) from error
        self._who = f"The bucket {settings.bucket!r}"
        self._web = WebSource(self._who, allow_private=allow_private, patience=patience)

    async def list_files(self, folder: str | None = None, *, cursor: str | None = None, limit: int = 100) -> SourcePage:
        below = f"{folder.rstrip('/')}/" if folder else ""
        query = {
            "list-type": "2",
            "delimiter": "/",
            "max-keys": str(min(limit, _MAX_KEYS)),
            "prefix": self._prefix + below,
        }
        if cursor:
            query["continuation-token"] = cursor
        answer = await self._web.read(self._request("GET", "", query), self._judge(folder or ""))
        root = _parsed(answer.content, self._who)
        files = [*self._folders(root), *self._files(root, self._prefix + below)]
        if folder and not files and cursor is None:
            raise SourceFileNotFoundError(f"{self._who} has nothing below {shown(folder)!r}.")
        return SourcePage(tuple(files), _text(root, "NextContinuationToken") or None)

    async def describe(self, file_id: str) -> SourceFile:
        key = self._key(file_id)
        async with self._web.opened(self._request("HEAD", key), self._judge(file_id)) as response:
            return _file(file_id, response)

    def download(self, file_id: str) -> AbstractAsyncContextManager[Download]:
        return self._download(file_id)

    async def check(self) -> None:
        await self.list_files(limit=1)

    async def close(self) -> None:
        await self._web.close()

    @asynccontextmanager
    async def _download(self, file_id: str) -> AsyncIterator[Download]:
        key = self._key(file_id)
        async with self._web.opened(self._request("GET", key), self._judge(file_id)) as response:
            file = _file(file_id, response)
            yield Download(file, whole_body(response, self._who, file.size_bytes))

    def _key(self, file_id: str) -> str:
        """Raises ``SourceAccessDeniedError`` for a key that would be resolved on its way, out of prefix and bucket."""
        key = self._prefix + file_id
        if key.startswith("/") or any(part in {".", ".."} for part in key.split("/")):
            raise SourceAccessDeniedError(
                f"The key of {shown(file_id)!r} begins with '/', or has a part '.' or '..': in an address these lead elsewhere.",
                action="Name files as GET /v1/connections/{id}/files lists them; copy an object of such a key to another.",
            )
        return key

    def _folders(self, root: ET.Element) -> list[SourceFile]:
        found = (_text(each, "Prefix") for each in _children(root, "CommonPrefixes"))
        ids = [prefix.removeprefix(self._prefix).rstrip("/") for prefix in found]
        return [SourceFile(file_id=each, name=each.rsplit("/", 1)[-1], is_folder=True) for each in ids if each]

    def _files(self, root: ET.Element, folder: str) -> list[SourceFile]:
        found = []
        for each in _children(root, "Contents"):
            key = _text(each, "Key")
            if key == folder or key.endswith("/"):  # what some programs put where a folder is to be seen
                continue
            found.append(
                SourceFile(
                    file_id=key.removeprefix(self._prefix),
                    name=key.rsplit("/", 1)[-1],
                    size_bytes=_number(_text(each, "Size")),
                    modified_at=_moment(_text(each, "LastModified")),
                )
            )
        return found

    def _request(self, method: str, key: str, query: dict[str, str] | None = None) -> Build:
        async def build() -> httpx.Request:
            url = self._base + quote(key, safe="/~-_.")
            if query:
                url = f"{url}?{urlencode(query, quote_via=quote, safe='~-_.')}"
            return self._web.client.build_request(method, url, headers=self._signature(method, url))

        return build

    def _signature(self, method: str, url: str) -> dict[str, str]:
        if self._key_id is None:
            return {}
        # Imported here: it takes a sixth of a second, and most workers have no such source.
        from botocore.auth import S3SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.credentials import Credentials  # noqa: PLC0415

        request = AWSRequest(method=method, url=url)
        S3SigV4Auth(Credentials(self._key_id, self._secret, self._token), "s3", self._region).add_auth(request)
        return dict(request.headers.items())

    def _judge(self, file_id: str) -> "_Judge":
        return _Judge(self._who, file_id)


class _Judge:
    def __init__(self, who: str, file_id: str) -> None:
        self._who, self._file_id = who, file_id

    async def __call__(self, response: httpx.Response) -> DocumentError | None:
        status = response.status_code
        if status == 200:
            return None
        code = await _error_code(response, self._who)
        words = f"{status}, {code}" if code else str(status)
        if status in PASSING_STATUSES or code in _PASSING_CODES:
            return passing(self._who, response, code)
        if code == "NoSuchBucket":
            return SourceAccessDeniedError(f"{self._who} does not exist.", action="Check the connection's bucket.")
        if status == 404:
            return SourceFileNotFoundError(f"{self._who} has no {shown(self._file_id)!r}.")
        if 300 <= status < 400:
            return SourceAccessDeniedError(
                f"{self._who} lies in another region or at another endpoint ({words}).",
                action="Set the connection's region and endpoint_url to the bucket's own.",
            )
        return SourceAccessDeniedError(f"{self._who} refuses access ({words}).")


async def _error_code(response: httpx.Response, who: str) -> str:
    """S3's own word for it; empty where it says none, as to HEAD."""
    try:
        return _text(_parsed(await read_bounded(response, who), who), "Code")[:60]
    except (SourceUnavailableError, SourceAccessDeniedError):
        return ""


def _bucket_url(settings: S3Settings) -> str:
    if settings.endpoint_url is not None:
        return f"{settings.endpoint_url.rstrip('/')}/{settings.bucket}/"
    if "." in settings.bucket:  # would not fit the certificate
        return f"https://s3.{settings.region}.amazonaws.com/{settings.bucket}/"
    return f"https://{settings.bucket}.s3.{settings.region}.amazonaws.com/"


def _parsed(content: bytes, who: str) -> ET.Element:
    """An answer's XML. Raises ``SourceUnavailableError`` for what is none, or declares entities."""
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:  # or hidden in two bytes a character
        raise SourceUnavailableError(f"{who} sent XML with declarations, which no S3 server does.")
    try:
        return ET.fromstring(content)  # noqa: S314  # without a DOCTYPE there is nothing to expand
    except (ET.ParseError, LookupError, ValueError) as error:
        raise SourceUnavailableError(f"{who} sent an answer that is not XML.") from error


def _children(element: ET.Element, name: str) -> list[ET.Element]:
    return [each for each in element if each.tag.rsplit("}", 1)[-1] == name]


def _text(element: ET.Element, name: str) -> str:
    return next((each.text or "" for each in _children(element, name)), "")


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _file(file_id: str, response: httpx.Response) -> SourceFile:
    return SourceFile(
        file_id=file_id,
        name=file_id.rsplit("/", 1)[-1],
        size_bytes=announced_bytes(response),
        media_type=response.headers.get("Content-Type", "").split(";")[0].strip()[:255] or None,
        modified_at=moment(response.headers.get("Last-Modified", "")),
    )


def _moment(value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None

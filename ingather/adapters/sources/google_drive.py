"""Google Drive over its REST interface, version 3."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, Final

import httpx

from ingather.adapters.guarded_http import AddressRefusedError, check_url
from ingather.adapters.sources.google_token import GoogleToken
from ingather.adapters.sources.patience import Patience
from ingather.adapters.sources.web import (
    PASSING_STATUSES,
    Build,
    Judge,
    WebSource,
    passing,
    read_bounded,
    refused,
    whole_body,
)
from ingather.domain.filenames import shown
from ingather.models.connection_settings import GoogleDriveSettings
from ingather.models.content import MediaType
from ingather.models.errors import (
    DocumentError,
    DocumentTooLargeError,
    SourceAccessDeniedError,
    SourceFileNotFoundError,
    SourceUnavailableError,
)
from ingather.models.source import SourceFile
from ingather.ports.source import Download, SourcePage

_WHO: Final = "Google Drive"
_FIELDS: Final = "id,name,mimeType,size,modifiedTime,md5Checksum,sha256Checksum,shortcutDetails(targetId)"
_ID: Final = re.compile(r"^[A-Za-z0-9_-]{1,200}$")
_NATIVE: Final = "application/vnd.google-apps."
_FOLDER: Final = f"{_NATIVE}folder"
_SHORTCUT: Final = f"{_NATIVE}shortcut"
_EXPORTS: Final = {
    f"{_NATIVE}document": (MediaType.DOCX.value, ".docx"),
    f"{_NATIVE}spreadsheet": (MediaType.XLSX.value, ".xlsx"),
    f"{_NATIVE}presentation": (MediaType.PPTX.value, ".pptx"),
}
_OTHER_EXPORT: Final = (MediaType.PDF.value, ".pdf")
_PASSING_REASONS: Final = frozenset(
    {"rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "quotaExceeded", "sharingRateLimitExceeded",
     "backendError", "internalError"}
)  # fmt: skip
_MAX_PAGE: Final = 1_000


class _TokenRefusedError(Exception):
    """The access token is not taken: it may have been revoked before its time."""


class GoogleDriveSource:
    """File ids are Drive's own. Google's own kinds of documents are exported: DOCX, XLSX, PPTX, others as PDF.

    Raises:
        SourceAccessDeniedError: an address can be told to lie in a private network.
    """

    def __init__(self, settings: GoogleDriveSettings, *, allow_private: bool, patience: Patience) -> None:
        try:
            for url in (settings.base_url, settings.token_url):
                check_url(url, allow_private=allow_private)
        except AddressRefusedError as error:
            raise refused(error) from error
        self._settings = settings
        self._base = settings.base_url.rstrip("/")
        self._top = settings.drive_id or "root" if settings.folder_id == "root" else settings.folder_id
        self._web = WebSource(_WHO, allow_private=allow_private, patience=patience)
        self._token = GoogleToken(settings, self._web)

    async def list_files(self, folder: str | None = None, *, cursor: str | None = None, limit: int = 100) -> SourcePage:
        folder = _checked_id(folder or self._top)
        query = {
            "q": f"'{folder}' in parents and trashed = false",
            "orderBy": "folder,name",
            "pageSize": str(min(limit, _MAX_PAGE)),
            "fields": f"nextPageToken,files({_FIELDS})",
            "supportsAllDrives": "true",
            "includeItemsFromAllDrives": "true",
        }
        if self._settings.drive_id:
            query |= {"corpora": "drive", "driveId": self._settings.drive_id}
        if cursor:
            query["pageToken"] = cursor
        answer = await self._json("/files", query, folder)
        files = answer.get("files")
        if not isinstance(files, list):
            raise _nonsense()
        return SourcePage(tuple(_file(each) for each in files), str(answer.get("nextPageToken") or "") or None)

    async def describe(self, file_id: str) -> SourceFile:
        return _file(await self._facts(file_id))

    def download(self, file_id: str) -> AbstractAsyncContextManager[Download]:
        return self._download(file_id)

    async def check(self) -> None:
        await self.list_files(limit=1)

    async def close(self) -> None:
        await self._web.close()

    @asynccontextmanager
    async def _download(self, file_id: str) -> AsyncIterator[Download]:
        facts = await self._facts(file_id)
        kind = str(facts.get("mimeType", ""))
        if kind == _SHORTCUT:
            details = facts.get("shortcutDetails")
            facts = await self._facts(str(details.get("targetId", "")) if isinstance(details, dict) else "")
            kind = str(facts.get("mimeType", ""))
        if kind == _FOLDER:
            raise SourceFileNotFoundError(f"{shown(file_id)!r} is a folder.", action="Select the files in it.")
        file, path = _file(facts), f"/files/{_checked_id(str(facts.get('id', '')))}"
        if kind.startswith(_NATIVE):
            media_type, _ = _EXPORTS.get(kind, _OTHER_EXPORT)
            path, query = f"{path}/export", {"mimeType": media_type}
        else:
            query = {"alt": "media", "supportsAllDrives": "true"}
        async with self._opened(path, query, file_id) as response:
            body = whole_body(response, _WHO, file.size_bytes)
            yield Download(file, body if kind.startswith(_NATIVE) else _hashed(body, facts))

    async def _facts(self, file_id: str) -> dict[str, Any]:
        query = {"fields": _FIELDS, "supportsAllDrives": "true"}
        return await self._json(f"/files/{_checked_id(file_id)}", query, file_id)

    async def _json(self, path: str, query: dict[str, str], file_id: str) -> dict[str, Any]:
        async with self._opened(path, query, file_id) as response:
            try:
                answer = json.loads(await read_bounded(response, _WHO))
            except (ValueError, RecursionError) as error:
                raise _nonsense() from error
        if not isinstance(answer, dict):
            raise _nonsense()
        return answer

    @asynccontextmanager
    async def _opened(self, path: str, query: dict[str, str], file_id: str) -> AsyncIterator[httpx.Response]:
        """An answer, with a token that is taken: one that is refused is renewed once."""
        url = f"{self._base}{path}"
        async with AsyncExitStack() as stack:
            token = await self._token.get()
            try:
                asked = self._web.opened(self._request(url, query, token), _judging(file_id))
                response = await stack.enter_async_context(asked)
            except _TokenRefusedError:
                self._token.forget(token)
                try:
                    asked = self._web.opened(self._request(url, query, await self._token.get()), _judging(file_id))
                    response = await stack.enter_async_context(asked)
                except _TokenRefusedError:
                    raise SourceAccessDeniedError(f"{_WHO} refuses a token that it has just given out (401).") from None
            yield response

    def _request(self, url: str, query: dict[str, str], token: str) -> Build:
        async def build() -> httpx.Request:
            headers = {"Authorization": f"Bearer {token}"}
            return self._web.client.build_request("GET", url, params=query, headers=headers)

        return build


def _judging(file_id: str) -> Judge:
    async def judge(response: httpx.Response) -> DocumentError | None:
        status = response.status_code
        if status == 200:
            return None
        if status == 401:
            raise _TokenRefusedError
        reason = await _reason(response)
        if status in PASSING_STATUSES or reason in _PASSING_REASONS:
            return passing(_WHO, response, reason)
        if status == 404:
            return SourceFileNotFoundError(f"{_WHO} has no file {shown(file_id)!r}, or not for this account.")
        if reason == "exportSizeLimitExceeded":
            return DocumentTooLargeError(
                f"{_WHO} exports no document as large as {shown(file_id)!r}.",
                action="Download it as DOCX, XLSX or PDF in the browser, put that file into the Drive and select it.",
            )
        words = f"{status}, {reason}" if reason else str(status)
        return SourceAccessDeniedError(f"{_WHO} refuses {shown(file_id)!r} ({words}).")

    return judge


async def _reason(response: httpx.Response) -> str:
    """Google's own word for an error; empty where it says none."""
    try:
        said = json.loads(await read_bounded(response, _WHO))["error"]["errors"][0]["reason"]
    except (ValueError, TypeError, LookupError, RecursionError, SourceUnavailableError, SourceAccessDeniedError):
        return ""
    return said[:60] if isinstance(said, str) and said.isalnum() else ""


def _file(facts: dict[str, Any]) -> SourceFile:
    try:
        kind, name = str(facts["mimeType"]), str(facts["name"])
        if kind.startswith(_NATIVE) and kind not in {_FOLDER, _SHORTCUT}:
            media_type, extension = _EXPORTS.get(kind, _OTHER_EXPORT)
            name = name if name.lower().endswith(extension) else f"{name}{extension}"
        else:
            media_type = kind
        modified = facts.get("modifiedTime")
        return SourceFile(
            file_id=str(facts["id"]),
            name=name,
            size_bytes=int(facts["size"]) if "size" in facts and not kind.startswith(_NATIVE) else None,
            media_type=media_type,
            modified_at=datetime.fromisoformat(modified) if modified else None,
            is_folder=kind == _FOLDER,
        )
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise _nonsense() from error


async def _hashed(body: AsyncIterator[bytes], facts: dict[str, Any]) -> AsyncIterator[bytes]:
    """The bytes, held at their end against what Drive says they hash to."""
    wanted, digest = facts.get("sha256Checksum"), hashlib.sha256()
    if not wanted:
        wanted, digest = facts.get("md5Checksum"), hashlib.md5(usedforsecurity=False)
    async for chunk in body:
        digest.update(chunk)
        yield chunk
    if wanted and digest.hexdigest() != wanted:
        raise SourceUnavailableError(f"{_WHO} sent other bytes than its checksum says.")


def _checked_id(file_id: str) -> str:
    """It becomes part of an address and of a query. Raises ``SourceFileNotFoundError`` for what is no id."""
    if not _ID.fullmatch(file_id):
        raise SourceFileNotFoundError(f"{shown(file_id)!r} is no file id of {_WHO}.")
    return file_id


def _nonsense() -> SourceUnavailableError:
    return SourceUnavailableError(f"{_WHO} sent an answer that cannot be read.")

"""Google Drive's REST interface, as far as we speak it: files, folders, exports, tokens; with quotas and outages."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import jwt

from tests.support.http_stand_in import Asked, HttpStandIn, Told, http_stand_in

FOLDER = "application/vnd.google-apps.folder"


@dataclass
class DriveFile:
    name: str
    content: bytes = b""
    media_type: str = "text/plain"
    parent: str = "root"
    exports: dict[str, bytes] = field(default_factory=dict)
    """Of a document of Google's own: content by media type."""
    target: str = ""
    """Of a shortcut."""
    checksum: str | None = None
    """Said in place of the true one."""
    size: int | None = None
    """The same."""


def error(status: int, reason: str, **headers: str) -> Told:
    """An error as Drive tells it."""
    said = {
        "error": {"code": status, "message": "no secret here", "errors": [{"reason": reason, "domain": "usageLimits"}]}
    }
    return Told(status, json.dumps(said).encode(), {"Content-Type": "application/json", **headers})


@dataclass
class DriveStandIn:
    """A drive with one account."""

    files: dict[str, DriveFile] = field(default_factory=dict)
    server: HttpStandIn = field(default_factory=HttpStandIn)
    token: str = "token-1"
    refresh_token: str = "refresh-me"
    public_key: Any = None
    """Of the service account."""
    troubles: list[Told] = field(default_factory=list)
    """Told in place of the next answers about files."""
    token_troubles: list[Told] = field(default_factory=list)
    media: Told | None = None
    """How the next bytes go wrong."""
    tokens_given: int = 0
    page_size: int = 1_000

    @property
    def base_url(self) -> str:
        return f"{self.server.url}/drive/v3"

    @property
    def token_url(self) -> str:
        return f"{self.server.url}/token"

    def as_user(self, **changes: Any) -> dict[str, Any]:
        """Settings of a connection."""
        given = {
            "client_id": "client", "client_secret": "shh", "refresh_token": "refresh-me",
            "base_url": self.base_url, "token_url": self.token_url,
        }  # fmt: skip
        return given | changes

    def revoke(self) -> None:
        """The token in use is no longer taken."""
        self.token = f"token-{self.tokens_given + 1}"

    async def answer(self, asked: Asked) -> Told:
        if asked.path == "/token":
            return self._token(dict(parse_qsl(asked.body.decode())))
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return error(401, "authError")
        if self.troubles:
            return self.troubles.pop(0)
        path = asked.path.removeprefix("/drive/v3")
        if path == "/files":
            return self._list(asked.query)
        _, _, file_id, *rest = path.split("/")
        file = self.files.get(file_id)
        return error(404, "notFound") if file is None else self._of_file(file_id, file, rest, asked)

    def _of_file(self, file_id: str, file: DriveFile, rest: list[str], asked: Asked) -> Told:
        if rest == ["export"]:
            content = file.exports.get(asked.query["mimeType"])
            return Told(200, content) if content is not None else error(403, "cannotExportFile")
        if asked.query.get("alt") == "media":
            media, self.media = self.media, None
            return media or Told(200, file.content, {"Content-Type": file.media_type})
        return _json(self._facts(file_id, file))

    def _token(self, form: dict[str, str]) -> Told:
        if self.token_troubles:
            return self.token_troubles.pop(0)
        if form.get("grant_type") == "refresh_token":
            if form["refresh_token"] != self.refresh_token:
                return Told(
                    400, b'{"error": "invalid_grant", "error_description": "Token has been expired or revoked."}'
                )
        else:
            jwt.decode(form["assertion"], self.public_key, algorithms=["RS256"], audience=self.token_url)
        self.tokens_given += 1
        self.token = f"token-{self.tokens_given}"
        return _json({"access_token": self.token, "expires_in": 3_600, "token_type": "Bearer"})

    def _list(self, query: dict[str, str]) -> Told:
        parent = query["q"].split("'")[1]
        found = sorted((each.name, file_id) for file_id, each in self.files.items() if each.parent == parent)
        first, size = int(query.get("pageToken", 0)), min(int(query["pageSize"]), self.page_size)
        page = [self._facts(file_id, self.files[file_id]) for _, file_id in found[first : first + size]]
        more = {"nextPageToken": str(first + size)} if first + size < len(found) else {}
        return _json({"files": page, **more})

    def _facts(self, file_id: str, file: DriveFile) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "id": file_id, "name": file.name, "mimeType": file.media_type,
            "modifiedTime": datetime(2026, 3, 14, tzinfo=UTC).isoformat().replace("+00:00", ".000Z"),
        }  # fmt: skip
        if file.target:
            facts["shortcutDetails"] = {"targetId": file.target}
        if not file.media_type.startswith("application/vnd.google-apps."):
            facts["size"] = str(len(file.content) if file.size is None else file.size)
            facts["sha256Checksum"] = file.checksum or hashlib.sha256(file.content).hexdigest()
        return facts


def _json(said: Any) -> Told:
    return Told(200, json.dumps(said).encode(), {"Content-Type": "application/json"})


@asynccontextmanager
async def drive_stand_in(**files: DriveFile) -> AsyncIterator[DriveStandIn]:
    """The drive, listening."""
    drive = DriveStandIn(dict(files))
    async with http_stand_in(drive.answer) as server:
        drive.server = server
        yield drive

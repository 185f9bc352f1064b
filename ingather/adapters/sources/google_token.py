"""Access tokens for Google's services, from a user's refresh token or a service account's key."""

import asyncio
import json
import time
from typing import Any

import httpx
import jwt

from ingather.adapters.sources.web import PASSING_STATUSES, WebSource, passing, read_bounded
from ingather.models.connection_settings import GoogleDriveSettings
from ingather.models.errors import DocumentError, SourceAccessDeniedError, SourceUnavailableError

SCOPE = "https://www.googleapis.com/auth/drive.readonly"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SPARE_SECONDS = 60.0
"""A token is not used in its last minute: a request may take a while to arrive."""
_WHO = "Google's token service"


class GoogleToken:
    """The token in force, asked for when there is none and renewed before it ends; once, however many wait for it."""

    def __init__(self, settings: GoogleDriveSettings, web: WebSource) -> None:
        self._settings = settings
        self._web = web
        self._token = ""
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def get(self) -> str:
        """Raises ``SourceAccessDeniedError`` where the credentials are refused, ``SourceUnavailableError``."""
        async with self._asking:
            if time.monotonic() >= self._until:
                await self._renew()
            return self._token

    def forget(self, token: str) -> None:
        """It was refused; the next one is asked for, unless somebody did so already."""
        if token == self._token:
            self._until = 0.0

    async def _renew(self) -> None:
        answer = await self._web.read(self._request, _judge)
        try:
            said = answer.json()
            token, seconds = str(said["access_token"]), float(said.get("expires_in", 3_600))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise SourceUnavailableError(f"{_WHO} sent an answer without a token.") from error
        if not token or not token.isascii() or not token.isprintable():
            raise SourceUnavailableError(f"{_WHO} sent something that is no token.")
        self._token, self._until = token, time.monotonic() + max(1.0, seconds - _SPARE_SECONDS)

    async def _request(self) -> httpx.Request:
        return self._web.client.build_request("POST", self._settings.token_url, data=self._form())

    def _form(self) -> dict[str, Any]:
        settings = self._settings
        if settings.service_account is not None:
            return {"grant_type": _GRANT, "assertion": self._assertion(settings.service_account.get_secret_value())}
        assert settings.refresh_token is not None  # the settings have one of both
        assert settings.client_secret is not None
        return {
            "grant_type": "refresh_token",
            "client_id": settings.client_id,
            "client_secret": settings.client_secret.get_secret_value(),
            "refresh_token": settings.refresh_token.get_secret_value(),
        }

    def _assertion(self, key_file: str) -> str:
        now = int(time.time())
        try:
            key = json.loads(key_file)
            claims = {
                "iss": key["client_email"],
                "scope": SCOPE,
                "aud": self._settings.token_url,
                "iat": now,
                "exp": now + 3_600,
                **({"sub": self._settings.subject} if self._settings.subject else {}),
            }
            headers = {"kid": key["private_key_id"]} if key.get("private_key_id") else None
            return jwt.encode(claims, key["private_key"], algorithm="RS256", headers=headers)
        except Exception:  # noqa: BLE001  # whatever is wrong with it, its text must not get into an error
            raise SourceAccessDeniedError(
                "The service account's key file cannot be used.",
                action="Create the connection again with the JSON that Google gave, as it is.",
            ) from None


async def _judge(response: httpx.Response) -> DocumentError | None:
    if response.status_code == 200:
        return None
    code = await _code(response)
    if response.status_code in PASSING_STATUSES:
        return passing(_WHO, response, code)
    if code == "invalid_grant":
        return SourceAccessDeniedError(
            "The refresh token, or the service account's key, was revoked or has expired (invalid_grant).",
            action="Let the user consent again, or make a new key, and create the connection anew.",
        )
    if code in {"invalid_client", "unauthorized_client"}:
        return SourceAccessDeniedError(f"Client id and secret are refused ({code}).")
    return SourceAccessDeniedError(
        f"{_WHO} refuses the credentials ({response.status_code}{', ' if code else ''}{code})."
    )


async def _code(response: httpx.Response) -> str:
    try:
        said = json.loads(await read_bounded(response, _WHO)).get("error", "")
    except (ValueError, AttributeError, RecursionError, SourceUnavailableError, SourceAccessDeniedError):
        return ""
    return said[:60] if isinstance(said, str) and said.replace("_", "").isalnum() else ""

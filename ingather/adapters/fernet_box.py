"""Credentials under Fernet keys: AES-128 in CBC mode with an HMAC, from ``cryptography``."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ingather.models.errors import ConfigurationError, CredentialKeyMissingError

_WHAT_TO_DO = "Make one with `ingather connections new-key`, and put the newest first."


if TYPE_CHECKING:
    from cryptography.fernet import Fernet


class FernetBox:
    """Closes with the first key, opens with any.

    Args:
        keys: 32 bytes each in URL-safe base64, newest first. Without any, nothing can be sealed.

    Raises:
        ConfigurationError: one of them is no key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._keys = [_key(key) for key in keys]
        except ValueError as error:
            raise ConfigurationError(
                "INGATHER_SOURCES__KEYS holds something that is not 32 bytes in URL-safe base64.", action=_WHAT_TO_DO
            ) from error

    def seal(self, secrets: dict[str, Any], owner: str) -> str:
        if not self._keys:
            raise CredentialKeyMissingError("This deployment has no key to keep credentials under.")
        return self._keys[0].encrypt(json.dumps([owner, secrets]).encode()).decode()

    def open(self, sealed: str, owner: str) -> dict[str, Any]:
        written_for, secrets = json.loads(self._opened(sealed))
        if written_for != owner:
            # Somebody who can write to the database put them here, to be used in another's name.
            raise CredentialKeyMissingError("The stored credentials belong to another connection.")
        return dict(secrets)

    def renewed(self, sealed: str) -> str | None:
        if not self._keys:
            raise CredentialKeyMissingError("This deployment has no key to keep credentials under.")
        if _opened_with(self._keys[0], sealed) is not None:
            return None
        return self._keys[0].encrypt(self._opened(sealed)).decode()

    def _opened(self, sealed: str) -> bytes:
        for key in self._keys:
            opened = _opened_with(key, sealed)
            if opened is not None:
                return opened
        raise CredentialKeyMissingError("The credentials were sealed with a key that this deployment does not have.")


def _key(text: str) -> "Fernet":
    # Imported with the first key: most deployments' workers never see a credential.
    from cryptography.fernet import Fernet  # noqa: PLC0415

    return Fernet(text)


def _opened_with(key: "Fernet", sealed: str) -> bytes | None:
    from cryptography.fernet import InvalidToken  # noqa: PLC0415

    try:
        return key.decrypt(sealed)
    except InvalidToken:
        return None

"""Where credentials are closed up before they are stored."""

from typing import Any, Protocol


class SecretBox(Protocol):
    """Encrypts with the newest of its keys and opens with any. Nothing here does I/O."""

    def seal(self, secrets: dict[str, Any], owner: str) -> str:
        """Printable, and useless under another owner's name. Raises ``CredentialKeyMissingError`` without a key."""
        ...

    def open(self, sealed: str, owner: str) -> dict[str, Any]:
        """What was sealed. Raises ``CredentialKeyMissingError`` where no key here fits."""
        ...

    def renewed(self, sealed: str) -> str | None:
        """The same under the newest key; None where it is sealed with that already.

        Raises ``CredentialKeyMissingError``.
        """
        ...

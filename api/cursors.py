"""List cursors: opaque, signed, and bound to the filters they were made with."""

import base64
import binascii
import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

from ingather.models.errors import InvalidCursorError

_SIGNATURE_BYTES = 12


class CursorCodec:
    """Packs a keyset position. A cursor that was changed, or is used with other filters, is refused."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def encode(self, position: list[Any], filters: dict[str, Any]) -> str:
        body = json.dumps([_digest(filters), position], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sign(body) + body).decode().rstrip("=")

    def decode(self, cursor: str, filters: dict[str, Any]) -> list[Any]:
        """The position. Raises ``InvalidCursorError``."""
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (binascii.Error, ValueError) as error:
            raise InvalidCursorError("The cursor is not one of ours.") from error
        signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(body)):
            raise InvalidCursorError("The cursor is not one of ours.")
        digest, position = json.loads(body)
        if digest != _digest(filters):
            raise InvalidCursorError("The cursor belongs to a list with other filters.")
        return list(position)

    def _sign(self, body: bytes) -> bytes:
        return hmac.new(self._secret, body, hashlib.sha256).digest()[:_SIGNATURE_BYTES]


def time_and_id(position: list[Any]) -> tuple[datetime, str]:
    """The position in a list that is ordered by time and id. Raises ``InvalidCursorError`` for one of another list."""
    try:
        at, its_id = position
        return datetime.fromisoformat(at), str(its_id)
    except (TypeError, ValueError) as error:
        raise InvalidCursorError("The cursor belongs to another list.") from error


def ordinal_of(position: list[Any]) -> int:
    """The position in a list that is ordered by ordinal. Raises ``InvalidCursorError`` for one of another list."""
    match position:
        case [int(ordinal)]:
            return ordinal
        case _:
            raise InvalidCursorError("The cursor belongs to another list.")


def _digest(filters: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(filters, sort_keys=True, default=str).encode()).hexdigest()[:12]

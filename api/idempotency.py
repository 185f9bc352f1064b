"""``Idempotency-Key``: what makes two requests one.

A batch's key becomes its id and its payload's fingerprint stands in its record, so a replay is
recognised for as long as the record lives. A control message is idempotent by its request id
inside the workflow; this process also remembers its recent keys, to refuse a key that comes back
with another payload.
"""

import hashlib
import uuid
from collections import OrderedDict

from ingather.models.errors import IdempotencyKeyReusedError, RequestError

MAX_KEY_LENGTH = 255
_REMEMBERED_KEYS = 10_000


def check_key(key: str | None) -> str | None:
    """The client's key, or None. Raises ``RequestError`` for one that cannot be used."""
    if key is None:
        return None
    key = key.strip()
    if not key or len(key) > MAX_KEY_LENGTH or not key.isprintable():
        raise RequestError(f"Idempotency-Key must have 1 to {MAX_KEY_LENGTH} printable characters.")
    return key


class ControlKeys:
    """Recent keys of control messages in this process."""

    def __init__(self) -> None:
        self._payloads: OrderedDict[tuple[str, str], str] = OrderedDict()

    def remember(self, batch_id: str, key: str | None, payload: str) -> tuple[str, bool]:
        """The workflow's request id for a message, and whether it was seen before.

        Raises ``IdempotencyKeyReusedError`` when the key came with another payload before.
        """
        if key is None:
            return uuid.uuid4().hex, False
        request_id = hashlib.sha256(f"{batch_id}\n{key}\n{payload}".encode()).hexdigest()[:40]
        known = self._payloads.get((batch_id, key))
        if known is not None and known != payload:
            raise IdempotencyKeyReusedError("This Idempotency-Key was used with another request on this batch.")
        return request_id, known is not None

    def keep(self, batch_id: str, key: str | None, payload: str) -> None:
        """Note that the message was taken."""
        if key is None:
            return
        self._payloads[batch_id, key] = payload
        while len(self._payloads) > _REMEMBERED_KEYS:
            self._payloads.popitem(last=False)

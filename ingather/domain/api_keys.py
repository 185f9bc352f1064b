"""API keys: ``ing_live_<id8>_<32 base62><crc32, 6 base62>``.

The id finds the key's row, the 32 characters are the secret (190 bits), and the checksum lets a mistyped or
made-up key be refused without asking anybody, and lets scanners of leaked secrets tell ours from noise.
"""

import hashlib
import re
import secrets
import zlib

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX = "ing_live_"
_KEY = re.compile(rf"({_PREFIX}([0-9A-Za-z]{{8}})_[0-9A-Za-z]{{32}})([0-9A-Za-z]{{6}})", re.ASCII)


def new_key(key_id: str | None = None) -> tuple[str, str]:
    """A key's id and the key itself; shown once, kept nowhere."""
    key_id = key_id or _random(8)
    body = f"{_PREFIX}{key_id}_{_random(32)}"
    return key_id, body + _checksum(body)


def looks_like_key(credential: str) -> bool:
    """Whether somebody meant it to be a key, right or wrong."""
    return credential.startswith(_PREFIX)


def key_id_of(key: str) -> str | None:
    """The id within a well-formed key; None for anything else."""
    match = _KEY.fullmatch(key)
    return match.group(2) if match and _checksum(match.group(1)) == match.group(3) else None


def key_hash(key: str) -> str:
    """What is kept of a key. Its secret is random and long, so a fast hash cannot be turned back."""
    return hashlib.sha256(key.encode()).hexdigest()


def key_id_from(text: str) -> str:
    """An id that always is the same for the same text."""
    return _base62(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"), 8)[-8:]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), 6)


def _base62(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits.rjust(width, _ALPHABET[0])


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))

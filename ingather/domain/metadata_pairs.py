"""Metadata as a flat list of ``key=value`` texts, so that any index can filter by equality."""

import json
from collections.abc import Mapping
from typing import Any


def metadata_pairs(metadata: Mapping[str, Any]) -> list[str]:
    """One text for each key, the same for a stored document and for a query that asks for it."""
    return [metadata_pair(key, value) for key, value in metadata.items()]


def metadata_pair(key: str, value: Any) -> str:
    """``key=value``. Text stays as it is; every other value is written as JSON (``3``, ``true``, ``["a"]``).

    ``=`` and ``%`` in a key are percent-encoded, so no key can pass for another key with a value.
    """
    text = (
        value
        if isinstance(value, str)
        else json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    )
    return well_formed(f"{key.replace('%', '%25').replace('=', '%3D')}={text}")


def well_formed(text: str) -> str:
    """The text with lone surrogates replaced: JSON can carry them, UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()

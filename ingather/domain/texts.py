"""What makes two texts one: asked the same way of the same processor, they have the same answer."""

import hashlib
import json

from ingather.models.text import TextTask

_VERSION = 1
"""Rises when kept answers mean something else."""

_LEAST_PART = 5
"""Sentences that fill no more than one in so many of the words there are room for are no summary."""


def text_digest(identity: str, task: TextTask) -> str:
    """SHA-256 over the processor, the operation, what is wanted of it, and the text.

    Args:
        identity: the processor's, see ``TextProcessor.identity``.
        task: the text with its operation.
    """
    asked = [_VERSION, identity, task.operation.value, task.wanted, task.text]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def cut_to_words(text: str, most: int) -> str:
    """The text, or as many whole sentences of it as fit into ``most`` words; where they are next to nothing, its first words."""
    words = text.split()
    if len(words) <= most:
        return text.strip()
    kept = words[:most]
    # What ends that early may well be an abbreviation, and says too little in any case.
    for end in range(len(kept), most // _LEAST_PART, -1):
        if kept[end - 1].rstrip("\"'”’)»").endswith((".", "!", "?", "…", "。", "！", "？")):
            return " ".join(kept[:end])
    return " ".join(kept) + " …"

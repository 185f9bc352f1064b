"""The fingerprint a document's artifacts are kept under: what would change the result, and nothing else."""

import hashlib
import json

from ingather.models.batch import ProcessingOptions

_RESULT_OPTIONS = ("chunk_size", "chunk_overlap", "preserve_structure")
"""Options that change an artifact. Limits, thresholds and parallelism only decide whether there is one."""
_ADDED_OPTIONS = {"extract_math": 1}
"""Those that are off by default, with the version of what they do."""
_READING = 2
"""Version of how language models are asked to read a document."""


def pipeline_fingerprint(description: dict[str, str], options: ProcessingOptions) -> str:
    """Sixteen hex digits for this code and these options.

    Args:
        description: names and versions of parsers, chunker and embedder, as ``DocumentPreparer.description`` tells.
        options: how the batch wants its documents processed.
    """
    chosen = {name: getattr(options, name) for name in _RESULT_OPTIONS}
    # Named where they are in use alone: what was made before they existed keeps its name.
    chosen |= {name: _ADDED_OPTIONS[name] for name in _ADDED_OPTIONS if getattr(options, name)}
    if options.parsing_model is not None:
        chosen["parsing_model"] = f"{options.parsing_model}/{_READING}"
    if options.embedding_model is not None:
        chosen["embedding_model"] = options.embedding_model
    basis = {"code": description, "options": chosen}
    canonical = json.dumps(basis, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]

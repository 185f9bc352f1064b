"""The fingerprint a document's artifacts are kept under: what would change the result, and nothing else."""

import hashlib
import json

from ingather.models.batch import ProcessingOptions

_RESULT_OPTIONS = ("chunk_size", "chunk_overlap", "preserve_structure")
"""Options that change an artifact. Limits, thresholds and parallelism only decide whether there is one."""


def pipeline_fingerprint(description: dict[str, str], options: ProcessingOptions) -> str:
    """Sixteen hex digits for this code and these options.

    Args:
        description: names and versions of parsers, chunker and embedder, as ``DocumentPreparer.description`` tells.
        options: how the batch wants its documents processed.
    """
    basis = {"code": description, "options": {name: getattr(options, name) for name in _RESULT_OPTIONS}}
    canonical = json.dumps(basis, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]

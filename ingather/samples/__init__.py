"""Sample documents: one of every kind, about a small observatory, with the outcome each one must have."""

from pathlib import Path

SAMPLES = Path(__file__).parent / "documents"

EXPECTED: dict[str, str] = {
    "operations-handbook.pdf": "done",
    "mirror-care.docx": "done",
    "visitor-nights.pptx": "done",
    "instrument-inventory.xlsx": "done",
    "weather-policy.html": "done",
    "night-log-2026-03-14.md": "done",
    "dome-checklist.txt": "done",
    "letter-from-the-mayor.txt": "done",
    "night-shift-rota.txt": "done",
    "observing-schedule.csv": "done",
    "coolant-delivery.eml": "done",
    "safety-rules.rtf": "done",
    # the three documents of incident-reports.zip, which is no document itself
    "2025-11-02-jammed-shutter.md": "done",
    "2026-01-17-lost-frames.txt": "done",
    "2026-02-08-fox.html": "done",
    # these fail on purpose, each with this error code
    "grant-agreement-sealed.pdf": "encrypted",
    "cooling-manual-truncated.docx": "corrupt",
}
"""``done``, or the error code a document fails with, by the file name it has in a batch (an archive's entries without folders)."""

QUESTION = "When must the dome be closed because of wind?"
"""A question that the samples answer."""

ANSWER_FILES = frozenset({"operations-handbook.pdf", "weather-policy.html"})
"""Where the answer to ``QUESTION`` stands; one of them must be the first hit."""


def sample_paths() -> list[Path]:
    """The files as they are submitted, in order of name."""
    return sorted(path for path in SAMPLES.iterdir() if path.is_file())

"""The fingerprint changes with what changes the result, and with nothing else."""

import re

import pytest

from ingather.domain.fingerprint import pipeline_fingerprint
from ingather.models.batch import ProcessingOptions

CODE = {"pypdfium2": "5.15.2", "embedder": "wordllama-0.4.0-256"}


def test_is_sixteen_hex_digits_and_stable() -> None:
    """The same code and options give the same short name, in whatever order they are listed."""
    fingerprint = pipeline_fingerprint(CODE, ProcessingOptions())
    assert re.fullmatch(r"[0-9a-f]{16}", fingerprint)
    assert fingerprint == pipeline_fingerprint(dict(reversed(CODE.items())), ProcessingOptions())


@pytest.mark.parametrize(
    "options",
    [
        ProcessingOptions(chunk_size=999),
        ProcessingOptions(chunk_overlap=199),
        ProcessingOptions(preserve_structure=False),
        ProcessingOptions(extract_math=True),
    ],
)
def test_changes_with_what_changes_chunks(options: ProcessingOptions) -> None:
    """Other chunks need another place to be kept."""
    assert pipeline_fingerprint(CODE, options) != pipeline_fingerprint(CODE, ProcessingOptions())


@pytest.mark.parametrize(
    "options",
    [
        ProcessingOptions(timeout_seconds=1),
        ProcessingOptions(max_workers=1),
        ProcessingOptions(quality_threshold=0.9),
        ProcessingOptions(skip_existing=False),
        ProcessingOptions(parallel_processing=False),
        ProcessingOptions(max_retries=0),
        ProcessingOptions(retry_failed_files=False),
    ],
)
def test_ignores_what_only_decides_whether(options: ProcessingOptions) -> None:
    """Limits, thresholds and parallelism do not make finished work useless."""
    assert pipeline_fingerprint(CODE, options) == pipeline_fingerprint(CODE, ProcessingOptions())


def test_changes_with_the_code() -> None:
    """Another model or parser version is another result."""
    assert pipeline_fingerprint({**CODE, "embedder": "other"}, ProcessingOptions()) != pipeline_fingerprint(
        CODE, ProcessingOptions()
    )


def test_is_what_it_was_before_options_were_added() -> None:
    """Artifacts made by an earlier version are found again: an option that is off has no part in the name."""
    assert pipeline_fingerprint(CODE, ProcessingOptions()) == "cc7c485ca486358a"

"""What a file of a source is called before the source was asked."""

import pytest

from ingather.domain.source_names import name_in_source
from ingather.models.source import SourceType


@pytest.mark.parametrize(
    ("source_type", "file_id", "name"),
    [
        (SourceType.LOCAL_DIRECTORY, "2026/q1/report.pdf", "report.pdf"),
        (SourceType.LOCAL_ZIP, "a.txt", "a.txt"),
        (SourceType.S3, "in/box/", "box"),
        (SourceType.GOOGLE_DRIVE, "1AbC-x_", "1AbC-x_"),
        (SourceType.HTTP, "https://example.org/docs/a%20b.pdf?v=2#p", "a b.pdf"),
        (SourceType.HTTP, "docs/a.pdf", "a.pdf"),
        (SourceType.HTTP, "https://example.org/", "example.org"),
        (SourceType.HTTP, "http://[", "http://["),
    ],
)
def test_it_is_the_last_part_of_its_id(source_type, file_id, name):
    """Always the same, and without asking anybody."""
    assert name_in_source(source_type, file_id) == name

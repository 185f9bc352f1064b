"""Sources are contiguous slices of ordinals."""

from ingather.domain.sources import MAX_SLICES, OTHERS, SourceTally
from ingather.models.source import SourceRef, SourceType


def test_uploads_before_and_after_an_archive_are_two_slices() -> None:
    """A slice is a range, so an archive between uploads parts them."""
    tally = SourceTally()
    tally.count_upload()
    tally.count_upload()
    tally.count_archive("a.zip", 5)
    tally.count_upload()
    assert [(s.name, s.source_type, s.first_ordinal, s.document_count) for s in tally.slices()] == [
        ("upload", "upload", 0, 2),
        ("a.zip", "zip", 2, 5),
        ("upload", "upload", 7, 1),
    ]


def test_many_sources_end_in_one_slice() -> None:
    """What comes after the twentieth source is counted with it, so that progress stays small."""
    tally = SourceTally()
    for number in range(100):
        tally.count_archive(f"{number}.zip", 3)
        tally.count_upload()
    slices = tally.slices()
    assert len(slices) == MAX_SLICES
    assert sum(s.document_count for s in slices) == 400
    assert slices[-1].name == OTHERS
    ends = [s.first_ordinal + s.document_count for s in slices]
    assert [s.first_ordinal for s in slices] == [0, *ends[:-1]]


def test_exactly_as_many_sources_as_fit_keep_their_names() -> None:
    """The last slice is renamed only when something is added to it."""
    tally = SourceTally()
    for number in range(MAX_SLICES):
        tally.count_archive(f"{number}.zip", 1)
    assert tally.slices()[-1].name == f"{MAX_SLICES - 1}.zip"


def test_each_selection_is_a_slice():
    """Also where two select from one connection; the files of one stay together."""
    tally = SourceTally()
    for selection, connection_id in ((0, "drive"), (0, "drive"), (1, "drive"), (2, "shelf")):
        tally.count_selected(
            SourceRef(
                connection_id=connection_id, source_type=SourceType.GOOGLE_DRIVE, file_id="x", selection=selection
            )
        )
    tally.count_upload()
    assert [(s.connection_id, s.source_type, s.first_ordinal, s.document_count) for s in tally.slices()] == [
        ("drive", "google_drive", 0, 2),
        ("drive", "google_drive", 2, 1),
        ("shelf", "google_drive", 3, 1),
        (None, "upload", 4, 1),
    ]

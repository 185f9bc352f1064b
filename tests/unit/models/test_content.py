"""Bytes and texts do not show where models are printed."""

from ingather.models.content import PreparedDocument, PrepareRequest

SECRET = b"Zanzibar-7731"


def test_a_request_to_a_parser_prints_without_its_bytes():
    """A log line or an assertion about it gives nothing away."""
    request = PrepareRequest(content=SECRET, filename="a.txt", chunk_size=100, chunk_overlap=10, quality_threshold=0.0)

    assert SECRET.decode() not in repr(request)
    assert "a.txt" in repr(request)


def test_a_prepared_document_prints_without_its_artifact():
    """The artifact holds the whole text."""
    prepared = PreparedDocument(
        artifact=SECRET, media_type="text/plain", page_count=None, chunk_count=1, character_count=13, quality=1.0,
        embedded=True,
    )  # fmt: skip

    assert SECRET.decode() not in repr(prepared)

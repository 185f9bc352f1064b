"""What a file of a connected source is called before the source was asked."""

from urllib.parse import unquote, urlsplit

from ingather.models.source import SourceType


def name_in_source(source_type: SourceType, file_id: str) -> str:
    """The last part of a file's id, which is its name there wherever ids are paths.

    Costs nothing and is always the same, so that ten thousand files can be named at submission. Of a source whose ids
    say nothing it is the id itself, until the source was asked.
    """
    if source_type is SourceType.HTTP:
        return _name_in_url(file_id)
    return file_id.rstrip("/").rsplit("/", 1)[-1]


def _name_in_url(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    return unquote(parts.path.rstrip("/").rsplit("/", 1)[-1]) or parts.netloc

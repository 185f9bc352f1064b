"""``multipart/form-data`` as a stream of events: nothing is kept, on disk or in memory, but the chunk at hand."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingather.models.errors import RequestError

MAX_NAME_CHARACTERS = 10_000
"""Of a longer name the end is kept: there are the base name and the extension."""
_MAX_HEADER_BYTES = 64 * 1024
"""Room for a file name of 10,000 characters of four bytes each."""


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part's headers; ``filename`` is None for a plain field."""

    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class PartData:
    content: bytes


@dataclass(frozen=True, slots=True)
class PartEnds:
    pass


PartEvent = PartBegins | PartData | PartEnds


def boundary_of(content_type: str) -> str | None:
    """The boundary of a multipart content type; None when it has none."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"").decode("latin-1")
    return boundary or None


async def read_parts(body: AsyncGenerator[bytes, None], boundary: str) -> AsyncGenerator[PartEvent, None]:
    """Parse a body as it arrives.

    Raises ``RequestError`` for a body that is not well formed or ends before its closing
    boundary. The consumer's own pace is the back-pressure: no chunk is asked for before the
    events of the last one were taken.
    """
    events: list[PartEvent] = []
    collector = _Collector(events)
    try:
        parser = MultipartParser(
            boundary,
            callbacks=collector.callbacks(),  # type: ignore[arg-type]  # a TypedDict that is not exported
            max_header_size=_MAX_HEADER_BYTES,
            max_header_count=32,
        )
        async with aclosing(body):
            async for chunk in body:
                parser.write(chunk)
                for event in events:
                    yield event
                events.clear()
    except FormParserError as error:
        raise RequestError("The multipart body is not well formed.") from error
    if not collector.is_complete:
        raise RequestError("The multipart body ends before its closing boundary; nothing was started.")


class _Collector:
    """Turns the parser's callbacks into events."""

    def __init__(self, events: list[PartEvent]) -> None:
        self._events = events
        self._field = bytearray()
        self._value = bytearray()
        self._disposition = ""
        self.is_complete = False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._part_begin,
            "on_part_data": self._part_data,
            "on_part_end": lambda: self._events.append(PartEnds()),
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._disposition = ""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(PartData(data[start:end]))

    def _header_end(self) -> None:
        if bytes(self._field).lower() == b"content-disposition":
            self._disposition = self._value.decode("latin-1")
        self._field.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise RequestError("A part has no name in its Content-Disposition.")
        filename = options.get(b"filename")
        self._events.append(
            PartBegins(
                name=_text(options[b"name"]),
                filename=None if filename is None else _text(filename)[-MAX_NAME_CHARACTERS:],
            )
        )

    def _end(self) -> None:
        self.is_complete = True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")

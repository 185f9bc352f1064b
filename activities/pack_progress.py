"""How far a pack is: how each of its documents ended, what its heartbeats tell, what its workflow hears."""

from collections.abc import Sequence

from activities.heartbeats import StageHeartbeat
from ingather.domain.bitmap import decode_bitmap, encode_bitmap
from ingather.models.content import Stage
from ingather.models.document import DocumentRecord, DocumentRef, DocumentStatus
from ingather.models.messages import PACK_KILLED, PACK_RETRY_ALONE, IngestPackOutput, PackHeartbeat

_OPEN = "."
_LETTERS = {DocumentStatus.DONE: "d", DocumentStatus.FAILED: "f", DocumentStatus.SKIPPED: "s"}


class PackProgress:
    """One letter a document, in the order of their ordinals.

    Args:
        ordinals: the pack's documents, rising.
    """

    def __init__(self, ordinals: Sequence[int]) -> None:
        self._places = {ordinal: place for place, ordinal in enumerate(ordinals)}
        self._letters = [_OPEN] * len(ordinals)
        self._codes: dict[str, list[int]] = {}

    @property
    def open_ordinals(self) -> list[int]:
        """Documents that have not ended."""
        return [ordinal for ordinal, place in self._places.items() if self._letters[place] == _OPEN]

    def resume(self, beat: PackHeartbeat) -> None:
        """Go on from what the last beat of an earlier attempt told."""
        self._letters = list(beat.statuses)
        self._codes = {code: list(decode_bitmap(bitmap)) for code, bitmap in beat.failures.items()}

    def found(self, record: DocumentRecord) -> None:
        """A row as an earlier attempt left it: it may have an outcome."""
        if record.status in _LETTERS:
            self.ended(record)

    def ended(self, record: DocumentRecord) -> None:
        """The document's outcome is in the catalog."""
        place = self._places[record.ordinal]
        self._letters[place] = _LETTERS[record.status]
        if record.error is not None:
            self._codes.setdefault(record.error.code, []).append(place)

    def alone(self, ordinal: int, *, killed: bool = False) -> None:
        """The document is to run again, as an activity of its own; ``killed`` where it cost a parser its life."""
        self._letters[self._places[ordinal]] = PACK_KILLED if killed else PACK_RETRY_ALONE

    @property
    def statuses(self) -> str:
        return "".join(self._letters)

    @property
    def failures(self) -> dict[str, str]:
        """Failed documents by error code, as bitmaps of their place in the pack."""
        return {code: encode_bitmap(places) for code, places in self._codes.items()}

    def output(self) -> IngestPackOutput:
        """What is still open runs again alone."""
        return IngestPackOutput(statuses=self.statuses.replace(_OPEN, PACK_RETRY_ALONE), failures=self.failures)


class PackHeartbeats(StageHeartbeat):
    """Beats with the document under way, and how those before it ended.

    More seldom than for one document: a dozen packs take turns at the parsers, and each beat costs the server as
    much as an activity's end. Most packs are done before their first.
    """

    first_seconds = every_seconds = 1.5

    def __init__(self, progress: PackProgress) -> None:
        super().__init__()
        self._progress = progress
        self._ordinal = min(progress.open_ordinals, default=0)
        self._under_way: dict[int, tuple[str, Stage]] = {}
        """Filename and stage by ordinal; whoever moved last is last."""

    def under_way(self, document: DocumentRef, stage: Stage) -> None:
        """This document has come to this stage."""
        self._under_way.pop(document.ordinal, None)
        self._under_way[document.ordinal] = (document.filename, stage)

    def details(self) -> PackHeartbeat:
        # Not one that has ended: a parser may hang at the next while those before it are written.
        for ordinal in set(self._under_way).difference(self._progress.open_ordinals):
            del self._under_way[ordinal]
        if self._under_way:
            self._ordinal, (self.filename, self.stage) = next(reversed(self._under_way.items()))
        return PackHeartbeat(
            stage=self.stage,
            filename=self.filename,
            started_at=self.started_at,
            ordinal=self._ordinal,
            statuses=self._progress.statuses,
            failures=self._progress.failures,
        )

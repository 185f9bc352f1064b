"""Dry runs: what a submission would do, from its first bytes and hashes, with nothing kept."""

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from api.uploads import IntakeLimits, MeasuringIntake, Taken, refusal
from ingather.domain.archives import claims_to_be_archive
from ingather.domain.media_type import detect_media_type
from ingather.domain.metadata_rules import RuledMetadata
from ingather.models.content import SMALL_UPLOAD_BYTES
from ingather.models.document import DocumentFailure, Submitted
from ingather.models.errors import DocumentError, MetadataInvalidError
from ingather.models.metadata import MetadataRules

ARCHIVE = "application/zip"
MAX_LISTED = 100


class RefusedFile(BaseModel):
    """A file that would fail, as far as its first bytes tell."""

    model_config = ConfigDict(frozen=True)

    filename: str
    code: str


class PreviewedMetadata(BaseModel):
    """What a document would have for metadata: its own, or the tenant's default."""

    model_config = ConfigDict(frozen=True)

    filename: str
    metadata: dict[str, Any]
    problem: str | None
    """Why the document would fail with ``metadata_invalid``; null where its metadata will do."""


class SubmissionPreview(BaseModel):
    """What would happen. Archives count as one document each: they are opened only when the batch runs."""

    model_config = ConfigDict(frozen=True)

    documents: int
    bytes: int
    by_type: dict[str, int]
    """Files by detected type."""
    archives: int
    from_sources: int = 0
    """Files of connected sources: nothing is asked of a source before the batch runs, so they are in no other number
    but ``documents``."""
    duplicates: int
    """Files whose content is in the request more than once."""
    unsupported: int
    """Files that would fail; the first hundred are listed in ``refused``."""
    refused: list[RefusedFile]
    metadata: list[PreviewedMetadata]
    """Of the first hundred documents, in their order. What the tenant's schema says of them is in no other number."""
    seconds_per_document: float | None
    """Measured on the latest batches; null before there were any."""
    estimated_seconds: float | None


class PreviewIntake(MeasuringIntake):
    """Looks at the first megabyte of each file and lets go of it."""

    def __init__(self, limits: IntakeLimits) -> None:
        super().__init__(limits)
        self.by_type: Counter[str] = Counter()
        self._name = ""
        self._head = bytearray()

    async def begin(self, filename: str) -> None:
        await super().begin(filename)
        self._name = filename
        self._head = bytearray()

    async def write(self, content: bytes) -> None:
        await super().write(content)
        self._head += content[: max(0, SMALL_UPLOAD_BYTES - len(self._head))]

    async def end(self) -> Taken:
        """The file, refused where no parser would read it."""
        taken = await super().end()
        return taken if taken.refused else replace(taken, refused=self._type_problem())

    def _type_problem(self) -> DocumentFailure | None:
        head = bytes(self._head)
        try:
            media_type = ARCHIVE if claims_to_be_archive(self._name, head) else str(detect_media_type(head, self._name))
        except DocumentError as error:
            return refusal(error)
        self.by_type[media_type] += 1
        return None


class PreviewLines:
    """Counts what would fail and what comes twice; eight bytes a document are kept for the latter.

    Of the first hundred documents the metadata is kept, which may come behind them.
    """

    key = ""

    def __init__(self) -> None:
        self.refused_count = 0
        self.refused: list[RefusedFile] = []
        self.from_sources = 0
        self._contents = array("Q")
        self._first: list[Submitted] = []

    @property
    def duplicates(self) -> int:
        return len(self._contents) - len(set(self._contents))

    def metadata_under(self, rules: MetadataRules) -> list[PreviewedMetadata]:
        """What the first documents would have for metadata."""
        ruled = RuledMetadata(rules)
        found = []
        for line in self._first:
            metadata, error = ruled.settled(line.metadata)
            problem = None if error is None else str(error)
            if line.refused is not None and line.refused.code == MetadataInvalidError.code:
                metadata, problem = {}, line.refused.message
            found.append(PreviewedMetadata(filename=line.filename[:255], metadata=metadata, problem=problem))
        return found

    async def add(self, taken: Taken, metadata: dict[str, Any]) -> None:
        self.from_sources += taken.source is not None
        if taken.sha256:
            self._contents.append(int(taken.sha256[:16], 16))
        if taken.refused is not None:
            self._refuse(taken.filename, taken.refused)
        if len(self._first) < MAX_LISTED:
            self._first.append(Submitted(filename=taken.filename, metadata=metadata, refused=taken.refused))

    async def finish(self) -> None:
        return

    async def edit(self, change: Callable[[Submitted], Submitted]) -> None:
        self._first = [change(line) for line in self._first]

    async def discard(self) -> None:
        return

    def _refuse(self, filename: str, failure: DocumentFailure) -> None:
        self.refused_count += 1
        if len(self.refused) < MAX_LISTED:
            self.refused.append(RefusedFile(filename=filename[:255], code=failure.code))

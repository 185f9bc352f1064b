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
from ingather.models.content import SMALL_UPLOAD_BYTES
from ingather.models.document import DocumentFailure, Submitted
from ingather.models.errors import DocumentError

ARCHIVE = "application/zip"
MAX_LISTED = 100


class RefusedFile(BaseModel):
    """A file that would fail, as far as its first bytes tell."""

    model_config = ConfigDict(frozen=True)

    filename: str
    code: str


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
    """Counts what would fail and what comes twice; eight bytes a document are kept for the latter."""

    key = ""

    def __init__(self) -> None:
        self.refused_count = 0
        self.refused: list[RefusedFile] = []
        self.from_sources = 0
        self._contents = array("Q")

    @property
    def duplicates(self) -> int:
        return len(self._contents) - len(set(self._contents))

    async def add(self, taken: Taken, _metadata: dict[str, Any]) -> None:
        self.from_sources += taken.source is not None
        if taken.sha256:
            self._contents.append(int(taken.sha256[:16], 16))
        if taken.refused is not None:
            self._refuse(taken.filename, taken.refused)

    async def finish(self) -> None:
        return

    async def edit(self, _change: Callable[[Submitted], Submitted]) -> None:
        return

    async def discard(self) -> None:
        return

    def _refuse(self, filename: str, failure: DocumentFailure) -> None:
        self.refused_count += 1
        if len(self.refused) < MAX_LISTED:
            self.refused.append(RefusedFile(filename=filename[:255], code=failure.code))

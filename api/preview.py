"""Dry runs: what a submission would do, from its first bytes and hashes, with nothing kept."""

from collections import Counter

from pydantic import BaseModel, ConfigDict

from api.service.submission import Preview
from api.uploads import SMALL_BYTES, IntakeLimits, MeasuringIntake
from ingather.domain.archives import claims_to_be_archive
from ingather.domain.media_type import detect_media_type
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
        self.refused: list[RefusedFile] = []
        self._name = ""
        self._head = bytearray()

    async def begin(self, filename: str) -> None:
        await super().begin(filename)
        self._name = filename
        self._head = bytearray()

    async def write(self, content: bytes) -> None:
        await super().write(content)
        self._head += content[: max(0, SMALL_BYTES - len(self._head))]

    async def end(self) -> None:
        await super().end()
        refused = self.files[-1].refused
        code = refused.code if refused else self._type_problem()
        if code is not None:
            self.refused.append(RefusedFile(filename=self._name[:255], code=code))

    def _type_problem(self) -> str | None:
        head = bytes(self._head)
        try:
            media_type = ARCHIVE if claims_to_be_archive(self._name, head) else str(detect_media_type(head, self._name))
        except DocumentError as error:
            return error.code
        self.by_type[media_type] += 1
        return None


def preview_resource(preview: Preview, intake: PreviewIntake) -> SubmissionPreview:
    """The preview as clients see it."""
    refused = list(intake.refused)
    listed = {file.filename for file in refused}
    for file, failure in zip(preview.files, preview.received.refused, strict=True):
        problem = file.refused or failure
        if problem is not None and file.filename[:255] not in listed:
            refused.append(RefusedFile(filename=file.filename[:255], code=problem.code))
    count = len(preview.files)
    pace = preview.seconds_per_document
    return SubmissionPreview(
        documents=count,
        bytes=sum(file.size_bytes for file in preview.files),
        by_type=dict(intake.by_type),
        archives=intake.by_type[ARCHIVE],
        duplicates=preview.duplicates,
        unsupported=len(refused),
        refused=refused[:MAX_LISTED],
        seconds_per_document=pace,
        estimated_seconds=None if pace is None else round(pace * (count - len(refused)), 1),
    )

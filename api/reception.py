"""A request's documents on their way in: bytes to an intake, a line each to the submission.

Nothing here grows with the documents but eight bytes a name, and those only until the metadata has
come: a request may carry a hundred thousand files. What makes two requests one, the fingerprint, is a
hash that is taken as they pass.
"""

import hashlib
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from api.problems import invalid
from api.submission_lines import Lines
from api.uploads import Intake, IntakeLimits, Taken, check_count, refusal
from ingather.domain.source_names import name_in_source
from ingather.domain.sources import SourceTally
from ingather.models.batch import DEFAULT_COLLECTION, CollectionName, ProcessingOptions
from ingather.models.document import DocumentFailure, Submitted
from ingather.models.errors import MetadataInvalidError
from ingather.models.source import SourceRef
from ingather.models.webhook import WebhookSecret, WebhookUrl

MAX_UPLOADS = 1_000
"""That one batch may name."""
_64_BITS = (1 << 64) - 1


class SubmissionSpec(BaseModel):
    """What a client says about a batch, apart from its documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=255)
    collection: CollectionName = DEFAULT_COLLECTION
    """Where search finds the documents: any name of up to 255 characters, without control characters."""
    priority: int = Field(default=3, ge=1, le=5)
    """1 is the most urgent."""
    hold: bool = False
    """Wait in ``pending`` until ``start``."""
    open: bool = False
    """Take more documents until ``seal``; the batch runs from then on."""
    pipeline: str | None = Field(default=None, max_length=50)
    """What each document runs through: ``ingest``, or ``handoff``; the tenant's own when left out."""
    options: ProcessingOptions = ProcessingOptions()
    metadata: dict[str, Any] = Field(default_factory=dict)
    webhook_url: WebhookUrl | None = None
    """Hears of this batch alone, beside the tenant's webhooks."""
    webhook_secret: WebhookSecret | None = Field(default=None, repr=False)
    """Signs what is sent there, ``whsec_…``; made, and shown once, when left out."""
    uploads: tuple[str, ...] = Field(default=(), max_length=MAX_UPLOADS)
    """Ids of finished uploads of ``/v1/tus``: each is a document, or a ZIP, behind those that come with the request."""


Feed = Callable[["Reception"], Awaitable[SubmissionSpec | None]]
"""Reads a request's body into a reception; answers what it says about the batch, None where it says nothing."""


class Tally:
    """What is known of a request's documents without keeping them."""

    def __init__(self) -> None:
        self.document_count = 0
        self.size_bytes = 0
        self.first_name = ""
        self.sources = SourceTally()
        self._files = hashlib.sha256()
        self._metadata = hashlib.sha256()

    def add(self, taken: Taken, metadata: dict[str, Any]) -> None:
        if not self.document_count:
            self.first_name = taken.filename
        code = taken.refused.code if taken.refused else None
        self._files.update(orjson.dumps([taken.filename, taken.sha256, taken.size_bytes, code]))
        if taken.source is not None:
            self.sources.count_selected(taken.source)
            self._files.update(taken.source.model_dump_json().encode())
        else:
            self.sources.count_upload()
        if metadata:
            self._metadata.update(_canonical([self.document_count, metadata]))
        self.document_count += 1
        self.size_bytes += taken.size_bytes

    def add_upload(self, size_bytes: int, filename: str) -> None:
        """Something that the batch's spec names. A replay knows no more of it, so its id alone makes two requests one."""
        if not self.document_count:
            self.first_name = filename
        self.sources.count_upload()
        self.document_count += 1
        self.size_bytes += size_bytes

    def add_metadata(self, by_name: dict[str, dict[str, Any]]) -> None:
        """Metadata by file name, wherever in the request it stood."""
        if by_name:
            self._metadata.update(_canonical(by_name))

    def fingerprint(self, spec: SubmissionSpec | None) -> str:
        """SHA-256 of what was asked for: independent of boundaries, of the order of fields, of how JSON was written."""
        said = spec.model_dump(mode="json", exclude_defaults=True) if spec else {}
        whole = [said, self._files.hexdigest(), self._metadata.hexdigest()]
        return hashlib.sha256(_canonical(whole)).hexdigest()


class Reception:
    """What a request's body is read into, one document at a time: ``begin``, ``write``, ``end``."""

    def __init__(self, intake: Intake, lines: Lines, limits: IntakeLimits, *, is_replay: bool = False) -> None:
        self.tally = Tally()
        self.is_replay = is_replay
        """The batch is there already: what it was made of is only compared."""
        self.limits = limits
        self._intake = intake
        self._lines = lines
        self._find: Callable[[str], dict[str, Any] | None] | None = None
        """Metadata of a file, once it has come."""
        self._is_late = False
        """The metadata came behind files that it may belong to."""
        self._unused: set[str] = set()
        """Names in the metadata that no file has had yet."""
        self._names = array("Q")
        """Hashes of the names of files that came before the metadata."""

    @property
    def key(self) -> str:
        """The object with the submission's lines; empty where nothing is kept."""
        return self._lines.key

    async def begin(self, filename: str) -> None:
        """Raises ``BatchTooLargeError`` for a document too many."""
        check_count(self.tally.document_count + 1, self.limits)
        await self._intake.begin(filename)

    async def write(self, content: bytes) -> None:
        await self._intake.write(content)

    async def end(self, metadata: dict[str, Any] | None = None) -> None:
        """The document is whole; ``metadata`` where the body gives it with the document."""
        await self._add(await self._intake.end(), metadata or {})

    async def refuse(self, filename: str, failure: DocumentFailure, metadata: dict[str, Any]) -> None:
        """A document without readable bytes: it fails, its neighbours do not notice."""
        check_count(self.tally.document_count + 1, self.limits)
        await self._add(Taken(filename, 0, "", refused=failure), metadata)

    async def refer(self, source: SourceRef, metadata: dict[str, Any] | None = None) -> None:
        """A document whose bytes stay in a connected source until it runs. Raises ``BatchTooLargeError`` for one too many."""
        check_count(self.tally.document_count + 1, self.limits)
        name = name_in_source(source.source_type, source.file_id)
        await self._add(Taken(name, 0, "", source=source), metadata or {})

    async def attach(self, taken: Taken) -> None:
        """A document that was uploaded before. Raises ``BatchTooLargeError`` for one too many."""
        check_count(self.tally.document_count + 1, self.limits)
        self.tally.add_upload(taken.size_bytes, taken.filename)
        await self._describe(taken, {})

    def use_metadata(
        self, by_name: dict[str, dict[str, Any]], find: Callable[[str], dict[str, Any] | None] | None = None
    ) -> None:
        """Metadata by file name, for the files before and behind.

        With ``find`` a file's entry is looked up that way, and entries that no file is for are the caller's concern.
        """
        self.tally.add_metadata(by_name)
        self._find = find or by_name.get
        self._is_late = self.tally.document_count > 0 and bool(by_name)
        if find is None:
            by_hash = {_hash(name): name for name in by_name}
            self._unused = set(by_name) - {by_hash[number] for number in self._names if number in by_hash}
        self._names = array("Q")

    async def finish(self) -> None:
        """Everything is stored when this returns. Raises ``ValidationFailedError`` for metadata that no file is for.

        Of a replay that was found out the first time: it does not know what was uploaded before by name.
        """
        if self._unused and not self.is_replay:
            raise invalid("#/metadata", "The metadata names a file that was not sent.", "unknown_file")
        await self._intake.finish()
        await self._lines.finish()
        if self._is_late:
            await self._lines.edit(self._described)

    async def discard(self) -> None:
        """Remove what was stored. Never raises."""
        await self._intake.discard()
        await self._lines.discard()

    async def _add(self, taken: Taken, metadata: dict[str, Any]) -> None:
        self.tally.add(taken, metadata)
        await self._describe(taken, metadata)

    async def _describe(self, taken: Taken, metadata: dict[str, Any]) -> None:
        """The document's line, with the metadata that the request has for it."""
        if self._find is None:
            self._names.append(_hash(taken.filename))
        else:
            self._unused.discard(taken.filename)
            found = self._find(taken.filename)
            metadata = metadata if found is None else found
        kept, problem = self._kept(metadata)
        await self._lines.add(replace(taken, refused=taken.refused or problem), kept)

    def _described(self, line: Submitted) -> Submitted:
        """A line with the metadata that came behind its file."""
        found = self._find(line.filename) if self._find else None
        kept, problem = self._kept(found or {})
        return line.model_copy(update={"metadata": kept, "refused": line.refused or problem})

    def _kept(self, metadata: dict[str, Any]) -> tuple[dict[str, Any], DocumentFailure | None]:
        """Metadata that cannot be kept costs its document, not the batch."""
        problem = metadata_problem(metadata, self.limits.max_metadata_bytes) if metadata else None
        if problem is None:
            return metadata, None
        return {}, refusal(MetadataInvalidError(problem, limit="max_metadata_bytes"))


def check_metadata(metadata: dict[str, Any], limits: IntakeLimits) -> None:
    """Raises ``ValidationFailedError`` for a batch's own metadata that cannot be kept."""
    problem = metadata_problem(metadata, limits.max_metadata_bytes)
    if problem:
        raise invalid("#/metadata", problem)


def metadata_problem(metadata: dict[str, Any], max_bytes: int) -> str | None:
    """Why metadata cannot be kept; None when it can."""
    try:
        size = len(orjson.dumps(metadata))
    except TypeError:
        return "The metadata holds a number of more than 64 bits, or is nested too deeply."
    return f"The metadata is larger than max_metadata_bytes ({max_bytes:,})." if size > max_bytes else None


def _hash(name: str) -> int:
    return hash(name) & _64_BITS


def _canonical(value: Any) -> bytes:
    """The same bytes for the same value. What JSON cannot hold is taken as Python writes it; it is refused elsewhere."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return repr(value).encode()

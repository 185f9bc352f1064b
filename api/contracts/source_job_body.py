"""What contract D's clients send: selections of files, and how they are to be processed."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

from api.feeds import SelectionCheck, take_selections
from api.problems import invalid
from api.reception import Reception, SubmissionSpec, check_metadata
from ingather.domain.sources import MAX_SLICES
from ingather.models.batch import ProcessingOptions
from ingather.models.source import FileSelection, SourceType

CONTRACT = "sources"
DESCRIPTION = "description"
"""Key in the batch's own metadata."""

UserId = Annotated[str, Field(min_length=1, max_length=255)]


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


OUR_PRIORITY = {Priority.URGENT: 1, Priority.HIGH: 2, Priority.NORMAL: 3, Priority.LOW: 4}
_SHARED = (
    "chunk_size", "chunk_overlap", "quality_threshold", "skip_existing", "preserve_structure", "max_workers",
    "parallel_processing", "retry_failed_files", "max_retries", "extract_math",
)  # fmt: skip
"""Options that a batch has under the same name."""


class SourceOptions(BaseModel):
    """What one type of source does differently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metadata: dict[str, Any] = Field(default_factory=dict)
    """Of every document that comes from there."""


class JobOptions(BaseModel):
    """How each file of a job is processed. An option that is not known, or cannot be served, is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use_llm_parsing: bool = False
    """Let the deployment's language model read what the parsers found."""
    embedding_model_preference: str | None = Field(default=None, max_length=255)
    """A model that this deployment embeds with, or none."""
    chunk_size: int = Field(default=1_000, ge=50, le=20_000)
    """Characters."""
    chunk_overlap: int = Field(default=200, ge=0)
    """Characters; less than ``chunk_size``."""
    quality_threshold: float = Field(default=0.7, ge=0.0, le=1.0)
    """Text that scores less fails."""
    retry_failed_files: bool = True
    max_retries: int = Field(default=3, ge=0, le=20)
    """Of a file that failed for a reason that may pass."""
    skip_existing: bool = True
    preserve_structure: bool = True
    extract_math: bool = True
    parallel_processing: bool = True
    max_workers: int = Field(default=4, ge=1, le=48)
    """Files worked on at once."""
    timeout_seconds: float = Field(default=300, gt=0, le=86_400)
    """Of one attempt at a file. More than the deployment's ``max_parser_seconds`` is refused; who does not say gets that where it is less."""
    source_specific_options: dict[SourceType, SourceOptions] = Field(default_factory=dict)


class NewSourceJob(BaseModel):
    """A job as it is asked for."""

    model_config = ConfigDict(frozen=True)

    user_id: UserId
    name: str = Field(min_length=1, max_length=255)
    description: str | None = Field(default=None, max_length=10_000)
    priority: Priority = Priority.NORMAL
    file_selections: Annotated[tuple[FileSelection, ...], FailFast()] = Field(min_length=1, max_length=MAX_SLICES)
    """Progress is told for each."""
    processing_options: JobOptions = JobOptions()


class SourceJobFeed:
    """Brings a job's selections into a reception.

    Args:
        max_parser_seconds: the longest that a parse may take here.
        embedding_models: names of the models that this deployment embeds with.
        parsing_model: the language model that it reads documents with; None without one.
    """

    def __init__(
        self,
        job: NewSourceJob,
        check: SelectionCheck,
        *,
        max_parser_seconds: float,
        embedding_models: frozenset[str],
        parsing_model: str | None = None,
    ) -> None:
        self._parsing_model = parsing_model
        self._job = job
        self._check = check
        self._max_parser_seconds = max_parser_seconds
        self._embedding_models = embedding_models

    async def read(self, reception: Reception) -> SubmissionSpec:
        """Raises ``ValidationFailedError`` for options that cannot be served, and what ``take_selections`` does."""
        job, wanted = self._job, self._job.processing_options
        options = self._options(wanted)
        metadata = {kind: each.metadata for kind, each in wanted.source_specific_options.items() if each.metadata}
        await take_selections(job.file_selections, reception, self._check, metadata)
        spec = SubmissionSpec(
            name=job.name,
            priority=OUR_PRIORITY[job.priority],
            hold=True,
            options=options,
            metadata={DESCRIPTION: job.description} if job.description else {},
        )
        check_metadata(spec.metadata, reception.limits)
        return spec

    def _options(self, wanted: JobOptions) -> ProcessingOptions:
        if wanted.use_llm_parsing and self._parsing_model is None:
            raise _unserved("use_llm_parsing", "This deployment has no language model to parse with.")
        model = wanted.embedding_model_preference
        if model is not None and model not in self._embedding_models:
            known = " or ".join(sorted(self._embedding_models))
            raise _unserved(
                "embedding_model_preference", f"This deployment embeds with {known}, and with no other model."
            )
        if wanted.chunk_overlap >= wanted.chunk_size:
            raise _unserved("chunk_overlap", "chunk_overlap must be less than chunk_size.")
        return ProcessingOptions(
            **{name: getattr(wanted, name) for name in _SHARED},
            timeout_seconds=self._timeout_seconds(wanted),
            timeout_bounds_attempt=True,
            parsing_model=self._parsing_model if wanted.use_llm_parsing else None,
            embedding_model=wanted.embedding_model_preference,
        )

    def _timeout_seconds(self, wanted: JobOptions) -> float:
        most = self._max_parser_seconds
        if wanted.timeout_seconds > most and "timeout_seconds" in wanted.model_fields_set:
            raise _unserved("timeout_seconds", f"timeout_seconds is over max_parser_seconds ({most:g}).")
        return min(wanted.timeout_seconds, most)


def _unserved(option: str, detail: str) -> Exception:
    return invalid(f"#/processing_options/{option}", detail, "option_not_served")

"""What contract A's clients send: a tenant and documents, all in one JSON object."""

from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, FailFast, Field

from api.feeds import take_inline
from api.reception import Reception, SubmissionSpec
from api.uploads import check_count
from ingather.models.batch import DEFAULT_COLLECTION, BatchRecord, CollectionName

CONTRACT = "tenant_jobs"
DEFAULT_PRIORITY = 5
_PRIORITY = "job_priority"
"""Key in the batch's own metadata, where ours says less than the client's did."""
_REPRESENTATIVES = {1: 10, 2: 8, 3: 5, 4: 3, 5: 1}
"""What stands for a priority of ours."""


def _none_is_empty(metadata: object) -> object:
    return {} if metadata is None else metadata


def _empty_is_none(name: object) -> object:
    return None if name == "" else name


class JobDocument(BaseModel):
    """A document within the request."""

    filename: str
    content: str = Field(repr=False, description="The bytes, as standard base64.")
    metadata: Annotated[dict[str, Any], BeforeValidator(_none_is_empty)] = Field(default_factory=dict)


class NewJob(BaseModel):
    """A job as it is asked for."""

    tenant_id: UUID | None = Field(default=None, description="A registered tenant; the caller's own when left out.")
    documents: Annotated[list[JobDocument], FailFast()]
    collection: Annotated[CollectionName | None, BeforeValidator(_empty_is_none)] = Field(
        default=None, description="Where search finds the documents; `default` when left out or empty."
    )
    priority: int = Field(default=DEFAULT_PRIORITY, ge=1, le=10, strict=True, description="10 is the most urgent.")

    def take_documents(self) -> Iterator[JobDocument]:
        """The documents in their order; each is let go once it was taken."""
        self.documents.reverse()
        while self.documents:
            yield self.documents.pop()


class JobFeed:
    """Brings a job's documents into a reception; one that cannot be decoded fails alone."""

    def __init__(self, job: NewJob) -> None:
        self._job = job

    async def read(self, reception: Reception) -> SubmissionSpec:
        job = self._job
        check_count(len(job.documents), reception.limits)
        for document in job.take_documents():
            await take_inline(document.filename, document.content, document.metadata, reception)
        ours = to_our_priority(job.priority)
        is_plain = _REPRESENTATIVES[ours] == job.priority
        return SubmissionSpec(
            collection=job.collection or DEFAULT_COLLECTION,
            priority=ours,
            metadata={} if is_plain else {_PRIORITY: job.priority},
        )


def to_our_priority(priority: int) -> int:
    """10 and 9 are our 1, the most urgent; 2 and 1 our 5."""
    return (12 - priority) // 2


def priority_of(record: BatchRecord) -> int:
    """As the client gave it, unless it was changed through another door since."""
    said = record.spec.metadata.get(_PRIORITY)
    if isinstance(said, int) and to_our_priority(said) == record.priority:
        return said
    return _REPRESENTATIVES[record.priority]

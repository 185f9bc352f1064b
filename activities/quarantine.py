"""Files that ended their parsers: a copy shares the verdict, and costs no parser and no minute."""

from pathlib import PurePath

from temporalio import activity

from activities.ingestion import Ingestion
from activities.lately import Lately
from ingather.models.errors import ParserKilledError


class Quarantine:
    """Verdicts of this worker, each for one round of one workflow: a retry has the file tried again."""

    def __init__(self) -> None:
        self._verdicts: Lately[tuple[int, ParserKilledError]] = Lately()

    def note(self, ingestion: Ingestion, error: ParserKilledError) -> None:
        """This document has failed, with all the time that it may have, and is on record as failed."""
        verdict = type(error)(error.message, action=error.action, **error.facts)  # without what it was caused by
        self._verdicts.note(_key(ingestion), (ingestion.document.ordinal, verdict))

    def look_up(self, ingestion: Ingestion) -> None:
        """Raises the ``ParserKilledError`` of a file's copy; ``facts['same_as']`` is the document that was tried."""
        if (noted := self._verdicts.get(_key(ingestion))) is None:
            return
        ordinal, verdict = noted
        message = (
            f"{ingestion.document.filename} is the same file as document {ordinal}, which ended its parser,"
            " and was not tried again"
        )
        raise type(verdict)(message, action=verdict.action, **verdict.facts, same_as=ordinal)


def _key(ingestion: Ingestion) -> str:
    """What decides how a file is read and who asked for it: a child counts rounds of its own, and files go by their names."""
    suffix = PurePath(ingestion.document.filename).suffix.lower()
    return f"{activity.info().workflow_id}/{ingestion.request.retry_round}/{ingestion.content}{suffix}"

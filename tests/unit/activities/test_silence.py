"""What a document says stays between its bytes and its artifact: no log line, error or payload repeats it."""

import json
import logging

import pytest
import structlog
from structlog.testing import capture_logs
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from ingather.logging import configure_logging
from ingather.models.errors import DocumentCorruptError, StorageUnavailableError
from tests.support.ingesting import run_activity

SECRET = "Zanzibar-7731"
TEXT = f"Nobody but the reader may know that it is {SECRET}.\n".encode()
BROKEN = b"%PDF-1.7\n" + TEXT * 5


def caused(error, cause):
    error.__cause__ = cause
    return error


ACCIDENTS = {
    "done": (TEXT, None),
    "corrupt": (BROKEN, None),
    "value-error": (TEXT, ValueError(f"cannot digest {SECRET}")),
    "unicode-error": (TEXT, UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET)),
    "storage": (TEXT, caused(StorageUnavailableError("away"), RuntimeError(SECRET))),
    "document-error": (TEXT, caused(DocumentCorruptError("cannot be read"), RuntimeError(SECRET))),
}


@pytest.mark.parametrize("attempt", [1, 4])
@pytest.mark.parametrize("accident", ACCIDENTS)
async def test_no_text_leaves_the_activity(workshop, preparer, capsys, accident, attempt):
    """Whatever happens to a document, logs, catalog failure, result and Temporal's failure are free of it."""
    content, preparer.error = ACCIDENTS[accident]
    batch_id = await workshop.batch(content, names=["document.pdf" if content is BROKEN else "document.txt"])
    told = []

    with capture_logs() as lines:
        try:
            output = await run_activity(
                workshop.ingest_activities.ingest_document,
                await workshop.request(batch_id),
                attempt=attempt,
                on_heartbeat=told.append,
            )
            told += await pydantic_data_converter.encode([output])
        except ApplicationError as raised:
            failure = Failure()
            await pydantic_data_converter.encode_failure(raised, failure)
            told.append(failure)

    row = await workshop.row(batch_id)
    spoken = [lines, *capsys.readouterr(), told, row.error]
    assert not any(SECRET in str(word) for word in spoken)
    assert lines or told


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_in_the_log_shows_no_variables(log_format, capsys):
    """A library's own error report must not print the document it held."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure_logging(log_format, "info")
        _log_an_error(TEXT)
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = handlers, level
        structlog.reset_defaults()

    shown = capsys.readouterr().err
    assert "library.failed" in shown
    assert "ZeroDivisionError" in shown
    assert SECRET not in shown
    if log_format == "json":
        assert json.loads(shown)["level"] == "error"


def _log_an_error(content):
    kept = content * 2
    try:
        len(kept) / 0
    except ZeroDivisionError:
        structlog.get_logger("library").exception("library.failed")

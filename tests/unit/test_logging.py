"""Log lines as they are written: JSON, with the batch they are about."""

import json
import logging

import pytest
import structlog

from ingather.logging import configure_logging

BATCH = "01900000-0000-7000-8000-000000000001"


@pytest.fixture(autouse=True)
def _as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_with_its_facts(capsys):
    """The event, its facts, level, logger and moment; and what the context says."""
    configure_logging("json", "info")
    with structlog.contextvars.bound_contextvars(batch_id=BATCH):
        structlog.get_logger("here").info("document.ended", filename="übung.txt")
    [line] = lines(capsys)
    assert (line["event"], line["filename"], line["batch_id"]) == ("document.ended", "übung.txt", BATCH)
    assert {"level", "logger", "timestamp"} <= line.keys()


@pytest.mark.parametrize("fact", ["half a pair: \udce4", 1 << 70])
def test_a_fact_that_is_hard_to_write_costs_no_line(capsys, fact):
    """A name that is no valid Unicode, and a number beyond 64 bits, are written all the same."""
    configure_logging("json", "info")
    structlog.get_logger("here").info("document.ended", fact=fact)
    [line] = lines(capsys)
    assert line["fact"] == fact


def test_lines_below_the_level_are_not_written(capsys):
    """Neither our own nor a library's."""
    configure_logging("json", "warning")
    structlog.get_logger("here").info("document.ended")
    logging.getLogger("library").info("hello")
    assert lines(capsys) == []


@pytest.mark.parametrize("client", ["httpx", "httpcore.http11", "httpx2", "httpcore2.http11", "openai._base_client"])
def test_clients_do_not_tell_where_they_went(capsys, client):
    """An address may hold a credential, and headers may: not even a setting for debugging shows them."""
    configure_logging("json", "debug")
    logging.getLogger(client).info("HTTP Request: POST https://u:secret@models.example/v1")
    logging.getLogger(client).debug("send_request_headers")
    assert lines(capsys) == []


@pytest.mark.parametrize("extra", ["temporal_activity", "temporal_workflow"])
def test_temporals_own_lines_name_the_batch(capsys, extra):
    """A library that knows the workflow alone is read for the batch in its id."""
    configure_logging("json", "info")
    about = {extra: {"workflow_id": f"batch/{BATCH}/2"}}
    logging.getLogger("temporalio").warning("Completing activity as failed", extra=about)
    logging.getLogger("temporalio").warning("Other", extra={extra: {"workflow_id": "places/x"}})
    batch, other = lines(capsys)
    assert batch["batch_id"] == BATCH
    assert "batch_id" not in other

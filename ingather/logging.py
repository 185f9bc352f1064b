"""structlog for every process: JSON lines in production, readable in a terminal, on standard error."""

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any, Literal

import orjson
import structlog

from ingather.models.identity import batch_id_of_workflow


def _name_batch(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Temporal's own lines say which workflow they are about; of a batch's workflow, say which batch."""
    record = event.get("_record")
    for extra in ("temporal_activity", "temporal_workflow"):
        about = getattr(record, extra, None)
        if isinstance(about, dict):
            batch_id = batch_id_of_workflow(str(about.get("workflow_id", "")))
            if batch_id is not None:
                event.setdefault("batch_id", batch_id)
    return event


def configure_logging(log_format: Literal["json", "console", "auto"], level: str) -> None:
    """Set up structlog, and write what libraries log in the same form."""
    readable = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[structlog.types.Processor] = (
        # Rich tracebacks would print local variables, and with them whole documents.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if readable
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    )
    _set_up_libraries([*shared, _name_batch], [*rendered, _as_text], level)
    structlog.configure(
        processors=[*shared, *rendered, _as_bytes],
        # Past the standard library's logging: a busy worker writes two lines a document.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )


def _set_up_libraries(
    before: Sequence[structlog.types.Processor], rendered: Sequence[structlog.types.Processor], level: str
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Beside being many, their lines quote addresses and headers, and either may hold a credential.
    for chatty in ("botocore", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2", "openai"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _json(event: Any, default: Any) -> bytes:
    try:
        return orjson.dumps(event, default=default)
    except TypeError:  # half a surrogate pair, or a number beyond 64 bits
        return json.dumps(event, default=default).encode()


def _as_bytes(_logger: object, _method: str, rendered: Any) -> bytes:
    return rendered if isinstance(rendered, bytes) else rendered.encode(errors="replace")


def _as_text(_logger: object, _method: str, rendered: Any) -> str:
    return rendered.decode() if isinstance(rendered, bytes) else rendered

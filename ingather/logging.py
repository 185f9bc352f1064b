"""structlog for every process: JSON lines in production, readable in a terminal, on standard error."""

import logging
import sys
from typing import Literal

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
    """Set up structlog, and route what libraries log through it."""
    readable = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: structlog.types.Processor = (
        # Rich tracebacks would print local variables, and with them whole documents.
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if readable
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_batch],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([] if readable else [structlog.processors.format_exc_info]),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("botocore", "urllib3", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )

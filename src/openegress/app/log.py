"""Structured logs: one line per state change, readable in a terminal, and JSON for machines."""

import logging
import sys

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, Processor, WrappedLogger

from openegress.app.log_rate_limit import LogRateLimit
from openegress.app.log_stream import MAX_LINE_CHARS, LogStream
from openegress.config.settings import Logging
from openegress.core.text import shown

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def configure(settings: Logging) -> None:
    """Everything, libraries included, goes to stderr through one formatter."""
    shared: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            LogRateLimit(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if settings.json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _on_one_line,
            renderer,
        ],
    )
    handler = LogStream()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    chosen = _LEVELS[settings.level.value]
    # Debug messages of libraries contain what they are given: values of SQL, headers, tokens.
    root.setLevel(max(chosen, logging.INFO))
    logging.getLogger("openegress").setLevel(chosen)
    for component, level in settings.component_levels.items():
        logging.getLogger(component).setLevel(_LEVELS[level.value])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(_is_of_a_request)


def _is_of_a_request(record: logging.LogRecord) -> bool:
    """Requests that are not HTTP were answered with 400, and strangers send as many as they like."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


def _on_one_line(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Events and their values quote callers, storages and pages, which must not be able to end a line. Only a
    traceback has several lines."""
    for name, value in event.items():
        if isinstance(value, str) and name not in ("exception", "stack"):
            event[name] = shown(value, MAX_LINE_CHARS)
    return event

"""The console's own log: one line for each event on stderr, as the services write theirs."""

import logging
import sys

import structlog
from structlog.typing import Processor


def set_up_logs(*, on_terminal: bool) -> None:
    """Write JSON; for a person at a terminal, words.

    Tracebacks are without the values of variables, which may be secrets.
    """
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        lambda _logger, _name, event: {"service": "console", **event},
    ]
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if on_terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )

"""One line per event: JSON for machines, colour for people at a terminal."""

import logging
import re
import sys
from typing import Literal

import structlog

LogFormat = Literal["json", "console"]


def configure_logs(level: str, log_format: LogFormat, *, service: str) -> None:
    """Send all logs, also those of libraries, to standard error in one format.

    Args:
        level: Name of a level of the logging module.
        log_format: ``json`` or ``console``.
        service: Bound to each line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("aiohttp.access", "asyncio", "grpc"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    structlog.contextvars.bind_contextvars(service=service)


_ADDRESS = re.compile(r"[^\s@<>\"'`,;:()]+@[^\s@<>\"'`,;:()]+")


def mask_addresses(text: str) -> str:
    """A text, such as the provider's words, as it may stand in a log."""
    return _ADDRESS.sub(lambda match: mask_address(match[0]), text)


def mask_address(address: str) -> str:
    """An email address as it may stand in a log: ``a…@example.com``."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}…{at}{domain}" if at else "…"

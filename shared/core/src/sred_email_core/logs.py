"""One line per event: JSON for machines, colour for people at a terminal."""

import json
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import orjson
import structlog

from sred_email_core.tracing import add_trace_id

LogFormat = Literal["json", "console"]


def configure_logs(level: str, log_format: LogFormat, *, service: str, traces: bool = False) -> None:
    """Send all logs, also those of libraries, to standard error in one format.

    Our own lines do not pass through the logging module: it costs more than all else of a line.

    Args:
        level: Name of a level of the logging module.
        log_format: ``json`` or ``console``.
        service: Stands in each line.
        traces: Lines name the trace that they were written in.
    """
    as_json = log_format == "json"
    steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        *([add_trace_id] if traces else []),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*steps, _json if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=(
            structlog.BytesLoggerFactory(sys.stderr.buffer) if as_json else structlog.PrintLoggerFactory(sys.stderr)
        ),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    _send_libraries_the_same_way(level, steps, as_json=as_json)


def _send_libraries_the_same_way(level: str, steps: list[structlog.typing.Processor], *, as_json: bool) -> None:
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=steps,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("aiohttp.access", "asyncio", "grpc"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def _json(_: object, __: str, event: MutableMapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(event, default=repr)
    except TypeError:  # half a surrogate pair, a huge number: a line of log never fails the work that it tells of
        return json.dumps(event, default=repr).encode()


_ADDRESS = re.compile(r"[^\s@<>\"'`,;:()]+@[^\s@<>\"'`,;:()]+")


def mask_addresses(text: str) -> str:
    """A text, such as the provider's words, as it may stand in a log."""
    return _ADDRESS.sub(lambda match: mask_address(match[0]), text)


def mask_address(address: str) -> str:
    """An email address as it may stand in a log: ``a…@example.com``."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}…{at}{domain}" if at else "…"

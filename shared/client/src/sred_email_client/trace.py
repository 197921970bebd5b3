"""The trace that a call is made in, for the service to go on with: where opentelemetry-api is installed, else none."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_W3C: "TraceContextTextMapPropagator | None"
try:
    from opentelemetry.trace.propagation import tracecontext
except ImportError:  # whether there are traces is for the caller to choose, and the wheel asks for nothing
    _W3C = None
else:
    _W3C = tracecontext.TraceContextTextMapPropagator()


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata that name the current span; empty: there is none."""
    carrier: dict[str, str] = {}
    if _W3C is not None:
        _W3C.inject(carrier)
    traceparent = carrier.get("traceparent")
    return () if traceparent is None else (("traceparent", traceparent),)

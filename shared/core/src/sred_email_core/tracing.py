"""Traces by OpenTelemetry's API. Off unless asked for: then no span is made, and no SDK of traces is imported."""

from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from sred_email_core.lifecycle import StopEvent
from sred_email_core.trace_settings import TraceSettings

NO_SPAN: Span = trace.INVALID_SPAN
"""Takes attributes and keeps none."""
NOTHING: AbstractContextManager[Span] = nullcontext(NO_SPAN)
"""In place of a span while traces are off."""
MESSAGING_SYSTEM = "redis"
"""What messaging.system says: the registry of OpenTelemetry has no value for Redis streams, and allows others.

Source: https://opentelemetry.io/docs/specs/semconv/registry/attributes/messaging/
"""

Attributes = dict[str, AttributeValue]
_PROPAGATOR = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans, or none.

    Of an exception nothing goes into a span by itself: its words may be the provider's, or hold an address.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        """Prepare.

        Args:
            tracer: Of an SDK; None: traces are off.
        """
        self._tracer = tracer

    @property
    def on(self) -> bool:
        """Whether spans are made. Where it is not, callers need not even gather what would go into one."""
        return self._tracer is not None

    def begin(self, name: str, kind: SpanKind, attributes: Attributes, parent: Context | None = None) -> Span:
        """A span that lasts until its maker ends it.

        Args:
            name: One of few.
            kind: As OpenTelemetry tells them apart.
            attributes: Few and short; no address, nothing of any content, no key.
            parent: None: the current span.
        """
        if self._tracer is None:
            return NO_SPAN
        return self._tracer.start_span(
            name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
        )

    def span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        parent: Context | None = None,
        links: Sequence[Link] = (),
    ) -> AbstractContextManager[Span]:
        """A span that is the current one, and lasts, while the context is open.

        Args:
            name: One of few.
            kind: As OpenTelemetry tells them apart.
            attributes: Few and short; no address, nothing of any content, no key.
            parent: None: the current span.
            links: To spans of other traces.
        """
        if self._tracer is None:
            return NOTHING
        return self._tracer.start_as_current_span(
            name, parent, kind, attributes, links, record_exception=False, set_status_on_exception=False
        )


@asynccontextmanager
async def running_tracing(
    settings: TraceSettings, *, service: str, instance: str, stop: StopEvent, grace: timedelta
) -> AsyncIterator[Tracing]:
    """Make and export spans while the context is open, if the settings ask for it.

    Args:
        settings: Of the process.
        service: Name of the service, where OTEL_SERVICE_NAME says no other.
        instance: Name of the process.
        stop: The process is asked to stop.
        grace: For the last export, counted from the stop.
    """
    if not settings.traces_wanted:
        yield Tracing()
        return
    from sred_email_core.trace_export import TraceExport  # noqa: PLC0415 - memory and a thread, for those who asked

    export = TraceExport(settings, service=service, instance=instance)
    try:
        yield Tracing(export.tracer)
    finally:
        await export.close(within=stop.left_of(grace))


def propagated(span: Span) -> dict[str, str]:
    """The header that carries a span's trace on, as W3C Trace Context has it; empty: it is of none."""
    carrier: dict[str, str] = {}
    if span is not NO_SPAN:
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    return carrier


def context_of(traceparent: str | None) -> Context:
    """The trace that a traceparent names; an empty one if there is none, or it is malformed.

    Neither tracestate nor baggage is carried on: what strangers write there would go into the log table, into Redis and
    to the provider.
    """
    return _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {}, Context())


def trace_ids_of(traceparents: Sequence[str | None]) -> dict[str, Any]:
    """Fields for a line of log that tells of several emails: their one trace, or that of each in their order."""
    ids = [traceparent and traceparent[3:35] for traceparent in traceparents]
    different = set(ids)
    if len(different) > 1:
        return {"trace_ids": ids}
    only = different.pop() if different else None
    return {"trace_id": only} if only else {}


def add_trace_id(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Let a line of log name the trace that it was written in."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid and "trace_ids" not in event:
        event.setdefault("trace_id", trace.format_trace_id(context.trace_id))
    return event

"""Exports spans by OTLP over HTTP. Imported only where traces are on: the SDK costs memory and a thread."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import version

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, Tracer, TraceState
from opentelemetry.util.types import Attributes

from sred_email_core.trace_settings import TraceSettings

log = structlog.get_logger(__name__)


class TraceExport:
    """Spans from this process to a collector, by a thread of its own with a queue that is bounded.

    Nothing waits for the collector: when it is slow or away, the queue fills, and what comes then is dropped.
    """

    def __init__(self, settings: TraceSettings, *, service: str, instance: str) -> None:
        """Begin.

        Args:
            settings: Of the process; headers, certificates and timeouts the SDK reads from the environment by itself.
            service: Name of the service, where the environment gives none.
            instance: Name of the process.
        """
        defaults = {"service.name": service, "service.instance.id": instance, "service.version": _version()}
        self._provider = TracerProvider(
            resource=Resource.create({**defaults, **OTELResourceDetector().detect().attributes}),
            shutdown_on_exit=False,
        )
        self._provider.sampler = SampledByLinks(self._provider.sampler)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                ToldExporter(OTLPSpanExporter()),
                max_queue_size=settings.otel_queue_size,
                max_export_batch_size=settings.otel_batch_size,
                schedule_delay_millis=settings.otel_delay_ms,
            )
        )

    @property
    def tracer(self) -> Tracer:
        """What makes the spans."""
        return self._provider.get_tracer("sred_email", _version())

    async def close(self, *, within: timedelta) -> None:
        """Export what is left; what can't be exported in time is dropped."""
        loop, exported = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(exported.set)

        threading.Thread(target=close, name="last-export-of-spans", daemon=True).start()
        try:
            await asyncio.wait_for(exported.wait(), within.total_seconds())
        except TimeoutError:
            log.warning("spans_dropped", reason="the collector does not answer in time")


class SampledByLinks(Sampler):
    """Keeps a span that begins a trace, and has links, when one of the linked spans is kept.

    A request that carries many emails belongs to no one's trace; whether it is kept their callers have decided.
    """

    def __init__(self, otherwise: Sampler) -> None:
        """Prepare.

        Args:
            otherwise: Decides about all other spans.
        """
        self._otherwise = otherwise

    def should_sample(  # noqa: PLR0913, PLR0917 - the SDK's
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about one span."""
        if links and not trace.get_current_span(parent_context).get_span_context().is_valid:
            kept = any(link.context.trace_flags.sampled for link in links)
            return SamplingResult(Decision.RECORD_AND_SAMPLE if kept else Decision.DROP, attributes)
        return self._otherwise.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """For people."""
        return f"SampledByLinks{{{self._otherwise.get_description()}}}"


class ToldExporter(SpanExporter, logging.Filter):
    """Tells in one line when the collector takes spans no more, and in one when it does again."""

    def __init__(self, exporter: SpanExporter) -> None:
        """Prepare.

        Args:
            exporter: The library's, which says the same with each export that fails.
        """
        super().__init__()
        self._exporter = exporter
        self._reason = ""
        self._fails = False
        self._context = contextvars.copy_context()  # of the process: its lines say which service they are from
        self._library = logging.getLogger(trace_exporter.__name__)
        self._library.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what the exporter says; it says it again with each export that fails."""
        self._reason = record.getMessage()
        return False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export, as the exporter does."""
        result = self._exporter.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            self._context.run(log.warning, "traces_not_exported", reason=self._reason)
        elif self._fails and not fails:
            self._context.run(log.info, "traces_exported_again")
        self._fails = fails
        return result

    def shutdown(self) -> None:
        """End what is under way."""
        self._exporter.shutdown()
        self._library.removeFilter(self)


def _version() -> str:
    return version("sred-email-core")

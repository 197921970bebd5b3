"""Traces: nothing while they are off, and what decides whether they are."""

import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler
from opentelemetry.trace import Link, SpanKind

from sred_email_core.settings import load_settings
from sred_email_core.trace_export import SampledByLinks, ToldExporter
from sred_email_core.trace_settings import TraceSettings
from sred_email_core.tracing import NO_SPAN, Tracing, context_of, propagated, trace_ids_of

KEPT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_KEPT = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
COLLECTOR = "http://collector:4318"

_OFF = """
import asyncio, sys, threading
from datetime import timedelta
import sred_email_consumer.app, sred_email_ingress.app
from sred_email_core.lifecycle import StopEvent
from sred_email_core.trace_settings import TraceSettings
from sred_email_core.tracing import running_tracing
async def main():
    stop = StopEvent()
    async with running_tracing(TraceSettings(), service="s", instance="i", stop=stop, grace=timedelta()) as tracing:
        assert not tracing.on
    assert threading.active_count() == 1
asyncio.run(main())
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))])
"""


def settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> TraceSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(TraceSettings)


def linked(traceparent: str) -> Link:
    return Link(trace.get_current_span(context_of(traceparent)).get_span_context())


# Off


def test_off_means_that_no_sdk_of_traces_is_imported_and_no_thread_runs() -> None:
    ended = subprocess.run([sys.executable, "-c", _OFF], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert (ended.stdout, ended.returncode) == ("[]\n", 0), ended.stderr


def test_off_means_that_no_span_is_made() -> None:
    off = Tracing()
    assert off.begin("name", SpanKind.SERVER, {}) is NO_SPAN
    with off.span("name", SpanKind.CLIENT, {}) as span:
        assert span is NO_SPAN
        assert not trace.get_current_span().get_span_context().is_valid
    assert propagated(NO_SPAN) == {}


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": " OTLP "}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{COLLECTOR}/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_SDK_DISABLED": "false"}, True),
    ],
)
def test_traces_are_on_where_a_standard_variable_says_so(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *, wanted: bool
) -> None:
    assert settings(monkeypatch, **environment).traces_wanted is wanted


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger", "must be otlp or none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "must be http/protobuf, to the collector's port for HTTP (4318)"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "must be http/protobuf"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "for example http://collector:4318"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", "the share of traces that are kept"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "spans that wait for export"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", "must not be more than OTEL_BSP_MAX_QUEUE_SIZE"),
    ],
)
def test_a_variable_that_the_sdk_would_pass_over_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, said: str
) -> None:
    with pytest.raises(SystemExit):
        settings(monkeypatch, **{variable: value})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{variable}: ")
    assert said in line


# Traceparents


@given(st.one_of(st.none(), st.text(), st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{30,34}-[0-9a-f]{16}-[0-9a-f]{2}.?")))
def test_whatever_stands_where_a_traceparent_should_no_harm_is_done(traceparent: str | None) -> None:
    carried = propagated(trace.get_current_span(context_of(traceparent)))
    assert carried == {} or carried["traceparent"][3:52] == (traceparent or "").strip(" \t\n")[3:52]


def test_a_line_about_several_emails_names_their_one_trace_or_that_of_each() -> None:
    assert trace_ids_of([None, None]) == {}
    assert trace_ids_of([KEPT, KEPT]) == {"trace_id": KEPT[3:35]}
    assert trace_ids_of([KEPT, None]) == {"trace_ids": [KEPT[3:35], None]}


# What is kept


@pytest.mark.parametrize(("links", "kept"), [([KEPT, NOT_KEPT], True), ([NOT_KEPT], False), ([NOT_KEPT, KEPT], True)])
@pytest.mark.parametrize("otherwise", [ALWAYS_ON, ALWAYS_OFF])
def test_a_span_with_links_only_is_kept_when_one_of_those_that_it_links_is(
    otherwise: Sampler, links: list[str], *, kept: bool
) -> None:
    sampler = SampledByLinks(otherwise)

    def keeps(parent: str | None, *traceparents: str) -> bool:
        context = context_of(parent) if parent else None
        result = sampler.should_sample(context, 1, "name", links=[linked(each) for each in traceparents])
        return result.decision is Decision.RECORD_AND_SAMPLE

    assert keeps(None, *links) is kept
    assert keeps(None) is keeps(KEPT, NOT_KEPT) is (otherwise is ALWAYS_ON)


# Export


class _Exporter(SpanExporter):
    """Fails when told so, with the words of the real one."""

    fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - none is needed
        if not self.fails:
            return SpanExportResult.SUCCESS
        logging.getLogger(trace_exporter.__name__).error("Failed: %s", "connection refused")
        return SpanExportResult.FAILURE


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """The lines of the log."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_one_line_says_that_the_collector_is_away_and_one_that_it_is_back(
    said: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    inner = _Exporter()
    told = ToldExporter(inner)
    for fails in (False, True, True, False, False, True):
        inner.fails = fails
        told.export([])
    told.shutdown()
    events = [(line["event"], line.get("reason")) for line in said]
    lost = ("traces_not_exported", "Failed: connection refused")
    assert events == [lost, ("traces_exported_again", None), lost]
    assert not caplog.records
    inner.export([])
    assert len(caplog.records) == 1  # it speaks for itself again

"""A collector on loopback: takes spans as they are really exported, by OTLP over HTTP."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from sred_email_local.ports import free_port


@dataclass(frozen=True, slots=True)
class Kept:
    """A span as it came, and the service that made it."""

    service: str
    span: Span

    @property
    def name(self) -> str:
        """Of the span."""
        return self.span.name

    @property
    def kind(self) -> str:
        """Such as CONSUMER."""
        return Span.SpanKind.Name(self.span.kind).removeprefix("SPAN_KIND_")

    @property
    def trace_id(self) -> str:
        """In hexadecimal, as in a traceparent."""
        return self.span.trace_id.hex()

    @property
    def failed(self) -> bool:
        """Whether its status says so."""
        return self.span.status.code == Status.STATUS_CODE_ERROR

    @property
    def attributes(self) -> dict[str, object]:
        """By name."""
        return {a.key: getattr(a.value, a.value.WhichOneof("value") or "") for a in self.span.attributes}

    @property
    def links(self) -> dict[str, object]:
        """For each email that is linked: the trace."""
        return {link.attributes[0].value.string_value: link.trace_id.hex() for link in self.span.links}

    def traceparent(self) -> str:
        """As it is carried on from this span."""
        return f"00-{self.trace_id}-{self.span.span_id.hex()}-01"


class Collector:
    """Keeps what services export, while it is open."""

    def __init__(self) -> None:
        self._port = free_port()
        self._runner: web.AppRunner | None = None
        self.exports: list[ExportTraceServiceRequest] = []

    @property
    def env(self) -> dict[str, str]:
        """What lets a service export to it, at once."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._port}", "OTEL_BSP_SCHEDULE_DELAY": "50"}

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def __iter__(self) -> Iterator[Kept]:
        for export in self.exports:
            for resource in export.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    yield from (Kept(names["service.name"], span) for span in scope.spans)

    def of(self, trace_id: str) -> list[Kept]:
        """The spans of one trace, in the order in which they began."""
        return sorted((s for s in self if s.trace_id == trace_id), key=lambda s: s.span.start_time_unix_nano)

    def named(self, name: str) -> list[Kept]:
        """The spans with this name."""
        return [span for span in self if span.name == name]

    async def _take(self, request: web.Request) -> web.Response:
        self.exports.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(content_type="application/x-protobuf")

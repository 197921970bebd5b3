"""One span for each gRPC call, in the trace of its caller."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from opentelemetry import context as current_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from sred_email_core.tracing import Tracing, context_of

Unary = Callable[[Any, Any], Awaitable[Any]]
Stream = Callable[[Any, Any], AsyncIterator[Any]]
CodeOf = Callable[[BaseException], str]

_FAULTS_OF_THE_SERVER = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
"""Source: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/#grpc-status"""


class CallTracing:
    """Lets calls be spans; while traces are off, what serves a call stays what it is."""

    def __init__(self, tracing: Tracing, code_of: CodeOf) -> None:
        """Prepare.

        Args:
            tracing: Makes the spans.
            code_of: Name of the gRPC status that a call ends with when something was raised.
        """
        self._tracing = tracing
        self._code_of = code_of

    def unary(self, method: str, behaviour: Unary) -> Unary:
        """What answers once."""
        if not self._tracing.on:
            return behaviour

        async def call(request: Any, context: Any) -> Any:  # noqa: ANN401 - any RPC's
            span = self._begin(method, context)
            try:
                response = await behaviour(request, context)
            except BaseException as e:
                self._end(span, self._code_of(e))
                raise
            self._end(span, grpc.StatusCode.OK.name)
            return response

        return call

    def stream(self, method: str, behaviour: Stream) -> Stream:
        """What answers with a stream."""
        if not self._tracing.on:
            return behaviour

        async def call(requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - any RPC's
            span = self._begin(method, context)
            try:
                async for response in behaviour(requests, context):
                    yield response
            except BaseException as e:
                self._end(span, self._code_of(e))
                raise
            self._end(span, grpc.StatusCode.OK.name)

        return call

    def _begin(self, method: str, context: Any) -> Span:  # noqa: ANN401 - any RPC's
        """Begin the span of a call, and let it be the current one for the rest of the call's task."""
        named = [value for key, value in context.invocation_metadata() or () if key == "traceparent"]
        name = method.lstrip("/")
        span = self._tracing.begin(
            name,
            SpanKind.SERVER,
            {"rpc.system.name": "grpc", "rpc.method": name},
            context_of(named[0] if len(named) == 1 else None),
        )
        current_context.attach(trace.set_span_in_context(span))
        return span

    @staticmethod
    def _end(span: Span, code: str) -> None:
        span.set_attribute("rpc.response.status_code", code)
        if code != grpc.StatusCode.OK.name:
            span.set_attribute("error.type", code)
        if code in _FAULTS_OF_THE_SERVER:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

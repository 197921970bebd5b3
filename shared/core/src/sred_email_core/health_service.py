"""Answers grpc.health.v1 to everybody: whoever asks can neither hold this process up nor fill its memory."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status

from sred_email_core.call_requests import only_request, parser_of
from sred_email_core.error_status import status_of
from sred_email_core.errors import DeadlinePassedError, InvalidRequestError

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_PATIENCE = timedelta(seconds=2)
"""With a request of a few bytes."""
_MOST_READ = 4
"""Requests at once: gRPC can't limit the size of a message for each method, so each may be as large as an email."""
_MOST_CALLS = 1000
"""Watches and calls in a row for being read: of these nothing is in memory but the call."""
_SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
_NOT_SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)


class HealthService(grpc.GenericRpcHandler):
    """Tells of the process (the empty name) and of its one service; both are not serving until somebody says so.

    Probes have no token, so nobody is asked for one. A watch that does not read holds up itself alone: nothing else
    waits for what is written to it.
    """

    def __init__(self, service: str, *, patience: timedelta = _PATIENCE, most_calls: int = _MOST_CALLS) -> None:
        """Prepare.

        Args:
            service: Its full name.
            patience: With a request that is on its way.
            most_calls: In progress at once, watches among them; more are refused with RESOURCE_EXHAUSTED.
        """
        self._names = {"", service}
        self._patience = patience
        self._most_calls = most_calls
        self._now = _NOT_SERVING
        self._changed = asyncio.Event()
        self._reading = asyncio.Semaphore(_MOST_READ)
        self._calls = 0
        of_one: Any = grpc.unary_unary_rpc_method_handler(self._check, health_pb2.HealthCheckRequest.FromString)
        parse, answer = parser_of(of_one), health_pb2.HealthCheckResponse.SerializeToString
        self._handlers: dict[str, Any] = {  # as streams: so that they are seen before their request is read
            f"/{HEALTH_SERVICE}/Check": grpc.stream_unary_rpc_method_handler(self._check, parse, answer),
            f"/{HEALTH_SERVICE}/Watch": grpc.stream_stream_rpc_method_handler(self._watch, parse, answer),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401 - a handler of any RPC
        """The handler; None: it is a call of another service."""
        return self._handlers.get(handler_call_details.method)

    def tell(self, *, ready: bool) -> None:
        """Answer so from now on, and tell those who watch."""
        now = _SERVING if ready else _NOT_SERVING
        if now is not self._now:
            self._now = now
            self._changed.set()
            self._changed = asyncio.Event()

    async def _check(self, _: object, context: Any) -> Message:  # noqa: ANN401 - gRPC's
        self._calls += 1
        try:
            await self._let_in(context)
            return self._now
        finally:
            self._calls -= 1

    async def _watch(self, _: object, context: Any) -> AsyncIterator[Message]:  # noqa: ANN401 - gRPC's
        self._calls += 1
        try:
            await self._let_in(context)
            told: Message | None = None
            while True:
                now, changed = self._now, self._changed
                if now is not told:
                    yield now
                    told = now
                else:
                    await changed.wait()
        finally:
            self._calls -= 1

    async def _let_in(self, context: Any) -> None:  # noqa: ANN401 - gRPC's
        """Read which name is asked for; end the call if it is not known, or does not come."""
        if self._calls > self._most_calls:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many ask for the health of this server")
        try:
            async with self._reading:
                asked: Any = await only_request(context, "health", self._patience)
        except (DeadlinePassedError, InvalidRequestError) as e:
            await context.abort_with_status(rpc_status.to_status(status_of(e)))
        if asked.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no service of that name is here")

"""The gRPC side of a service: limits, health, reflection, and the one table from error to status."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import grpc
import structlog
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as grpc_health
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from sred_email_core.errors import (
    EmailDispatchError,
    EmailNotFoundError,
    FieldViolation,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    LogUnavailableError,
    MalformedEntryError,
    NotCancellableError,
    OverloadedError,
    QueueUnavailableError,
    RequestRefusedError,
    RetryLaterError,
    StoppingServerError,
    UnstorableError,
)
from sred_email_core.lifecycle import StopEvent, wait_for
from sred_email_core.settings import ListenAddress

log = structlog.get_logger(__name__)

ERROR_DOMAIN = "email.sred"
MAX_MESSAGE_BYTES = 48 * 1024 * 1024
"""The whole email after base64 may have 40 MB; its request is never larger than this."""
_LAST_ANSWERS_S = 0.1
_REFUSING: list[grpc.aio.Server] = []
"""Servers that have drained: kept until the process ends, since one that nobody refers to cancels its calls."""

CODES: dict[type[EmailDispatchError], int] = {
    InvalidRequestError: code_pb2.INVALID_ARGUMENT,
    IdempotencyKeyReusedError: code_pb2.ALREADY_EXISTS,
    UnstorableError: code_pb2.INVALID_ARGUMENT,
    EmailNotFoundError: code_pb2.NOT_FOUND,
    NotCancellableError: code_pb2.FAILED_PRECONDITION,
    RequestRefusedError: code_pb2.FAILED_PRECONDITION,
    LogUnavailableError: code_pb2.UNAVAILABLE,
    QueueUnavailableError: code_pb2.UNAVAILABLE,
    OverloadedError: code_pb2.RESOURCE_EXHAUSTED,
    StoppingServerError: code_pb2.UNAVAILABLE,
    RetryLaterError: code_pb2.UNAVAILABLE,
    MalformedEntryError: code_pb2.DATA_LOSS,
    EmailDispatchError: code_pb2.INTERNAL,
}
"""From error to status code; a test holds every error of the taxonomy to it."""


def status_of(error: EmailDispatchError) -> Status:
    """The rich status of an error: its code, its words, and details that a program can act on."""
    details: list[Message] = []
    if isinstance(error, InvalidRequestError):
        bad = BadRequest(
            field_violations=[
                BadRequest.FieldViolation(field=v.field, description=v.description) for v in error.violations
            ]
        )
        details.append(bad)
    if isinstance(error, IdempotencyKeyReusedError):
        details.append(
            ErrorInfo(reason="IDEMPOTENCY_KEY_REUSED", domain=ERROR_DOMAIN, metadata={"email_id": error.email_id})
        )
    if isinstance(error, NotCancellableError):
        about = {"email_id": error.email_id, "status": error.status}
        details.append(ErrorInfo(reason=error.obstacle.value, domain=ERROR_DOMAIN, metadata=about))
    if isinstance(error, RetryLaterError):
        details.append(RetryInfo(retry_delay=_duration(error.retry_after)))
    packed = []
    for detail in details:
        any_ = any_pb2.Any()
        any_.Pack(detail)
        packed.append(any_)
    return Status(code=CODES[type(error)], message=str(error), details=packed)


class _Unparseable:
    """Stands for a request that could not be read."""


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Ends a call that raised an error of the taxonomy with its status; other exceptions are bugs, and surface.

    It also knows how many calls are in progress, and refuses new ones once it drains.
    """

    def __init__(self, stop: StopEvent | None = None) -> None:
        """Prepare.

        Args:
            stop: New calls are refused from then on; None: once it drains.
        """
        self._stop = stop or StopEvent()
        self._in_progress = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def drain(self, grace: timedelta) -> None:
        """Refuse new calls, and wait until none is in progress; at most ``grace``, since the stop if there was one."""
        self._draining = True
        await wait_for(self._idle, self._stop.left_of(grace).total_seconds())
        await asyncio.sleep(_LAST_ANSWERS_S)  # what was answered is on its way

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401 - any RPC's
        """Wrap the handler of a unary call."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = handler_call_details.method

        def parse(data: bytes) -> Message | _Unparseable:
            try:
                return cast("Message", handler.request_deserializer(data))
            except DecodeError:
                return _Unparseable()

        async def call(request: Message | _Unparseable, context: Any) -> Message | None:  # noqa: ANN401 - any RPC's
            self._in_progress += 1
            self._idle.clear()
            try:
                self._check(request, method)
                return cast("Message", await handler.unary_unary(request, context))
            except EmailDispatchError as e:
                await context.abort_with_status(rpc_status.to_status(status_of(e)))
            except grpc.aio.AbortError:
                raise
            except NotImplementedError:  # what the generated servicer raises; gRPC would log it as a bug of ours
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not available in this version")
            except Exception:
                log.exception("call_failed", method=method)
                raise
            finally:
                self._in_progress -= 1
                if self._in_progress == 0:
                    self._idle.set()
            return None

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=parse,
            response_serializer=handler.response_serializer,
        )

    def _check(self, request: Message | _Unparseable, method: str) -> None:
        if self._draining or self._stop.is_set():
            raise StoppingServerError("this server is stopping: repeat the call on another")
        if isinstance(request, _Unparseable):
            violation = FieldViolation("request", f"is no message that {method} takes, or holds text that is no UTF-8")
            raise InvalidRequestError([violation])


@asynccontextmanager
async def running_grpc_server(
    listen: ListenAddress,
    register: Callable[[grpc.aio.Server], None],
    *,
    service_names: Sequence[str],
    health: grpc_health.HealthServicer,
    grace: timedelta,
    stop: StopEvent | None = None,
) -> AsyncIterator[None]:
    """Serve while the context is open; at its end calls in progress get ``grace`` to finish.

    From then on calls are refused with UNAVAILABLE, until the process ends: see lifecycle.run_to_the_end.

    Args:
        listen: Where.
        register: Adds the service.
        service_names: Full names, for reflection.
        health: Answers grpc.health.v1.
        grace: Of the shutdown.
        stop: New calls are refused, and the grace begins, when it is set; None: at the end of the context.

    Raises:
        OSError: The address can't be listened on.
    """
    interceptor = ErrorInterceptor(stop)
    server = grpc.aio.server(
        interceptors=[interceptor],
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
        ],
    )
    register(server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = (*service_names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    try:
        port = server.add_insecure_port(str(listen))
    except RuntimeError as e:
        raise OSError(f"can't listen on {listen}: {e}") from e
    if port == 0:
        raise OSError(f"can't listen on {listen}")
    await server.start()
    try:
        yield
    except BaseException:
        await server.stop(None)
        raise
    await interceptor.drain(grace)
    _REFUSING.append(server)


def _duration(delta: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration

"""The way to the services: a channel for the time of one command, and failed calls turned into words."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import grpc
import typer
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_operator import output

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # the services are inside; a proxy for the web is not the way to them
    ("grpc.max_receive_message_length", 48 << 20),
)
_DETAILS_KEY = "grpc-status-details-bin"
_Detail = TypeVar("_Detail", bound=Message)


@contextmanager
def dispatch_service(address: str) -> Iterator[EmailDispatchServiceStub]:
    """Connect to the ingress.

    Args:
        address: ``host:port``.

    Yields:
        The service's stub.

    Raises:
        typer.Exit: A call failed; the reason stands on stderr, and the exit code is 1.
    """
    with _calls_to(address) as channel:
        yield EmailDispatchServiceStub(channel)


def channel_to(address: str) -> grpc.Channel:
    """A channel to a service; a context manager, at whose end it is closed."""
    return grpc.insecure_channel(address, options=_OPTIONS)


@contextmanager
def operations_service(address: str) -> Iterator[EmailOperationsServiceStub]:
    """Connect to a consumer.

    Args:
        address: ``host:port``.

    Yields:
        The service's stub.

    Raises:
        typer.Exit: A call failed; the reason stands on stderr, and the exit code is 1.
    """
    with _calls_to(address) as channel:
        yield EmailOperationsServiceStub(channel)


@contextmanager
def _calls_to(address: str) -> Iterator[grpc.Channel]:
    with channel_to(address) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call):
                raise
            first, *others = explain(error, address)
            output.print_failure(first, *others)
            raise typer.Exit(1) from error


def explain(call: grpc.Call, address: str) -> list[str]:
    """Say why a call failed.

    Args:
        call: The failed call.
        address: Whom it went to.

    Returns:
        Lines: the status and its message, each bad field, and what else the service said.
    """
    status = Status()
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:
                status.Clear()
    code, message = call.code(), call.details() or "no reason given"
    if code is grpc.StatusCode.UNAVAILABLE and not status.details:
        message = f"nobody answers at {address} ({message})"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"no answer from {address} in time"
    lines = [f"{code.name}: {message}"]
    for bad_request in _details(status, BadRequest):
        lines += [f"{violation.field}: {violation.description}" for violation in bad_request.field_violations]
    lines += [f"reason: {info.reason}" for info in _details(status, ErrorInfo)]
    for info in _details(status, RetryInfo):
        lines.append(f"may be repeated after {info.retry_delay.ToTimedelta() / timedelta(seconds=1):g} s")
    return lines


def _details(status: Status, kind: type[_Detail]) -> Iterator[_Detail]:
    for packed in status.details:
        detail = kind()
        try:
            if packed.Unpack(detail):
                yield detail
        except DecodeError:
            continue

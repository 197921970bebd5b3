"""The way to the services: a channel for the time of one command, and failed calls turned into words."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import grpc
import typer

from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.google_rpc import error_details_pb2
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_client.status import FailedCall, details_of, rich_status
from sred_email_operator import output
from sred_email_operator.credentials import Credentials, CredentialsError
from sred_email_operator.options import credentials_from_environment
from sred_email_operator.signing import AioSigner, AioStreamSigner, Said, SyncSigner

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # the services are inside; a proxy for the web is not the way to them
    ("grpc.max_receive_message_length", 48 << 20),
    # A watch may be silent for hours: that the other end is gone is noticed within 20 s. Servers allow one each 10 s.
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 8_000),
    ("grpc.http2.max_pings_without_data", 0),  # gRPC's own default asks twice, then hardly ever again
    (
        "grpc.max_reconnect_backoff_ms",
        2_000,
    ),  # a console shows a service within seconds of its return; the default is minutes
)

OPERATOR_KEY = "sred-email-operator-bin"
"""Metadata of a call: the name of who makes it, UTF-8. It is what they say; a token is what they can prove."""


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
    """A channel to a service, with the credentials of the environment; a context manager, at whose end it is closed.

    Raises:
        typer.BadParameter: The credentials can't be used.
    """
    credentials = _usable_credentials(address)
    secured = credentials.channel_credentials()
    if secured is None:
        channel = grpc.insecure_channel(address, options=_OPTIONS)
    else:
        channel = grpc.secure_channel(address, secured, options=_OPTIONS)
    return grpc.intercept_channel(channel, SyncSigner(lambda: _said(credentials)))


def aio_channel_to(address: str) -> grpc.aio.Channel:
    """The same for asyncio."""
    credentials = _usable_credentials(address)
    secured = credentials.channel_credentials()
    signers = [AioSigner(lambda: _said(credentials)), AioStreamSigner(lambda: _said(credentials))]
    if secured is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS, interceptors=signers)
    return grpc.aio.secure_channel(address, secured, options=_OPTIONS, interceptors=signers)


def _usable_credentials(address: str) -> Credentials:
    credentials = credentials_from_environment()
    try:
        credentials.check(address)
    except CredentialsError as error:
        raise typer.BadParameter(error.reason, param_hint=error.variable) from error
    return credentials


def _said(credentials: Credentials) -> Said:
    try:
        return (*credentials.metadata(), *operator_metadata(credentials.operator))
    except CredentialsError:  # the token's file is being replaced: the service will say what is missing
        return operator_metadata(credentials.operator)


def operator_metadata(name: str) -> tuple[tuple[str, bytes], ...]:
    """What tells a consumer who stands behind a call that changes something; the audit names them.

    Args:
        name: Of a person, as they give it; empty: nobody says.
    """
    return ((OPERATOR_KEY, name.encode()),) if name else ()


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


def explain(call: FailedCall, address: str) -> list[str]:
    """Say why a call failed.

    Args:
        call: The failed call.
        address: Whom it went to.

    Returns:
        Lines: the status and its message, each bad field, and what else the service said.
    """
    status = rich_status(call)
    code, message = call.code(), call.details() or "no reason given"
    if code is grpc.StatusCode.UNAVAILABLE and not status.details:
        message = f"nobody answers at {address} ({message})"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"no answer from {address} in time"
    lines = [f"{code.name}: {message}"]
    for bad_request in details_of(status, error_details_pb2.BadRequest):
        lines += [f"{violation.field}: {violation.description}" for violation in bad_request.field_violations]
    lines += [f"reason: {info.reason}" for info in details_of(status, error_details_pb2.ErrorInfo)]
    for info in details_of(status, error_details_pb2.RetryInfo):
        lines.append(f"may be repeated after {info.retry_delay.ToTimedelta() / timedelta(seconds=1):g} s")
    return lines

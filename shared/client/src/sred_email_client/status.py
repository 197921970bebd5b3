"""From what a failed call carries to the error that it means: the one table."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from sred.email.v1.google_rpc import error_details_pb2, status_pb2
from sred_email_client.errors import (
    DeadlineExceededError,
    EmailError,
    EmailNotFoundError,
    FailedPreconditionError,
    FieldViolation,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    OverloadedError,
    PermissionDeniedError,
    RequestTooLargeError,
    ResumeTokenExpiredError,
    RetryLaterError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedError,
)

_DETAILS_KEY = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_PLAIN: dict[grpc.StatusCode, type[EmailError]] = {
    grpc.StatusCode.NOT_FOUND: EmailNotFoundError,
    grpc.StatusCode.OUT_OF_RANGE: ResumeTokenExpiredError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
}
_LATER: dict[grpc.StatusCode, type[RetryLaterError]] = {
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
}
_Detail = TypeVar("_Detail", bound=Message)


class FailedCall(Protocol):
    """What both of gRPC's faces raise."""

    def code(self) -> grpc.StatusCode:
        """How it ended."""

    def details(self) -> str | None:
        """Why, in words."""

    def trailing_metadata(self) -> Iterable[Any] | None:
        """What came along: pairs of key and value."""


def error_of_call(call: FailedCall) -> EmailError:
    """Tell what the failure of a call means.

    Args:
        call: A ``grpc.RpcError`` that is a ``grpc.Call``, or a ``grpc.aio.AioRpcError``.
    """
    return _error(call.code(), call.details() or "no reason given", rich_status(call))


def rich_status(call: FailedCall) -> status_pb2.Status:
    """What a failed call carries beside its code; empty: nothing that can be read."""
    status = status_pb2.Status()
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:
                status.Clear()
    return status


def error_of_status(status: status_pb2.Status) -> EmailError:
    """Tell what the failure of one email of many means."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _error(code, status.message or "no reason given", status)


def _error(code: grpc.StatusCode, message: str, status: status_pb2.Status) -> EmailError:  # noqa: PLR0911 - a table
    if code in _PLAIN:
        return _PLAIN[code](message)
    info = next(details_of(status, error_details_pb2.ErrorInfo), error_details_pb2.ErrorInfo())
    retry_after = _retry_after(status)
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidRequestError(message, _violations(status))
        case grpc.StatusCode.ALREADY_EXISTS if info.reason == "IDEMPOTENCY_KEY_REUSED":
            return IdempotencyKeyReusedError(message, info.metadata.get("email_id", ""))
        case grpc.StatusCode.FAILED_PRECONDITION:
            return FailedPreconditionError(message, info.reason)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if retry_after is None:  # gRPC's own word for too large a message
            return RequestTooLargeError(message)
    if code in _LATER:
        return _LATER[code](message, retry_after=retry_after)
    return UnexpectedError(message, code.name)


def _violations(status: status_pb2.Status) -> Iterator[FieldViolation]:
    for bad_request in details_of(status, error_details_pb2.BadRequest):
        for violation in bad_request.field_violations:
            yield FieldViolation(violation.field, violation.description)


def _retry_after(status: status_pb2.Status) -> timedelta | None:
    info = next(details_of(status, error_details_pb2.RetryInfo), None)
    return None if info is None else max(info.retry_delay.ToTimedelta(), timedelta(0))


def details_of(status: status_pb2.Status, kind: type[_Detail]) -> Iterator[_Detail]:
    """The details of one kind, such as BadRequest, as far as they can be read."""
    for packed in status.details:
        detail = kind()
        try:
            if packed.Unpack(detail):
                yield detail
        except DecodeError:
            continue

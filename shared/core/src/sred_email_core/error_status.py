"""The one table from error to gRPC status."""

from datetime import timedelta

from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from sred_email_core.errors import (
    DeadLetterNotFoundError,
    DeadlinePassedError,
    EmailDispatchError,
    EmailNotFoundError,
    EventsGoneError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    KeyMissingError,
    LogUnavailableError,
    MalformedEntryError,
    NotCancellableError,
    NotSuppressedError,
    OverloadedError,
    PermissionDeniedError,
    QueueUnavailableError,
    RequestRefusedError,
    RetryLaterError,
    StoppingServerError,
    UnauthenticatedError,
    UnreadableContentError,
    UnstorableError,
)

ERROR_DOMAIN = "email.sred"

CODES: dict[type[EmailDispatchError], int] = {
    InvalidRequestError: code_pb2.INVALID_ARGUMENT,
    IdempotencyKeyReusedError: code_pb2.ALREADY_EXISTS,
    UnstorableError: code_pb2.INVALID_ARGUMENT,
    EmailNotFoundError: code_pb2.NOT_FOUND,
    DeadLetterNotFoundError: code_pb2.NOT_FOUND,
    EventsGoneError: code_pb2.OUT_OF_RANGE,
    NotSuppressedError: code_pb2.NOT_FOUND,
    UnauthenticatedError: code_pb2.UNAUTHENTICATED,
    PermissionDeniedError: code_pb2.PERMISSION_DENIED,
    NotCancellableError: code_pb2.FAILED_PRECONDITION,
    RequestRefusedError: code_pb2.FAILED_PRECONDITION,
    LogUnavailableError: code_pb2.UNAVAILABLE,
    QueueUnavailableError: code_pb2.UNAVAILABLE,
    OverloadedError: code_pb2.RESOURCE_EXHAUSTED,
    DeadlinePassedError: code_pb2.DEADLINE_EXCEEDED,
    KeyMissingError: code_pb2.UNAVAILABLE,
    StoppingServerError: code_pb2.UNAVAILABLE,
    RetryLaterError: code_pb2.UNAVAILABLE,
    MalformedEntryError: code_pb2.DATA_LOSS,
    UnreadableContentError: code_pb2.DATA_LOSS,
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
    if isinstance(error, UnauthenticatedError | PermissionDeniedError):
        details.append(ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN))
    if isinstance(error, RetryLaterError):
        details.append(RetryInfo(retry_delay=_duration(error.retry_after)))
    packed = []
    for detail in details:
        any_ = any_pb2.Any()
        any_.Pack(detail)
        packed.append(any_)
    return Status(code=CODES[type(error)], message=str(error), details=packed)


def _duration(delta: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration

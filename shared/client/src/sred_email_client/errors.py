"""What can go wrong, told by what the caller can do about it.

::

    EmailError
    ├── RequestRefusedError            change the request; repeating it as it is never helps
    │   ├── InvalidRequestError        fields are wrong, each one named
    │   ├── IdempotencyKeyReusedError  the key belongs to an email with other content
    │   ├── RequestTooLargeError       it is larger than the service takes
    │   ├── EmailNotFoundError         no such email, or it ended longer ago than the retention
    │   ├── FailedPreconditionError    the email is past that, such as cancelling what was sent
    │   └── ResumeTokenExpiredError    events that old are not kept; watch without a token
    ├── AccessRefusedError             mend the token or its rights
    │   ├── UnauthenticatedError       no token, or one that is not known
    │   └── PermissionDeniedError      the token does not allow the call
    ├── RetryLaterError                the request is fine; repeat it later with the same key, that is always safe
    │   ├── UnavailableError           the service, or its database, does not answer
    │   ├── OverloadedError            it has more in hand than is safe to accept
    │   └── DeadlineExceededError      no answer in time; the email may have been accepted
    └── UnexpectedError                anything else: a bug, or a call that this service does not serve

The client has repeated what may be repeated before it raises a RetryLaterError.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta


class EmailError(Exception):
    """Any failure of a call, or of one email of many.

    Attributes:
        code: Name of the gRPC status code, such as ``INVALID_ARGUMENT``.
    """

    code = "UNKNOWN"


class RequestRefusedError(EmailError):
    """The request itself is the problem."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing wrong with one field.

    Attributes:
        field: Path of the field, as the contract names it: ``to[2]``, ``inline.subject``.
        description: What is wrong and how to mend it.
    """

    field: str
    description: str


class InvalidRequestError(RequestRefusedError):
    """Fields of the request are wrong; nothing was stored.

    Attributes:
        violations: One for each bad field; empty if the service named none.
    """

    code = "INVALID_ARGUMENT"

    def __init__(self, message: str, violations: Iterable[FieldViolation] = ()) -> None:
        self.violations = tuple(violations)
        super().__init__("\n".join([message, *(f"  {each.field}: {each.description}" for each in self.violations)]))


class IdempotencyKeyReusedError(RequestRefusedError):
    """The key belongs to an email with other content; nothing was stored.

    Attributes:
        email_id: Of that email; empty if the service did not say.
    """

    code = "ALREADY_EXISTS"

    def __init__(self, message: str, email_id: str = "") -> None:
        super().__init__(message)
        self.email_id = email_id


class RequestTooLargeError(RequestRefusedError):
    """The request is larger than the service takes (48 MB); nothing was stored."""

    code = "RESOURCE_EXHAUSTED"


class EmailNotFoundError(RequestRefusedError):
    """There is no email with this id or key, or it ended longer ago than the retention."""

    code = "NOT_FOUND"


class FailedPreconditionError(RequestRefusedError):
    """The state of the email does not allow this; nothing was changed.

    Attributes:
        reason: What stands in the way: ``BEING_SENT``, ``MAY_HAVE_BEEN_ACCEPTED``, ``HAS_ENDED``; empty if the service
            did not say.
    """

    code = "FAILED_PRECONDITION"

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ResumeTokenExpiredError(RequestRefusedError):
    """The token is older than the events that are kept: read the emails' state anew and watch without a token."""

    code = "OUT_OF_RANGE"


class AccessRefusedError(EmailError):
    """The service does not let this caller do that."""


class UnauthenticatedError(AccessRefusedError):
    """There was no token, or one that is not known."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(AccessRefusedError):
    """The token does not allow the call."""

    code = "PERMISSION_DENIED"


class RetryLaterError(EmailError):
    """The request may be repeated as it is; with the same key that sends nothing twice.

    Attributes:
        retry_after: How long the service asks to wait; None if it did not say.
    """

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(RetryLaterError):
    """The service, or the database it needs, does not answer."""

    code = "UNAVAILABLE"


class OverloadedError(RetryLaterError):
    """The service has more in hand than is safe to accept; nothing was stored."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineExceededError(RetryLaterError):
    """No answer came in time; whether the email was accepted is settled by repeating the call with the same key."""

    code = "DEADLINE_EXCEEDED"


class UnexpectedError(EmailError):
    """Anything else."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code

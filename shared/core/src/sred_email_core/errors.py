"""What can go wrong, told by what the caller can do about it.

::

    EmailDispatchError
    ├── RequestRefusedError            change the request; repeating it as it is never helps
    │   ├── InvalidRequestError        fields are wrong, each one named
    │   ├── IdempotencyKeyReusedError  the key belongs to an email with other content
    │   ├── UnstorableError            the log can't hold it
    │   ├── EmailNotFoundError         no such email
    │   ├── DeadLetterNotFoundError    no such dead letter, or it was handled
    │   ├── EventsGoneError            the events after a resume_token are not kept any more
    │   ├── NotSuppressedError         the address gets email as it is
    │   ├── UnauthenticatedError       nobody knows who calls
    │   ├── PermissionDeniedError      the caller may not do this
    │   └── NotCancellableError        it is being sent, may have been accepted, or has ended
    ├── RetryLaterError                the request is fine; repeat it, with the same key, after a while
    │   ├── LogUnavailableError        PostgreSQL does not answer
    │   ├── QueueUnavailableError      Redis does not answer
    │   ├── OverloadedError            there is more work in flight than is safe to accept
    │   ├── DeadlinePassedError        the call's own deadline passed before anything was done
    │   ├── KeyMissingError            content is encrypted with a key that is not here
    │   └── StoppingServerError        this process is on its way down
    ├── MalformedEntryError            a stream entry that is no email; it becomes a dead letter
    └── UnreadableContentError         content that nobody can decrypt; its email becomes a dead letter

Adapters translate their drivers' exceptions into these with ``raise … from``; above them no driver is named.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

_NAMED_CHARACTERS = 200


class EmailDispatchError(Exception):
    """Any deliberate error of the system."""


class RequestRefusedError(EmailDispatchError):
    """The request itself is the problem."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing wrong with one field.

    Attributes:
        field: Path of the field in the request, for example ``to[2]`` or ``inline.subject``.
        description: What is wrong and how to mend it, without the field's content.
    """

    field: str
    description: str


class InvalidRequestError(RequestRefusedError):
    """Fields of the request are wrong; nothing was written."""

    def __init__(self, violations: list[FieldViolation]) -> None:
        # Short: as a gRPC message it travels in the trailers, whose size is limited, beside the violations themselves.
        named = ", ".join(v.field for v in violations)
        count = "1 field is" if len(violations) == 1 else f"{len(violations)} fields are"
        super().__init__(
            f"{count} bad: {named if len(named) <= _NAMED_CHARACTERS else named[:_NAMED_CHARACTERS] + '…'}"
        )
        self.violations = violations


class IdempotencyKeyReusedError(RequestRefusedError):
    """The idempotency key belongs to an email with other content; nothing was written."""

    def __init__(self, email_id: str) -> None:
        super().__init__(
            f"the idempotency key belongs to email {email_id}, whose content differs: use a new key for a new email"
        )
        self.email_id = email_id


class UnstorableError(RequestRefusedError):
    """The log can't hold a value of the request, or of one of the requests written together; nothing was written."""


class EmailNotFoundError(RequestRefusedError):
    """There is no email with this id or key."""


class DeadLetterNotFoundError(RequestRefusedError):
    """There is no dead letter with this id, or it was replayed, resolved or discarded."""

    def __init__(self) -> None:
        super().__init__(
            "there is no dead letter with this id, or it was handled: ListDeadLetters tells which there are"
        )


class EventsGoneError(RequestRefusedError):
    """Events after this position may have been pruned, or it is another database's: a watch can't go on from there."""

    def __init__(self) -> None:
        super().__init__("the resume_token is older than the events kept: watch without one, and read the state anew")


class NotSuppressedError(RequestRefusedError):
    """The address is not suppressed; nothing was changed."""

    def __init__(self) -> None:
        super().__init__("the address is not suppressed")


class UnauthenticatedError(RequestRefusedError):
    """The call carries no token, or none that holds; it was not read."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class PermissionDeniedError(RequestRefusedError):
    """The caller's token lacks the scope that the call needs; it was not read."""

    reason = "SCOPE_MISSING"


class CancelObstacle(StrEnum):
    """What stands in the way of a cancellation."""

    BEING_SENT = "BEING_SENT"
    MAY_HAVE_BEEN_ACCEPTED = "MAY_HAVE_BEEN_ACCEPTED"
    HAS_ENDED = "HAS_ENDED"


class NotCancellableError(RequestRefusedError):
    """The email can't be cancelled any more; nothing was changed."""

    def __init__(self, email_id: str, status: str, obstacle: CancelObstacle) -> None:
        said = {
            CancelObstacle.BEING_SENT: "is being sent now",
            CancelObstacle.MAY_HAVE_BEEN_ACCEPTED: "may already have been accepted by an earlier attempt",
            CancelObstacle.HAS_ENDED: f"has already ended as {status}",
        }[obstacle]
        super().__init__(f"email {email_id} {said}: it can't be cancelled")
        self.email_id = email_id
        self.status = status
        self.obstacle = obstacle


class RetryLaterError(EmailDispatchError):
    """The request may be repeated as it is after ``retry_after``; with the same key that is always safe."""

    def __init__(self, message: str, *, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LogUnavailableError(RetryLaterError):
    """PostgreSQL does not answer; whether a write took effect is settled by repeating it with the same key."""


class QueueUnavailableError(RetryLaterError):
    """Redis does not answer; what was accepted stays in the log."""


class OverloadedError(RetryLaterError):
    """More is in flight than is safe to accept; nothing was written."""


class DeadlinePassedError(RetryLaterError):
    """The deadline of the call passed while it waited; nothing was written."""


class KeyMissingError(RetryLaterError):
    """Content is encrypted with a key that this process does not have; nothing is wrong with the content."""

    def __init__(
        self, message: str, *, key_id: str = "", check: bytes = b"", retry_after: timedelta = timedelta(seconds=1)
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.key_id = key_id
        self.check = check


class StoppingServerError(RetryLaterError):
    """This process is on its way down; nothing was done. Another replica takes the call."""


class MalformedEntryError(EmailDispatchError):
    """A stream entry does not decode to an email."""


class UnreadableContentError(EmailDispatchError):
    """The content of an email can't be decrypted by anybody: it is damaged, or its key is lost."""

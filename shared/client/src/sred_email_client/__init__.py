"""What callers of the email dispatch system use.

``EmailClient`` for asyncio and ``SyncEmailClient`` for everything else; ``sred_email_client.testing`` has a fake of
each for tests. The generated stubs are in ``sred.email.v1``, for what the clients do not cover.
"""

from sred_email_client.client import EmailClient
from sred_email_client.connection import Tls
from sred_email_client.emails import (
    Attachment,
    DeliveryState,
    Email,
    EmailEvent,
    EmailKind,
    EmailStatus,
    OutgoingEmail,
    Priority,
    SendResult,
)
from sred_email_client.errors import (
    AccessRefusedError,
    DeadlineExceededError,
    EmailError,
    EmailNotFoundError,
    FailedPreconditionError,
    FieldViolation,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    OverloadedError,
    PermissionDeniedError,
    RequestRefusedError,
    RequestTooLargeError,
    ResumeTokenExpiredError,
    RetryLaterError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedError,
)
from sred_email_client.idempotency_key import build_idempotency_key
from sred_email_client.retry import RetryPolicy
from sred_email_client.sync_client import SyncEmailClient

__all__ = [
    "AccessRefusedError",
    "Attachment",
    "DeadlineExceededError",
    "DeliveryState",
    "Email",
    "EmailClient",
    "EmailError",
    "EmailEvent",
    "EmailKind",
    "EmailNotFoundError",
    "EmailStatus",
    "FailedPreconditionError",
    "FieldViolation",
    "IdempotencyKeyReusedError",
    "InvalidRequestError",
    "OutgoingEmail",
    "OverloadedError",
    "PermissionDeniedError",
    "Priority",
    "RequestRefusedError",
    "RequestTooLargeError",
    "ResumeTokenExpiredError",
    "RetryLaterError",
    "RetryPolicy",
    "SendResult",
    "SyncEmailClient",
    "Tls",
    "UnauthenticatedError",
    "UnavailableError",
    "UnexpectedError",
    "build_idempotency_key",
]

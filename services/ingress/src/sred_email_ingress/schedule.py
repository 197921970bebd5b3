"""When an email is to be sent: at once, or at a time that its call names."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred_email_core.errors import FieldViolation

FURTHEST = timedelta(days=30)
"""Ahead of now: the most."""
_EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
"""The first microsecond of that year is infinity to the driver of PostgreSQL: nothing can be computed with it."""


def send_at_of(request: SendEmailRequest) -> datetime | None:
    """When the call wants its email sent; None: at once, and so does a time that has passed.

    Args:
        request: A request without violations.
    """
    return max(request.send_at.ToDatetime(UTC), _EARLIEST) if request.HasField("send_at") else None


def schedule_objections(
    send_at: datetime | None, expire_at: datetime | None, now: datetime
) -> Iterator[FieldViolation]:
    """Why an email can't be sent at this time, and expire at that.

    A retry of a call computes both times anew, and so may be refused what was accepted: the key is looked up first.

    Args:
        send_at: As the call names it.
        expire_at: The same. That it has passed is another objection.
        now: The time.
    """
    if send_at is None or send_at <= now:
        return
    if send_at > now + FURTHEST:
        yield FieldViolation("send_at", f"is more than {FURTHEST.days} days ahead: send the email later")
    if expire_at is not None and now < expire_at <= send_at:
        yield FieldViolation("expire_at", "is not after send_at: the email would expire before it is sent")

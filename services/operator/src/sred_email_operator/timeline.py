"""What happened to one email: as the consumer knows it, or as far as the email itself tells."""

from collections.abc import Sequence

import grpc

from sred.email.v1.email_pb2 import Email, EmailStatus
from sred.email.v1.operations_service_pb2 import GetEmailTimelineRequest, TimelineEntry
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_operator import output
from sred_email_operator.connection import channel_to
from sred_email_operator.waiting import ENDS

_PATIENCE_S = 2.0
"""For the consumer: without it there is an answer, too."""


def timeline_of(email: Email, consumer_address: str, *, timeout_s: float) -> tuple[Sequence[TimelineEntry], bool]:
    """What happened to an email, the earliest first; and whether it is all that happened, as the consumer knows it.

    Args:
        email: As it is now.
        consumer_address: ``host:port``.
        timeout_s: How long a call may take.
    """
    with channel_to(consumer_address) as channel:
        try:
            response = EmailOperationsServiceStub(channel).GetEmailTimeline(
                GetEmailTimelineRequest(email_id=email.email_id), timeout=min(timeout_s, _PATIENCE_S)
            )
        except grpc.RpcError:
            return told_by(email), False
    return response.entries, True


def line(entry: TimelineEntry) -> str:
    """Show an entry to people."""
    attempt = f"attempt {entry.attempt}" if entry.attempt else ""
    consumer = f"by {entry.consumer}" if entry.consumer else ""
    return "  ".join(
        filter(None, [output.shown(entry.at), entry.what.ljust(14), attempt, entry.detail, consumer])
    ).rstrip()


def told_by(email: Email) -> list[TimelineEntry]:
    """As much of it as the email itself tells."""
    entries = [TimelineEntry(at=email.created_at, what="ACCEPTED")]
    if email.HasField("sent_at"):
        entries.append(
            TimelineEntry(at=email.sent_at, what="SENT", detail=email.provider_message_id, attempt=email.attempts)
        )
    elif email.status in ENDS or email.last_error:
        status = output.enum_name(EmailStatus.DESCRIPTOR, email.status)
        entries.append(TimelineEntry(at=email.updated_at, what=status, detail=email.last_error, attempt=email.attempts))
    return entries

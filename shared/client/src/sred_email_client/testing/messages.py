"""The messages that the service behind the fakes reads and writes."""

from datetime import UTC

from google.protobuf.json_format import MessageToDict

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import SendEmailRequest, SendEmailResponse, WatchEmailsResponse
from sred_email_client.emails import Attachment, EmailKind, OutgoingEmail, Priority


def default_priority(kind: int) -> email_pb2.Priority.ValueType:
    """The lane of a kind."""
    return email_pb2.PRIORITY_HIGH if kind <= email_pb2.EMAIL_KIND_PASSWORD_RESET else email_pb2.PRIORITY_NORMAL


def content_of(request: SendEmailRequest) -> SendEmailRequest:
    """What makes two requests the same email."""
    content = SendEmailRequest()
    content.CopyFrom(request)
    content.priority = request.priority or default_priority(request.kind)
    for field in ("idempotency_key", "send_at", "expire_at"):
        content.ClearField(field)
    return content


def response_of(email: email_pb2.Email, *, deduplicated: bool) -> SendEmailResponse:
    """What a send of this email is answered with."""
    return SendEmailResponse(
        email_id=email.email_id, status=email.status, deduplicated=deduplicated, accepted_at=email.created_at
    )


def event_of(email: email_pb2.Email, reason: str, token: str) -> WatchEmailsResponse:
    """What a watch tells of its present state."""
    event = email_pb2.EmailEvent(
        email_id=email.email_id,
        status=email.status,
        delivery=email.delivery,
        at=email.updated_at,
        attempt=email.attempts,
        reason=reason,
        provider_message_id=email.provider_message_id,
    )
    return WatchEmailsResponse(event=event, resume_token=token)


def outgoing_of(request: SendEmailRequest) -> OutgoingEmail:
    """What a caller sent, read back."""
    return OutgoingEmail(
        idempotency_key=request.idempotency_key,
        kind=EmailKind(email_pb2.EmailKind.Name(request.kind).removeprefix("EMAIL_KIND_")),
        to=tuple(request.to),
        subject=request.inline.subject,
        html=request.inline.html,
        text=request.inline.text,
        template=request.template.template_id,
        variables=MessageToDict(request.template.variables),
        from_address=request.from_address,
        cc=tuple(request.cc),
        bcc=tuple(request.bcc),
        reply_to=tuple(request.reply_to),
        priority=Priority(email_pb2.Priority.Name(request.priority).removeprefix("PRIORITY_"))
        if request.priority
        else None,
        headers=dict(request.headers),
        tags=dict(request.tags),
        attachments=tuple(
            Attachment(each.filename, each.content, each.content_type, each.content_id) for each in request.attachments
        ),
        send_at=request.send_at.ToDatetime(UTC) if request.HasField("send_at") else None,
        expire_at=request.expire_at.ToDatetime(UTC) if request.HasField("expire_at") else None,
    )

"""Between the words of the client and the messages of the contract."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import (
    GetEmailRequest,
    SendEmailRequest,
    SendEmailResponse,
    SendEmailResult,
    WatchEmailsResponse,
)
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
from sred_email_client.errors import EmailError, FieldViolation, InvalidRequestError
from sred_email_client.status import error_of_status

_Enum = TypeVar("_Enum", bound=StrEnum)


def to_request(email: OutgoingEmail) -> SendEmailRequest:
    """Write an email as a request.

    Raises:
        InvalidRequestError: It cannot be written, or has no key; each bad field is named. The service checks the rest.
    """
    request, bad = SendEmailRequest(), list[FieldViolation]()

    def put(name: str, write: Callable[[], object]) -> None:
        try:
            write()
        except (TypeError, ValueError, AttributeError) as error:
            bad.append(FieldViolation(name, _said(error)))

    _check_key(email.idempotency_key, bad)
    put("idempotency_key", lambda: setattr(request, "idempotency_key", email.idempotency_key))
    put("kind", lambda: setattr(request, "kind", _number(email_pb2.EmailKind, "EMAIL_KIND_", email.kind)))
    if email.priority is not None:
        put("priority", lambda: setattr(request, "priority", _number(email_pb2.Priority, "PRIORITY_", email.priority)))
    put("from_address", lambda: setattr(request, "from_address", email.from_address))
    put("to", lambda: request.to.extend(_addresses(email.to)))
    put("cc", lambda: request.cc.extend(_addresses(email.cc)))
    put("bcc", lambda: request.bcc.extend(_addresses(email.bcc)))
    put("reply_to", lambda: request.reply_to.extend(_addresses(email.reply_to)))
    put("headers", lambda: request.headers.update(email.headers))
    put("tags", lambda: request.tags.update(email.tags))
    for index, attachment in enumerate(email.attachments):
        put(f"attachments[{index}]", lambda each=attachment: request.attachments.append(_attachment(each)))  # type: ignore[misc]
    put("send_at", lambda: _put_time(request.send_at, email.send_at))
    put("expire_at", lambda: _put_time(request.expire_at, email.expire_at))
    _put_content(email, request, put, bad)
    if bad:
        raise InvalidRequestError("the email cannot be sent as it is", bad)
    return request


def _put_content(
    email: OutgoingEmail,
    request: SendEmailRequest,
    put: Callable[[str, Callable[[], object]], None],
    bad: list[FieldViolation],
) -> None:
    if not email.template:
        if email.variables:
            bad.append(FieldViolation("variables", "belong to a template: name one, or leave them out"))
        put("inline.subject", lambda: setattr(request.inline, "subject", email.subject))
        put("inline.html", lambda: setattr(request.inline, "html", email.html))
        put("inline.text", lambda: setattr(request.inline, "text", email.text))
        return
    if email.subject or email.html or email.text:
        bad.append(FieldViolation("template", "makes subject, html and text itself: leave out one or the other"))
    put("template", lambda: setattr(request.template, "template_id", email.template))
    put("variables", lambda: request.template.variables.update(_plain(email.variables)))


def lookup(email_id: str | None, idempotency_key: str | None) -> GetEmailRequest:
    """Write which email is asked for.

    Raises:
        TypeError: Neither or both are given.
    """
    if (email_id is None) == (idempotency_key is None):
        raise TypeError("either email_id or idempotency_key is needed")
    if email_id is not None:
        return GetEmailRequest(email_id=email_id)
    return GetEmailRequest(idempotency_key=idempotency_key or "")


def from_response(response: SendEmailResponse) -> SendResult:
    """Read the answer to a send."""
    return SendResult(
        email_id=response.email_id,
        status=_member(EmailStatus, email_pb2.EmailStatus, "EMAIL_STATUS_", response.status),
        deduplicated=response.deduplicated,
        accepted_at=_time(response.accepted_at),
    )


def from_result(result: SendEmailResult) -> SendResult | EmailError:
    """Read what became of one email of many."""
    if result.WhichOneof("outcome") == "response":
        return from_response(result.response)
    return error_of_status(result.error)


def from_email(email: email_pb2.Email) -> Email:
    """Read an email."""
    return Email(
        email_id=email.email_id,
        idempotency_key=email.idempotency_key,
        kind=_member(EmailKind, email_pb2.EmailKind, "EMAIL_KIND_", email.kind),
        priority=_member(Priority, email_pb2.Priority, "PRIORITY_", email.priority),
        from_address=email.from_address,
        to=tuple(email.to),
        subject=email.subject,
        status=_member(EmailStatus, email_pb2.EmailStatus, "EMAIL_STATUS_", email.status),
        attempts=email.attempts,
        last_error=email.last_error,
        provider_message_id=email.provider_message_id,
        delivery=_delivery(email.delivery),
        created_at=_time(email.created_at),
        updated_at=_time(email.updated_at),
        send_at=_time_or_none(email, "send_at"),
        expire_at=_time_or_none(email, "expire_at"),
        sent_at=_time_or_none(email, "sent_at"),
        next_attempt_at=_time_or_none(email, "next_attempt_at"),
        caller=email.caller,
    )


def from_event(response: WatchEmailsResponse) -> EmailEvent:
    """Read one event of a watch."""
    event = response.event
    return EmailEvent(
        email_id=event.email_id,
        status=_member(EmailStatus, email_pb2.EmailStatus, "EMAIL_STATUS_", event.status),
        delivery=_delivery(event.delivery),
        at=_time(event.at),
        attempt=event.attempt,
        reason=event.reason,
        provider_message_id=event.provider_message_id,
        resume_token=response.resume_token,
    )


def _check_key(key: object, bad: list[FieldViolation]) -> None:
    if key == "" or key is None:
        reason = "is required: without it a repeated call would send a second email; see build_idempotency_key"
        bad.append(FieldViolation("idempotency_key", reason))


def _said(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "holds text that is no Unicode (a lone surrogate)"
    return str(error)


def _number(enum: Any, prefix: str, name: object) -> int:  # noqa: ANN401 - any enum of the contract
    if not isinstance(name, str):
        raise TypeError(f"must be a name, not {type(name).__name__}")
    known = {each.removeprefix(prefix): number for each, number in enum.items() if number}
    number = known.get(name.upper().replace("-", "_").removeprefix(prefix))
    if number is None:
        raise ValueError(f"{name!r} is not known: use one of {', '.join(known)}")
    return int(number)


def _addresses(addresses: str | Sequence[str]) -> Iterable[str]:
    return (addresses,) if isinstance(addresses, str) else addresses


def _attachment(attachment: Attachment) -> email_pb2.Attachment:
    return email_pb2.Attachment(
        filename=attachment.filename,
        content_type=attachment.content_type,
        content=attachment.content,
        content_id=attachment.content_id,
    )


def _put_time(stamp: Timestamp, when: datetime | None) -> None:
    if when is None:
        return
    if when.tzinfo is None:
        raise ValueError("has no time zone: use for example datetime.now(UTC) + timedelta(hours=1)")
    stamp.FromDatetime(when)
    stamp.SetInParent()  # the epoch itself would otherwise count as unset


def _plain(value: object) -> Any:  # noqa: ANN401 - what JSON has
    """What JSON has, of any mapping and sequence: google.protobuf.Struct takes dicts and lists only."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"hold a {type(value).__name__}, which JSON has not: pass it as text")


def _member(kind: type[_Enum], enum: Any, prefix: str, number: int) -> _Enum:  # noqa: ANN401 - any enum of the contract
    try:
        return kind(enum.Name(number).removeprefix(prefix))
    except ValueError:  # a newer service says what this version does not know
        return kind("UNKNOWN")


def _delivery(number: int) -> DeliveryState | None:
    return _member(DeliveryState, email_pb2.DeliveryState, "DELIVERY_STATE_", number) if number else None


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _time_or_none(email: email_pb2.Email, name: str) -> datetime | None:
    return _time(getattr(email, name)) if email.HasField(name) else None  # type: ignore[arg-type]

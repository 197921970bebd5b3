"""The words of the client: what is sent, and what the service tells about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Required, TypedDict


class EmailKind(StrEnum):
    """What an email is for. It decides the default priority and the default expiry."""

    UNKNOWN = "UNKNOWN"
    """A kind that this version of the client does not know."""
    WELCOME = "WELCOME"
    EMAIL_CONFIRMATION = "EMAIL_CONFIRMATION"
    PASSWORD_RESET = "PASSWORD_RESET"  # noqa: S105 - a kind of email
    SUBSCRIPTION_CHANGED = "SUBSCRIPTION_CHANGED"
    QUOTA_WARNING = "QUOTA_WARNING"
    SYSTEM_NOTIFICATION = "SYSTEM_NOTIFICATION"


class Priority(StrEnum):
    """Which lane an email waits in."""

    UNKNOWN = "UNKNOWN"
    HIGH = "HIGH"
    NORMAL = "NORMAL"
    LOW = "LOW"


class EmailStatus(StrEnum):
    """Where an email is on its way to the provider."""

    UNKNOWN = "UNKNOWN"
    QUEUED = "QUEUED"
    SCHEDULED = "SCHEDULED"
    SENDING = "SENDING"
    RETRYING = "RETRYING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    SUPPRESSED = "SUPPRESSED"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to the email by itself."""
        return self in _ENDS


_ENDS = frozenset(
    {
        EmailStatus.SUCCESS,
        EmailStatus.FAILED,
        EmailStatus.CANCELLED,
        EmailStatus.EXPIRED,
        EmailStatus.SUPPRESSED,
    }
)


class DeliveryState(StrEnum):
    """What the provider told about an email that it took."""

    UNKNOWN = "UNKNOWN"
    SENT = "SENT"
    DELAYED = "DELAYED"
    DELIVERED = "DELIVERED"
    BOUNCED = "BOUNCED"
    COMPLAINED = "COMPLAINED"
    DELIVERY_FAILED = "DELIVERY_FAILED"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that travels with an email.

    Attributes:
        filename: What the recipient sees.
        content: The file itself, not base64.
        content_type: MIME type; empty: derived from the filename.
        content_id: Name under which the html refers to it, ``cid:logo``; empty: an ordinary attachment.
    """

    filename: str
    content: bytes = field(repr=False)
    content_type: str = ""
    content_id: str = ""


class EmailFields(TypedDict, total=False):
    """The arguments of ``send``; ``OutgoingEmail`` says what each means."""

    idempotency_key: Required[str]
    kind: Required[EmailKind | str]
    to: Required[str | Sequence[str]]
    subject: str
    html: str
    text: str
    template: str
    variables: Mapping[str, Any]
    from_address: str
    cc: str | Sequence[str]
    bcc: str | Sequence[str]
    reply_to: str | Sequence[str]
    priority: Priority | str | None
    headers: Mapping[str, str]
    tags: Mapping[str, str]
    attachments: Sequence[Attachment]
    send_at: datetime | None
    expire_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingEmail:
    """One email to be sent: written out (subject, html, text) or made from a template.

    Attributes:
        idempotency_key: Names this email; see ``build_idempotency_key``. 1-256 printable ASCII characters.
        kind: What it is for: ``EmailKind.WELCOME``, ``"WELCOME"`` or ``"welcome"``.
        to: Recipients: one address or several. ``to``, ``cc`` and ``bcc`` together: 1-50.
        subject: 1-998 characters.
        html: The HTML body.
        text: The plain text body; at least one of the two.
        template: Name of a template, instead of subject, html and text.
        variables: What the template's variables stand for: values that JSON has.
        from_address: The sender; empty: the service's default.
        cc: Recipients of a copy.
        bcc: Recipients of a copy that the others do not see.
        reply_to: Where answers go.
        priority: Which lane; None: that of the kind.
        headers: Headers of the email, by name.
        tags: Labels that the provider keeps.
        attachments: Files that travel with it.
        send_at: Not to be sent before, with a time zone; None: at once.
        expire_at: Not to be sent afterwards, with a time zone; None: the kind's default.
    """

    idempotency_key: str
    kind: EmailKind | str
    to: str | Sequence[str]
    subject: str = ""
    html: str = field(default="", repr=False)
    text: str = field(default="", repr=False)
    template: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict, repr=False)
    from_address: str = ""
    cc: str | Sequence[str] = ()
    bcc: str | Sequence[str] = ()
    reply_to: str | Sequence[str] = ()
    priority: Priority | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[Attachment] = ()
    send_at: datetime | None = None
    expire_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SendResult:
    """The email is accepted: stored durably, and it will end.

    Attributes:
        email_id: A UUID as text.
        status: At the moment of the answer.
        deduplicated: An earlier call had been accepted under the key; this is that email.
        accepted_at: When it was accepted; of a deduplicated call, when the first was. UTC.
    """

    email_id: str
    status: EmailStatus
    deduplicated: bool
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class Email:
    """An accepted email, as the service knows it. Times are UTC.

    Attributes:
        email_id: A UUID as text.
        idempotency_key: As it came.
        kind: What it is for.
        priority: Its lane.
        from_address: The sender.
        to: The recipients; empty once they were erased.
        subject: Empty once it was erased.
        status: Where it is on its way.
        attempts: Requests to the provider that carried it and were answered for its own sake, or not at all.
        last_error: What went wrong last; empty: nothing.
        provider_message_id: The provider's id of it; empty: not known.
        delivery: What the provider told since it took it; None: it has not taken it.
        created_at: When it was accepted.
        updated_at: When anything about it changed last.
        send_at: Not sent before; None: at once.
        expire_at: Not sent afterwards; None: never expires.
        sent_at: When the provider took it.
        next_attempt_at: When it is tried again; only while RETRYING or SCHEDULED.
        caller: Whose token it came with first; empty: it was accepted while no tokens were asked for.
    """

    email_id: str
    idempotency_key: str
    kind: EmailKind
    priority: Priority
    from_address: str
    to: tuple[str, ...]
    subject: str
    status: EmailStatus
    attempts: int
    last_error: str
    provider_message_id: str
    delivery: DeliveryState | None
    created_at: datetime
    updated_at: datetime
    send_at: datetime | None
    expire_at: datetime | None
    sent_at: datetime | None
    next_attempt_at: datetime | None
    caller: str = ""


@dataclass(frozen=True, slots=True)
class EmailEvent:
    """One change in the life of an email.

    Attributes:
        email_id: Which email.
        status: Its status since then.
        delivery: What the provider has told by then; None: it has not taken it.
        at: When it changed, UTC.
        attempt: Attempts made by then.
        reason: Why, for a retry or an end other than SUCCESS; empty: nothing to say.
        provider_message_id: The provider's id; empty: not known.
        resume_token: ``watch(resume_token=...)`` goes on after this event. Good for at least 24 h.
    """

    email_id: str
    status: EmailStatus
    delivery: DeliveryState | None
    at: datetime
    attempt: int
    reason: str
    provider_message_id: str
    resume_token: str

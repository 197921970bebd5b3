"""Between emails and what travels on a stream."""

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from google.protobuf.message import DecodeError

from sred.email.v1 import email_pb2
from sred.email.v1.stream_message_pb2 import (
    EmailContent,
    EmailStreamMessage,
    EncryptedContent,
    RawStreamEntry,
    StoredContent,
)
from sred_email_core.encryption import envelope
from sred_email_core.errors import MalformedEntryError
from sred_email_core.queue.keys import Lane

INLINE_LIMIT_BYTES = 64 * 1024
"""Content over this size, and attachments, stay in PostgreSQL: the memory of Redis is for many small emails."""

_DOMAIN = re.compile(r"[a-z0-9.-]{1,253}")
_KINDS = {
    number: name.removeprefix("EMAIL_KIND_")
    for name, number in email_pb2.EmailKind.items()
    if number != email_pb2.EMAIL_KIND_UNSPECIFIED
}
"""Names of the known kinds, without prefix."""
_PRIORITIES = {lane: email_pb2.Priority.Value(f"PRIORITY_{lane.name}") for lane in Lane}
_CONTENT_TAG = bytes([EmailStreamMessage.CONTENT_FIELD_NUMBER << 3 | 2])
"""What stands before the content in a serialized message. Source: https://protobuf.dev/programming-guides/encoding/"""


@dataclass(frozen=True, slots=True)
class QueuedEmail:
    """An email on its way to or from a stream.

    Attributes:
        email_id: UUID as text.
        kind: Name of the EmailKind, without prefix.
        lane: The stream that it travels on.
        accepted_at: When the log row was written.
        expire_at: Not to be sent after this; None: never expires.
        content: What is sent; None: it is in the log, or encrypted and not read yet.
        alone: It must not share a batch: it has attachments, which the batch endpoint does not take, or a batch that
            carried it was refused.
        size_bytes: Of the content.
        delay: Until it is due, when it is published.
        send_at: What it was scheduled for; None: it was not, or it is not known.
        encrypted: The content as it is kept and travels, where that is encrypted.
        traceparent: W3C trace context of its acceptance; None: it belongs to no trace.
        frozen: The content, serialized, where whoever made this has it at hand: then it is not serialized again.
    """

    email_id: str
    kind: str
    lane: Lane
    accepted_at: datetime
    expire_at: datetime | None
    content: EmailContent | None
    alone: bool
    size_bytes: int
    delay: timedelta = timedelta()
    send_at: datetime | None = None
    encrypted: EncryptedContent | None = field(default=None, repr=False)
    traceparent: str | None = None
    frozen: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def hints(self) -> bytes:
        """What the take script needs to know.

        Size in bytes, 1 if it goes alone, expiry in Unix ms (0: none), and sender domain; that is left out where it is
        not known, or is none that a hint can hold.
        """
        expires_ms = int(self.expire_at.timestamp() * 1000) if self.expire_at is not None else 0
        domain = self.sender_domain
        hints = b"%d %d %d" % (self.size_bytes, self.alone, expires_ms)
        return hints + b" " + domain.encode() if domain else hints

    @property
    def sender_domain(self) -> str:
        """Domain of its sender in lower case; empty: it is not known, or is none that a hint can hold."""
        if self.content is not None:
            return domain_of(self.content.from_address)
        return self.encrypted.sender_domain if self.encrypted is not None else ""

    @classmethod
    def of_content(  # noqa: PLR0913 - the columns of a row
        cls,
        *,
        email_id: str,
        kind: str,
        priority: str,
        accepted_at: datetime,
        expire_at: datetime | None,
        content: bytes,
        alone: bool = False,
        delay: timedelta = timedelta(),
        send_at: datetime | None = None,
        traceparent: str | None = None,
    ) -> "QueuedEmail":
        """Build from what the log holds.

        Args:
            email_id: UUID as text.
            kind: As in the log.
            priority: As in the log.
            accepted_at: As in the log.
            expire_at: As in the log.
            content: The log's ``message``: serialized EmailContent, or encrypted.
            alone: As in the log.
            delay: Until it is due.
            send_at: As in the log.
            traceparent: As in the log.

        Raises:
            DecodeError: The content is none.
        """
        encrypted = envelope.from_stored(content)
        parsed = EmailContent.FromString(content) if encrypted is None else None
        attached = parsed.attachments if parsed is not None else encrypted is not None and encrypted.has_attachments
        return cls(
            email_id=email_id,
            kind=kind,
            lane=Lane[priority],
            accepted_at=accepted_at,
            expire_at=expire_at,
            content=parsed,
            alone=alone or bool(attached),
            size_bytes=len(content),
            delay=delay,
            send_at=send_at,
            traceparent=traceparent,
            encrypted=encrypted,
            frozen=content if encrypted is None else None,
        )


def encode(email: QueuedEmail) -> bytes:
    """Serialize for the stream; large content is left in the log and the message says so.

    Args:
        email: With its content.

    Returns:
        A serialized ``EmailStreamMessage``.
    """
    message = EmailStreamMessage(
        email_id=email.email_id,
        kind=email_pb2.EmailKind.Value(f"EMAIL_KIND_{email.kind}"),
        priority=_PRIORITIES[email.lane],
        size_bytes=email.size_bytes,
        alone=email.alone,
        traceparent=email.traceparent or "",
    )
    message.accepted_at.FromDatetime(email.accepted_at)
    if email.expire_at is not None:
        message.expire_at.FromDatetime(email.expire_at)
    if email.send_at is not None:
        message.send_at.FromDatetime(email.send_at)
    if email.size_bytes > INLINE_LIMIT_BYTES:
        message.stored.CopyFrom(StoredContent())
    elif email.encrypted is not None and not email.encrypted.has_attachments:
        message.encrypted.CopyFrom(email.encrypted)
    elif email.encrypted is not None or email.content is None or email.content.attachments:
        message.stored.CopyFrom(StoredContent())
    elif email.frozen is None:
        message.content.CopyFrom(email.content)
    else:  # a field may stand behind all others
        return message.SerializeToString() + _CONTENT_TAG + _varint(len(email.frozen)) + email.frozen
    return message.SerializeToString()


def domain_of(sender: str) -> str:
    """Domain of a sender in lower case, as a hint of the queue can hold it; empty: it is none such."""
    domain = sender.rpartition("@")[2].rstrip("> ").lower()
    return domain if _DOMAIN.fullmatch(domain) else ""


def _varint(number: int) -> bytes:
    """Encode a length as protobuf does: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def decode(fields: Mapping[bytes, bytes], lane: Lane) -> QueuedEmail:
    """Read a stream entry.

    Args:
        fields: Names and values of the entry.
        lane: The stream that it came from, whatever the message says.

    Raises:
        MalformedEntryError: The entry is no email of this system, or contradicts itself.
    """
    if b"email_id" not in fields or b"message" not in fields:
        raise MalformedEntryError("the entry needs the fields email_id and message")
    try:
        email_id = uuid.UUID(fields[b"email_id"].decode("ascii"))
    except ValueError as e:
        raise MalformedEntryError("email_id is no UUID") from e
    try:
        message = EmailStreamMessage.FromString(fields[b"message"])
    except DecodeError as e:
        raise MalformedEntryError("message is no EmailStreamMessage") from e
    body = message.WhichOneof("body")
    if message.email_id != str(email_id) or body is None:
        raise MalformedEntryError("message does not belong to this email_id, or has no body")
    if body == "encrypted" and not message.encrypted.key_id:
        raise MalformedEntryError("message is encrypted without the name of a key")
    kind = _KINDS.get(message.kind)
    if kind is None:
        raise MalformedEntryError("message has no known kind")
    try:
        accepted_at = message.accepted_at.ToDatetime(UTC)
        expire_at = message.expire_at.ToDatetime(UTC) if message.HasField("expire_at") else None
        send_at = message.send_at.ToDatetime(UTC) if message.HasField("send_at") else None
    except ValueError as e:
        raise MalformedEntryError("message has an impossible time") from e
    return QueuedEmail(
        email_id=message.email_id,
        kind=kind,
        lane=lane,
        accepted_at=accepted_at,
        expire_at=expire_at,
        content=message.content if body == "content" else None,
        alone=message.alone,
        size_bytes=message.size_bytes,
        send_at=send_at,
        encrypted=message.encrypted if body == "encrypted" else None,
        traceparent=message.traceparent or None,
    )


def encode_raw_entry(stream: str, entry_id: str, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Keep an entry that is no email, whole: a serialized ``RawStreamEntry``."""
    return RawStreamEntry(
        stream=stream,
        entry_id=entry_id,
        fields=[RawStreamEntry.Field(name=name, value=value) for name, value in pairs],
    ).SerializeToString()

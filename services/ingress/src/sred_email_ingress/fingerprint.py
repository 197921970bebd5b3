"""What makes two requests under one idempotency key the same: a digest of the caller's canonical request.

The encoding is written out here and versioned, rather than left to protobuf, whose deterministic serialization
promises nothing across its releases: fingerprints are compared for as long as rows live, and between two versions of
the service. What it says:

* Every field has its place, and everything of variable length comes after its length or count, so that no two requests
  encode alike.
* Maps are sorted; lists keep their order.
* ``idempotency_key`` is what is compared under; ``send_at`` and ``expire_at`` are left out, since a retry computes
  "now + 1 h" anew.
* A template counts by its id and variables, an attachment by its content; a sender left to the settings stays unset,
  whatever the settings say by now.
* An unset priority counts as its kind's default, so that a caller who begins to name it does not change the email.
* Fields that this version does not know never get here: validation refuses them. A field added to the contract gets its
  place at the end, after its number, and is left out while it is unset, so that older fingerprints keep their value.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from struct import Struct as BinaryLayout

from google.protobuf.struct_pb2 import Value

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.email_pb2 import Attachment, EmailKind, Priority

_VERSION = b"sred.email.v1 fingerprint 1\n"
_DEFAULT_PRIORITY = {
    EmailKind.EMAIL_KIND_WELCOME: Priority.PRIORITY_HIGH,
    EmailKind.EMAIL_KIND_EMAIL_CONFIRMATION: Priority.PRIORITY_HIGH,
    EmailKind.EMAIL_KIND_PASSWORD_RESET: Priority.PRIORITY_HIGH,
    EmailKind.EMAIL_KIND_SUBSCRIPTION_CHANGED: Priority.PRIORITY_NORMAL,
    EmailKind.EMAIL_KIND_QUOTA_WARNING: Priority.PRIORITY_NORMAL,
    EmailKind.EMAIL_KIND_SYSTEM_NOTIFICATION: Priority.PRIORITY_NORMAL,
}
"""Part of the encoding: were a default to change, this table would stay, or yesterday's calls could not be retried."""

_SIZE = BinaryLayout(">Q").pack
_EMPTY = _SIZE(0)
_NUMBER = BinaryLayout(">i").pack
_DOUBLE = BinaryLayout(">d").pack
_NO_CONTENT, _INLINE, _TEMPLATE = b"\x00", b"\x01", b"\x02"
_UNSET, _NULL, _FALSE, _TRUE, _DOUBLE_VALUE, _STRING, _STRUCT, _LIST = (bytes([kind]) for kind in range(8))


def fingerprint(request: SendEmailRequest) -> bytes:
    """Digest what a request asks for, without its key and its times.

    Args:
        request: A request without violations.

    Returns:
        32 bytes, the same for a retry, and different whenever the email would be another one.
    """
    if not request.attachments:
        return sha256(_VERSION + b"".join(canonical_parts(request))).digest()
    digest = sha256(_VERSION)
    for part in canonical_parts(request):
        digest.update(part)
    return digest.digest()


def canonical_parts(request: SendEmailRequest) -> Iterator[bytes]:
    """Encode a request canonically, in pieces, so that large attachments are not copied together."""
    priority = request.priority or _DEFAULT_PRIORITY.get(request.kind, Priority.PRIORITY_UNSPECIFIED)
    yield _NUMBER(request.kind) + _NUMBER(priority) + _text(request.from_address)
    for addresses in (request.to, request.cc, request.bcc, request.reply_to):
        yield _texts(addresses)
    yield _content(request) + _map(request.headers) + _map(request.tags) + _SIZE(len(request.attachments))
    yield from _attachments(request.attachments)


def _content(request: SendEmailRequest) -> bytes:
    chosen = request.WhichOneof("content")
    if chosen == "inline":
        inline = request.inline
        return _INLINE + _text(inline.subject) + _text(inline.html) + _text(inline.text)
    if chosen == "template":
        template = request.template
        return _TEMPLATE + _text(template.template_id) + _struct(template.variables.fields)
    return _NO_CONTENT


def _attachments(attachments: Sequence[Attachment]) -> Iterator[bytes]:
    for attachment in attachments:
        content = attachment.content
        yield (
            _text(attachment.filename)
            + _text(attachment.content_type)
            + _text(attachment.content_id)
            + _SIZE(len(content))
        )
        yield content


def _text(text: str) -> bytes:
    data = text.encode()
    return _SIZE(len(data)) + data


def _texts(texts: Sequence[str]) -> bytes:
    if not texts:
        return _EMPTY
    return _SIZE(len(texts)) + b"".join(map(_text, texts))


def _map(entries: Mapping[str, str]) -> bytes:
    if not entries:
        return _EMPTY
    return _SIZE(len(entries)) + b"".join(_text(name) + _text(entries[name]) for name in sorted(entries))


def _struct(fields: Mapping[str, Value]) -> bytes:
    return _SIZE(len(fields)) + b"".join(_text(name) + _value(fields[name]) for name in sorted(fields))


def _value(value: Value) -> bytes:
    encoded = _UNSET
    match value.WhichOneof("kind"):
        case "null_value":
            encoded = _NULL
        case "bool_value":
            encoded = _TRUE if value.bool_value else _FALSE
        case "number_value":
            encoded = _DOUBLE_VALUE + _DOUBLE(value.number_value)
        case "string_value":
            encoded = _STRING + _text(value.string_value)
        case "struct_value":
            encoded = _STRUCT + _struct(value.struct_value.fields)
        case "list_value":
            values = value.list_value.values
            encoded = _LIST + _SIZE(len(values)) + b"".join(map(_value, values))
    return encoded

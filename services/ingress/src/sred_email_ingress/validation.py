"""What a SendEmailRequest must be like, as far as that depends on the request alone.

No clock, no settings, no I/O: what depends on those is checked after the idempotency key was looked up, so that the
retry of an accepted call is answered whatever has changed since.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from itertools import islice

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.email_pb2 import Attachment, EmailKind, InlineContent, Priority
from sred_email_core.errors import FieldViolation, InvalidRequestError
from sred_email_ingress.addresses import CONTROL_CHARACTER, InvalidAddressError, parse_address
from sred_email_ingress.template_limits import MAX_RENDERED_BYTES, template_violations
from sred_email_ingress.violations import within_bounds

MAX_KEY_CHARACTERS = 256
MAX_RECIPIENTS = 50
MAX_REPLY_TO = 50
MAX_SUBJECT_CHARACTERS = 998
MAX_HEADERS = 50
MAX_HEADER_NAME_CHARACTERS = 126
MAX_HEADER_VALUE_CHARACTERS = 998
MAX_TAGS = 73
"""Resend takes 75, and two are the system's own. Source: https://resend.com/docs/dashboard/emails/tags"""
MAX_ATTACHMENTS = 100
MAX_FILENAME_CHARACTERS = 255
MAX_CONTENT_TYPE_CHARACTERS = 255
MAX_CONTENT_ID_CHARACTERS = 127
"""Source: https://resend.com/docs/dashboard/emails/embed-inline-images ("less than 128")"""
MAX_EMAIL_BYTES = (40 << 20) - (64 << 10)
"""40 MB, less what the provider's request puts around the content."""
_KINDS = frozenset(EmailKind.values()) - {EmailKind.EMAIL_KIND_UNSPECIFIED}
_PRIORITIES = frozenset(Priority.values())
_ATOM = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+"
_HEADER_NAME = re.compile(_ATOM)
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CONTENT_TYPE = re.compile(rf'{_ATOM}/{_ATOM}(?: *; *{_ATOM}=(?:{_ATOM}|"[^"\\\x00-\x1f\x7f]*"))*')
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.@]+")
_OWN_TAGS = frozenset({"email_id", "kind"})
_SYSTEM_HEADER = re.compile(
    "from|to|cc|bcc|reply-to|subject|date|message-id|sender|return-path|received|mime-version|delivered-to|"
    "dkim-signature|domainkey-signature|authentication-results|received-spf|idempotency-key|"
    "(?:content|resent|arc|x-ses|x-amz|x-resend)-.*",
    re.IGNORECASE,
)
_FIRST_SECOND, _LAST_SECOND, _NANOS = -62_135_596_800, 253_402_300_799, 1_000_000_000
"""Source: https://protobuf.dev/reference/protobuf/google.protobuf/#timestamp (0001-01-01 to 9999-12-31)"""
_UNNAMEABLE = re.compile(r"[^ !#-\[\]-~]")
_NAME_SHOWN_CHARACTERS = 40
_UNKNOWN_FIELDS_SHOWN = 3
_MOST_BYTES_TO_NAME_FROM = 2048
"""Bodies apart: in more than that, unknown fields are not named one by one, since millions would take seconds."""
_CONTROL = "contains a line break or another control character"
_NUL = "contains NUL (U+0000), which cannot be stored"


def find_violations(request: SendEmailRequest) -> list[FieldViolation]:
    """Find everything that is wrong with a request.

    Args:
        request: Any message that could be parsed. What it has too much of may be discarded, if it is refused.

    Returns:
        A violation for each bad field, in the order of the fields; empty if the request is fine. At most
        50, and short enough to travel in the trailers of a call. None holds content of the request.
    """
    found = _Violations()
    _check_for_many_unknown_fields(request, found)
    _check_envelope(request, found)
    _check_addresses(request, found)
    _check_content(request, found)
    if request.headers:
        _check_headers(request.headers, found)
    if request.attachments:
        _check_attachments(request.attachments, found)
    if request.tags:
        _check_tags(request.tags, found)
    _check_schedule(request, found)
    _check_size(request, found)
    return found.within_bounds()


def parse_email_id(text: str) -> uuid.UUID:
    """Read the id of an email.

    Raises:
        InvalidRequestError: It is no UUID.
    """
    try:
        return uuid.UUID(text)
    except ValueError as e:
        raise InvalidRequestError([FieldViolation("email_id", "must be a UUID")]) from e


class _Violations:
    """Collects violations; what it gives back is within the bounds."""

    def __init__(self) -> None:
        self._entries: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        self._entries.append(FieldViolation(field, description))

    def within_bounds(self) -> list[FieldViolation]:
        return within_bounds(self._entries)


def _check_envelope(request: SendEmailRequest, found: _Violations) -> None:
    key = request.idempotency_key
    if not key:
        found.add("idempotency_key", "is required")
    elif len(key) > MAX_KEY_CHARACTERS:
        found.add("idempotency_key", f"is longer than {MAX_KEY_CHARACTERS} characters")
    elif not (key.isascii() and key.isprintable()):
        found.add("idempotency_key", "may hold printable ASCII characters only")
    if request.kind not in _KINDS:
        found.add("kind", "is no kind of email known here" if request.kind else "is required")
    if request.priority not in _PRIORITIES:
        found.add("priority", "is no priority known here")
    _check_unknown_fields(request, "", found)


def _check_for_many_unknown_fields(request: SendEmailRequest, found: _Violations) -> None:
    """Look for unknown fields in a request that may hold many; they are discarded, as the request is refused."""
    size = request.ByteSize()
    if size - len(request.inline.html) - len(request.inline.text) > _MOST_BYTES_TO_NAME_FROM:
        request.DiscardUnknownFields()
        if request.ByteSize() < size:
            found.add("request", "holds fields that are not known to this version")


def _check_unknown_fields(message: Message, path: str, found: _Violations) -> None:
    """Refuse what a newer caller asks for: doing only a part of it, silently, is worse than a clear no."""
    unknown = UnknownFieldSet(message)
    for index in range(min(len(unknown), _UNKNOWN_FIELDS_SHOWN)):
        found.add(f"{path}field_{unknown[index].field_number}", "is not known to this version")


def _check_addresses(request: SendEmailRequest, found: _Violations) -> None:
    if request.from_address:
        _check_address(request.from_address, "from_address", found)
    to, cc, bcc, reply_to = request.to, request.cc, request.bcc, request.reply_to
    if not to:
        found.add("to", "at least one recipient is required")
    elif len(to) + len(cc) + len(bcc) > MAX_RECIPIENTS:
        found.add("to", f"to, cc and bcc together name more than {MAX_RECIPIENTS} recipients")
    if len(reply_to) > MAX_REPLY_TO:
        found.add("reply_to", f"holds more than {MAX_REPLY_TO} addresses")
    for field, addresses in (("to", to), ("cc", cc), ("bcc", bcc), ("reply_to", reply_to)):
        for index, address in enumerate(islice(addresses, MAX_RECIPIENTS)):
            _check_address(address, (field, index), found)


def _check_address(address: str, field: str | tuple[str, int], found: _Violations) -> None:
    try:
        parse_address(address)
    except InvalidAddressError as error:
        found.add(field if isinstance(field, str) else f"{field[0]}[{field[1]}]", str(error))


def _check_content(request: SendEmailRequest, found: _Violations) -> None:
    content = request.WhichOneof("content")
    if content == "inline":
        _check_inline(request.inline, found)
    elif content == "template":
        for violation in template_violations(request.template):
            found.add(violation.field, violation.description)
        _check_unknown_fields(request.template, "template.", found)
    else:
        found.add("content", "is required: set inline or template")


def _check_inline(inline: InlineContent, found: _Violations) -> None:
    subject, html, text = inline.subject, inline.html, inline.text
    if not subject:
        found.add("inline.subject", "is required")
    else:
        _check_text(subject, MAX_SUBJECT_CHARACTERS, "inline.subject", found)
    if not html and not text:
        found.add("inline.html", "html or text is required")
    if "\0" in html:
        found.add("inline.html", _NUL)
    if "\0" in text:
        found.add("inline.text", _NUL)
    _check_unknown_fields(inline, "inline.", found)


def _check_text(text: str, most_characters: int, field: str, found: _Violations) -> None:
    if len(text) > most_characters:
        found.add(field, f"is longer than {most_characters} characters")
    if CONTROL_CHARACTER.search(text, 0, most_characters):
        found.add(field, _CONTROL)


def _check_headers(headers: Mapping[str, str], found: _Violations) -> None:
    if len(headers) > MAX_HEADERS:
        found.add("headers", f"holds more than {MAX_HEADERS} headers")
    for name, value in sorted(islice(headers.items(), MAX_HEADERS)):
        field = _entry("headers", name)
        if len(name) > MAX_HEADER_NAME_CHARACTERS or not _HEADER_NAME.fullmatch(name):
            found.add(field, f"the name is not 1 to {MAX_HEADER_NAME_CHARACTERS} letters, digits and !#$%&'*+-.^_`|~")
        elif _SYSTEM_HEADER.fullmatch(name):
            found.add(field, "is a header that the system or the provider sets")
        _check_text(value, MAX_HEADER_VALUE_CHARACTERS, field, found)


def _check_tags(tags: Mapping[str, str], found: _Violations) -> None:
    if len(tags) > MAX_TAGS:
        found.add("tags", f"holds more than {MAX_TAGS} tags")
    for name, value in sorted(islice(tags.items(), MAX_TAGS)):
        if not _TAG.fullmatch(name):
            found.add(_entry("tags", name), "the name is not 1 to 256 ASCII letters, digits, _ and -")
        elif name in _OWN_TAGS:
            found.add(_entry("tags", name), "is a tag that the system sets")
        if not _TAG.fullmatch(value):
            found.add(_entry("tags", name), "the value is not 1 to 256 ASCII letters, digits, _ and -")


def _check_attachments(attachments: Sequence[Attachment], found: _Violations) -> None:
    if len(attachments) > MAX_ATTACHMENTS:
        found.add("attachments", f"holds more than {MAX_ATTACHMENTS} files")
    for index, attachment in enumerate(islice(attachments, MAX_ATTACHMENTS)):
        _check_attachment(attachment, f"attachments[{index}].", found)


def _check_attachment(attachment: Attachment, path: str, found: _Violations) -> None:
    filename, content_type, content_id = attachment.filename, attachment.content_type, attachment.content_id
    if not filename:
        found.add(path + "filename", "is required")
    else:
        _check_text(filename, MAX_FILENAME_CHARACTERS, path + "filename", found)
        if "/" in filename or "\\" in filename:
            found.add(path + "filename", "is a path, not a name: leave out / and \\")
    if content_type and (len(content_type) > MAX_CONTENT_TYPE_CHARACTERS or not _CONTENT_TYPE.fullmatch(content_type)):
        found.add(path + "content_type", "is no MIME type such as application/pdf")
    if not attachment.content:
        found.add(path + "content", "is empty")
    if content_id and (len(content_id) > MAX_CONTENT_ID_CHARACTERS or not _CONTENT_ID.fullmatch(content_id)):
        found.add(path + "content_id", "is not 1 to 127 letters, digits and .@!#$%&'*+-/=?^_`{|}~")
    _check_unknown_fields(attachment, path, found)


def _check_schedule(request: SendEmailRequest, found: _Violations) -> None:
    if request.HasField("send_at"):
        _check_time(request.send_at, "send_at", found)
    if request.HasField("expire_at"):
        _check_time(request.expire_at, "expire_at", found)


def _check_time(time: Timestamp, field: str, found: _Violations) -> None:
    if not (_FIRST_SECOND <= time.seconds <= _LAST_SECOND and 0 <= time.nanos < _NANOS):
        found.add(field, "is no time between the years 1 and 9999")


def _check_size(request: SendEmailRequest, found: _Violations) -> None:
    size = request.ByteSize()
    for attachment in islice(request.attachments, MAX_ATTACHMENTS):  # more of them are refused anyhow
        size += attachment.ByteSize() // 3 + 2
    if request.HasField("template"):
        size += MAX_RENDERED_BYTES  # so that none becomes too large by rendering
    if size <= MAX_EMAIL_BYTES:
        return
    if request.attachments:
        field = "attachments"
    else:
        field = "inline.html" if len(request.inline.html) >= len(request.inline.text) else "inline.text"
    found.add(field, "the whole email is larger than 40 MB (after base64)")


def _entry(field: str, name: str) -> str:
    """Path of a map's entry, its name safe to print and short."""
    shown = _UNNAMEABLE.sub("?", name[:_NAME_SHOWN_CHARACTERS])
    return f'{field}["{shown}{"..." if len(name) > _NAME_SHOWN_CHARACTERS else ""}"]'

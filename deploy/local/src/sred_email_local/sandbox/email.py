"""An email as the API takes it: reading a request's JSON, and what is wrong with it. Pure."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sred_email_local.sandbox.refusal import Refusal, invalid, missing

MAX_RECIPIENTS = 50
_ATOM = r'[^\s@<>,;:"()\[\]\\]+'
_ADDRESS = re.compile(rf"(?:[^<>\r\n]*<{_ATOM}@{_ATOM}\.{_ATOM}>|{_ATOM}@{_ATOM}\.{_ATOM})")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_ADDRESS_RULE = "The email address needs to follow the `email@example.com` or `Name <email@example.com>` format."
_NOT_IN_A_BATCH = ("attachments", "scheduled_at")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with an email; `content` is decoded, and empty where the email names a URL instead."""

    filename: str
    content_type: str
    content_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Email:
    """An email without a fault.

    Attributes:
        source: The JSON object it was read from.
    """

    sender: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    reply_to: tuple[str, ...]
    subject: str
    html: str
    text: str
    tags: Mapping[str, str]
    headers: Mapping[str, str]
    attachments: tuple[Attachment, ...]
    source: Mapping[str, object] = field(repr=False)


def read_email(source: object, *, in_batch: bool) -> Email:
    """Read one email of a request.

    Args:
        source: The decoded JSON.
        in_batch: Whether it came by the batch endpoint, which takes no attachments and no time.

    Raises:
        Refusal: The first fault found, in the API's words.
    """
    if not isinstance(source, dict):
        raise invalid("An email must be a JSON object.")
    for name in _NOT_IN_A_BATCH if in_batch else ():
        if source.get(name):
            raise invalid(f"The `{name}` field is not supported in batches.")
    email = Email(
        sender=_sender(source),
        to=_addresses(source, "to"),
        cc=_addresses(source, "cc"),
        bcc=_addresses(source, "bcc"),
        reply_to=_addresses(source, "reply_to"),
        subject=_text(source, "subject"),
        html=_text(source, "html"),
        text=_text(source, "text"),
        tags=_tags(source),
        headers=_headers(source),
        attachments=tuple(_attachment(entry) for entry in _list(source, "attachments")),
        source=source,
    )
    if not email.to:
        raise missing("Missing `to` field.")
    if not email.subject:
        raise missing("Missing `subject` field.")
    if not email.html and not email.text:
        raise missing("Missing `html` or `text` field.")
    if len(email.to) + len(email.cc) + len(email.bcc) > MAX_RECIPIENTS:
        raise invalid(f"The number of recipients must not exceed {MAX_RECIPIENTS}.")
    return email


def peek_subject(source: object) -> str:
    """The subject of what may be a faulty email; empty if it has none."""
    subject = source.get("subject") if isinstance(source, dict) else None
    return subject if isinstance(subject, str) else ""


def peek_recipients(source: object) -> tuple[str, ...]:
    """The `to` addresses of what may be a faulty email."""
    to = source.get("to") if isinstance(source, dict) else None
    if isinstance(to, str):
        return (to,)
    return tuple(address for address in to if isinstance(address, str)) if isinstance(to, list) else ()


def _text(source: Mapping[str, object], name: str) -> str:
    value = source.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(f"The `{name}` field must be a string.")
    return value


def _list(source: Mapping[str, object], name: str) -> list[object]:
    value = source.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(f"The `{name}` field must be an array.")
    return value


def _sender(source: Mapping[str, object]) -> str:
    sender = _text(source, "from")
    if not sender:
        raise missing("Missing `from` field.")
    if not _ADDRESS.fullmatch(sender):
        raise invalid(f"Invalid `from` field. {_ADDRESS_RULE}")
    return sender


def _addresses(source: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = source.get(name)
    addresses = [value] if isinstance(value, str) else _list(source, name)
    read = tuple(address for address in addresses if isinstance(address, str) and _ADDRESS.fullmatch(address))
    if len(read) != len(addresses):
        raise invalid(f"Invalid `{name}` field. {_ADDRESS_RULE}")
    return read


def _tags(source: Mapping[str, object]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for entry in _list(source, "tags"):
        name, value = (entry.get("name"), entry.get("value")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(value, str):
            raise invalid("Each tag needs a `name` and a `value`.")
        if not _TAG.fullmatch(name) or not _TAG.fullmatch(value):
            raise invalid("Tags should only contain ASCII letters, numbers, underscores, or dashes (at most 256).")
        tags[name] = value
    return tags


def _headers(source: Mapping[str, object]) -> dict[str, str]:
    headers = source.get("headers")
    if headers is None:
        return {}
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise invalid("The `headers` field must be an object of strings.")
    return headers


def _attachment(entry: object) -> Attachment:
    fault = Refusal(422, "invalid_attachment", "Attachment must have either a `content` or `path`.")
    if not isinstance(entry, dict) or not (entry.get("content") or entry.get("path")):
        raise fault
    content = entry.get("content")
    try:
        decoded = bytes(content) if isinstance(content, list) else base64.b64decode(content or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise invalid("The content of an attachment must be Base64.") from None
    return Attachment(
        filename=_text(entry, "filename") or "attachment",
        content_type=_text(entry, "content_type") or "application/octet-stream",
        content_id=_text(entry, "content_id"),
        content=decoded,
    )

"""Idempotency keys made from what an email is about."""

import hashlib
import re
from uuid import UUID

from sred.email.v1.email_pb2 import EMAIL_KIND_UNSPECIFIED, EmailKind

_PREFIX = "EMAIL_KIND_"
_VERSION = "v1"
_ADDRESS = re.compile(r'(?P<local>[^\s<>@,;"]+|"(?:[^"\\]|\\.)+")@(?P<domain>[^\s<>@,;"]+)')


def build_idempotency_key(kind: int | str, recipient: str, *business_ids: str | int | UUID) -> str:
    """Make the key that names one email, the same each time it is built.

    Equal arguments give equal keys, in every process and every version of this library; different ones give different
    keys: the parts are hashed (SHA-256) with their lengths, so that ``("1", "23")`` and ``("12", "3")`` stay apart.
    The key shows the kind and nothing else. It is no secret: who knows all arguments can build it too.

    Args:
        kind: What the email is for: a value of ``EmailKind`` or its name, with or without ``EMAIL_KIND_``.
        recipient: The bare address, without a display name. Surrounding whitespace and the case of the domain do not
            count; the part before the ``@`` counts as it is written (RFC 5321, section 2.4). Of several recipients, the
            one that the email is about.
        business_ids: What the email is about, in a fixed order: the id of the reset request, the invoice, the event.
            One or more. They count as text: ``1`` and ``"1"`` are the same id, so that one which became text on its
            way through a queue still gives the same key; so are a UUID and its lower-case text with hyphens.

    Returns:
        Such as ``password-reset:v1:`` and 64 hexadecimal digits: printable ASCII, under 100 characters.

    Raises:
        TypeError: An argument is of another type.
        ValueError: The kind is not known, the recipient is no bare address, there is no business id, or one is blank.
    """
    name = _kind_name(kind)
    parts = [name, _normalized(recipient), *_texts(business_ids)]
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return f"{name.lower().replace('_', '-')}:{_VERSION}:{digest.hexdigest()}"


def _kind_name(kind: int | str) -> str:
    known = {name.removeprefix(_PREFIX): value for name, value in EmailKind.items() if value != EMAIL_KIND_UNSPECIFIED}
    if isinstance(kind, bool) or not isinstance(kind, int | str):
        raise TypeError(f"kind must be an EmailKind or its name, not {type(kind).__name__}")
    for name, value in known.items():
        if kind == value or (isinstance(kind, str) and kind.removeprefix(_PREFIX) == name):
            return name
    raise ValueError(f"kind {kind!r} is not known: use one of {', '.join(known)}, or a newer version of this library")


def _normalized(recipient: str) -> str:
    if not isinstance(recipient, str):
        raise TypeError(f"recipient must be a str, not {type(recipient).__name__}")
    address = _ADDRESS.fullmatch(recipient.strip())
    if address is None:
        raise ValueError("recipient must be one bare address such as ada@example.com, without a display name")
    return f"{address['local']}@{address['domain'].lower()}"


def _texts(business_ids: tuple[str | int | UUID, ...]) -> list[str]:
    if not business_ids:
        raise ValueError(
            "at least one business id is needed, such as the id of the reset request: a key made of kind and recipient "
            "alone would name the same email for ever, and the second one would never be sent"
        )
    return [_text(business_id, position) for position, business_id in enumerate(business_ids, start=1)]


def _text(business_id: str | int | UUID, position: int) -> str:
    if isinstance(business_id, str):
        if not business_id.strip():
            raise ValueError(f"business id {position} is blank: pass the id that tells this email from the next one")
        return str.__str__(business_id)  # of an enum member that is a str: its value, not its name
    if isinstance(business_id, UUID):
        return str(business_id)
    if isinstance(business_id, int) and not isinstance(business_id, bool):
        return str(int(business_id))
    raise TypeError(f"business id {position} must be a str, an int or a UUID, not {type(business_id).__name__}")

"""Addresses as suppressions know them: one text for all ways to write one, and a digest that tells nothing of it.

The part before the @ is compared without its letter case: whatever RFC 5321 allows, no mailbox provider in use tells
``Ada@`` from ``ada@``, and mail to a suppressed address in other letters would bounce again.
"""

import hashlib

from email_validator import EmailNotValidError, validate_email

DIGEST_BYTES = 16
"""Of the SHA-256: enough that a million addresses don't meet by chance."""


class NoAddressError(ValueError):
    """A text is no email address. Its message completes "the field …" and holds nothing of the text."""


def bare_address(mailbox: str) -> str:
    """The normalised address of a mailbox that was accepted, ``a@b.c`` or ``Name <a@b.c>``."""
    if mailbox.endswith(">"):
        mailbox = mailbox[mailbox.rfind("<") + 1 : -1]
    return mailbox.lower()


def parse_bare_address(text: str) -> str:
    """The normalised address in a text that may be anything.

    Args:
        text: ``a@b.c`` or ``Name <a@b.c>``.

    Raises:
        NoAddressError: It is no email address.
    """
    try:
        valid = validate_email(bare_address(text.strip()), check_deliverability=False)
    except (EmailNotValidError, UnicodeError) as e:
        raise NoAddressError("is no email address") from e
    return f"{valid.local_part}@{valid.ascii_domain or valid.domain}".lower()


def digest_of(address: str) -> bytes:
    """What copies know a normalised address by, 16 bytes."""
    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).digest()[:DIGEST_BYTES]

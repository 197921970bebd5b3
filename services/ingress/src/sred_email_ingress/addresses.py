"""Email addresses as callers write them: ``a@b.c`` or ``Name <a@b.c>``.

What is accepted is what email-validator accepts without DNS, except that the part before the @ is plain ASCII: others
need SMTPUTF8, and Amazon SES, through which Resend sends, does not speak it. Accepting such an address would only turn
a clear refusal now into a dead letter later. Internationalised domains are fine, they have an ASCII form.

Display names are parsed here, not by email-validator: it refuses ``Müller <…>`` and ``Acme Inc. <…>`` unless they are
quoted, which no caller expects. What would make one text mean two addresses to another parser has to be quoted.

Source: https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Destination.html (no SMTPUTF8),
RFC 5322 section 3.4 (mailboxes), RFC 5321 section 4.5.3.1.3 (254 characters).
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

MAX_MAILBOX_CHARACTERS = 512
MAX_ADDRESS_CHARACTERS = 254
_MAX_DOMAIN_CHARACTERS = 253

CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What ends a line or steers a terminal: C0, DEL, C1 (U+0085 among them), U+2028 and U+2029."""

_ATOM = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+"
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED_NAME = re.compile(r'"(?:[^"\\]|\\.)*"')
_NAME_NEEDING_QUOTES = re.compile(r'[<>"@,;:\\]')
_RFC_SPECIAL = re.compile(r'[()<>\[\]:;@\\,."]')


class InvalidAddressError(ValueError):
    """A text is no address. Its message completes "the field …" and holds nothing of the text."""


@dataclass(frozen=True, slots=True)
class ParsedAddress:
    """An address in its parts.

    Attributes:
        display_name: The name before the angle brackets, without quotes; empty if there is none.
        local_part: What stands before the @, ASCII, its letter case kept.
        domain: What stands after it, in ASCII (IDNA) and lower case: what allowed domains are compared with.
    """

    display_name: str
    local_part: str
    domain: str

    @property
    def address(self) -> str:
        """The bare address, ``local_part@domain``."""
        return f"{self.local_part}@{self.domain}"

    @property
    def mailbox(self) -> str:
        """The address as any mail software reads it: the name quoted where it must be, the domain in ASCII."""
        if not self.display_name:
            return self.address
        name = self.display_name
        if _RFC_SPECIAL.search(name):
            name = '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
        return f"{name} <{self.address}>"


@lru_cache(maxsize=1024)  # each address of a request is asked for a few times
def parse_address(text: str) -> ParsedAddress:
    """Parse one address.

    Args:
        text: ``a@b.c`` or ``Name <a@b.c>``.

    Returns:
        Its parts.

    Raises:
        InvalidAddressError: It is no address, or more than one.
    """
    if len(text) > MAX_MAILBOX_CHARACTERS:
        raise InvalidAddressError(f"is longer than {MAX_MAILBOX_CHARACTERS} characters")
    name, address = _split_mailbox(text) if text.endswith(">") else ("", text)
    local_part, at, domain = address.rpartition("@")
    ascii_domain = _ascii_domain(domain) if at and len(domain) <= _MAX_DOMAIN_CHARACTERS else None
    if ascii_domain is None or not _LOCAL_PART.fullmatch(local_part):
        raise InvalidAddressError(_why_invalid(text, local_part, at))
    if len(local_part) + 1 + len(ascii_domain) > MAX_ADDRESS_CHARACTERS:
        raise InvalidAddressError(f"has an address longer than {MAX_ADDRESS_CHARACTERS} characters")
    return ParsedAddress(name, local_part, ascii_domain)


def _split_mailbox(text: str) -> tuple[str, str]:
    name, bracket, address = text[:-1].rpartition("<")
    name = name.strip(" ")
    if not bracket:
        raise InvalidAddressError("has a closing angle bracket but no opening one")
    if CONTROL_CHARACTER.search(name):
        raise InvalidAddressError("contains a line break or another control character")
    if _QUOTED_NAME.fullmatch(name):
        return re.sub(r"\\(.)", r"\1", name[1:-1]), address
    if _NAME_NEEDING_QUOTES.search(name):
        raise InvalidAddressError("has a name with special characters: put it in double quotes")
    return name, address


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str | None:
    """Validate a domain; cached, because it is most of the cost of an address and few domains make most of the mail."""
    try:
        return validate_email(f"a@{domain}", check_deliverability=False).ascii_domain
    except (EmailNotValidError, UnicodeError):
        return None


def _why_invalid(text: str, local_part: str, at: str) -> str:
    if CONTROL_CHARACTER.search(text):
        return "contains a line break or another control character"
    if "<" in text and not text.endswith(">"):
        return "has an opening angle bracket but does not end with a closing one"
    if not at:
        return "is no email address: it has no @"
    if not local_part.isascii():
        return "has letters outside ASCII before the @, which no provider in use delivers to"
    if not _LOCAL_PART.fullmatch(local_part):
        return "is no email address: what stands before the @ is not valid"
    return "is no email address: what stands after the @ is no domain that gets email"

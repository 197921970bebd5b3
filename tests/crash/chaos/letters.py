"""The emails of a run, each with a token of its own in its subject. Pure."""

import hashlib
import random
from dataclasses import dataclass

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import SendEmailRequest

_LARGE = 0.02
_ATTACHED = 0.03
_REFUSED = 0.02
_LOW = 0.2
_FILES = (1_000, 120_000)
_SMALL_BODIES = (200, 4_000)
_LARGE_BODIES = (66_000, 120_000)  # more than what travels through Redis

REFUSED_SUBJECT = "refuse-this"
"""In the subject of emails that the provider is to refuse."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One email to be sent.

    Attributes:
        token: Names it for ever; the first word of its subject.
        kind: What it is for.
        low: Whether it goes by the LOW lane.
        body_bytes: Size of its HTML.
        file_bytes: Size of its attachment; 0: it has none.
        refused: Whether the provider refuses it.
    """

    token: str
    kind: email_pb2.EmailKind.ValueType
    low: bool
    body_bytes: int
    file_bytes: int
    refused: bool

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return f"chaos/{self.token}"

    @property
    def html(self) -> str:
        """Its body."""
        text = f"{self.token} "
        return "<p>" + (text * (self.body_bytes // len(text) + 1))[: self.body_bytes] + "</p>"

    @property
    def file(self) -> bytes:
        """Its attachment."""
        return (self.token.encode() + b"\0\xff") * (self.file_bytes // (len(self.token) + 2))

    @property
    def digest(self) -> bytes:
        """Of all that must arrive as it was sent."""
        return digest(self.html, [self.file] if self.file_bytes else [])

    def request(self) -> SendEmailRequest:
        """The call that sends it."""
        request = SendEmailRequest(
            idempotency_key=self.key,
            kind=self.kind,
            to=[f"{self.token}@example.com"],
            priority=email_pb2.PRIORITY_LOW if self.low else email_pb2.PRIORITY_UNSPECIFIED,
        )
        request.inline.subject = f"{self.token} {REFUSED_SUBJECT}" if self.refused else f"{self.token} Grüße ✓"
        request.inline.html = self.html
        if self.file_bytes:
            request.attachments.add(filename="file.bin", content=self.file)
        return request

    def conflicting_request(self, nonce: int) -> SendEmailRequest:
        """A call with its key and another content; it must be refused."""
        request = self.request()
        request.inline.subject = f"{self.token}-conflict-{nonce} other"
        return request


def digest(html: str, files: list[bytes]) -> bytes:
    """SHA-256 of a body and its attachments."""
    digested = hashlib.sha256(html.encode())
    for content in files:
        digested.update(content)
    return digested.digest()


class LetterWriter:
    """Writes the letters of a seed, one after the other."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"letters {seed}")  # noqa: S311 - to be repeated, not to be secret
        self._written = 0

    def write(self) -> Letter:
        """The next letter."""
        rng = self._rng
        self._written += 1
        return Letter(
            token=f"t{self._written:06d}",
            kind=rng.choice(email_pb2.EmailKind.values()[1:]),
            low=rng.random() < _LOW,
            body_bytes=rng.randint(*(_LARGE_BODIES if rng.random() < _LARGE else _SMALL_BODIES)),
            file_bytes=rng.randint(*_FILES) if rng.random() < _ATTACHED else 0,
            refused=rng.random() < _REFUSED,
        )

"""What the provider took, kept small: the emails themselves are not."""

import time
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from crash.chaos.letters import digest
from sred_email_local.sandbox.email import Email
from sred_email_local.sandbox.mailbox import Mailbox


@dataclass(frozen=True, slots=True)
class Arrival:
    """One logical delivery: an email that reaches its recipient.

    Attributes:
        provider_id: The provider's id of it.
        at: Unix seconds.
        key: The Idempotency-Key of the request.
        digest: Of the content.
    """

    provider_id: str
    at: float
    key: str | None
    digest: bytes


class Postbox(Mailbox):
    """Takes the place of the sandbox's mailbox, forgets nothing, and grows by some bytes an email only."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: dict[str, list[Arrival]] = {}
        self.total = 0
        self.sizes: Counter[str | None] = Counter()  # emails by Idempotency-Key

    def accept(self, email: Email, received_at: datetime, idempotency_key: str | None, size: int) -> str:  # noqa: ARG002
        """Take note of an email; its new id."""
        content = digest(email.html, [attachment.content for attachment in email.attachments])
        arrival = Arrival(str(uuid.uuid4()), time.time(), idempotency_key, content)
        self.arrivals.setdefault(email.subject.split()[0], []).append(arrival)
        self.total += 1
        self.sizes[idempotency_key] += 1
        return arrival.provider_id

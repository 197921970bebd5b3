"""What was accepted, newest first, within bounds of memory."""

import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sred_email_local.sandbox.email import Email


@dataclass(frozen=True, slots=True)
class Delivery:
    """An email that the API accepted: one logical delivery, however often it was posted.

    Attributes:
        id: The provider's id of it.
        size: Bytes of the request that carried it, in its share.
    """

    id: str
    email: Email
    received_at: datetime
    idempotency_key: str | None
    size: int


class Mailbox:
    """The newest deliveries; older ones are forgotten beyond the bounds.

    Args:
        most: How many are kept.
        most_bytes: How many bytes they hold together, about.
    """

    def __init__(self, most: int = 10_000, most_bytes: int = 256 * 1024 * 1024) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._deliveries: OrderedDict[str, Delivery] = OrderedDict()

    def __len__(self) -> int:
        return len(self._deliveries)

    def __iter__(self) -> Iterator[Delivery]:
        return reversed(self._deliveries.values())

    def accept(self, email: Email, received_at: datetime, idempotency_key: str | None, size: int) -> str:
        """Keep an email; its new id."""
        delivery = Delivery(str(uuid.uuid4()), email, received_at, idempotency_key, size)
        self._deliveries[delivery.id] = delivery
        self._bytes += size
        while len(self._deliveries) > self._most or (self._bytes > self._most_bytes and len(self._deliveries) > 1):
            _, forgotten = self._deliveries.popitem(last=False)
            self._bytes -= forgotten.size
        return delivery.id

    def get(self, email_id: str) -> Delivery | None:
        """The delivery with this id; None if there is none or it was forgotten."""
        return self._deliveries.get(email_id)

    def by_subject(self) -> dict[str, list[str]]:
        """The ids delivered under each subject, oldest first."""
        found: dict[str, list[str]] = {}
        for delivery in self._deliveries.values():
            found.setdefault(delivery.email.subject, []).append(delivery.id)
        return found

    def clear(self) -> None:
        """Forget all."""
        self._deliveries.clear()
        self._bytes = 0

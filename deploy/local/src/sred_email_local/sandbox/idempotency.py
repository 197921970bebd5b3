"""Idempotency keys: the first answer again for the same request, for 24 hours.

Source: https://resend.com/docs/dashboard/emails/idempotency-keys
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sred_email_local.sandbox.refusal import Refusal

MAX_KEY_LENGTH = 256
KEPT_S = 24 * 3600.0


@dataclass(slots=True)
class Entry:
    """What is known about one key.

    Attributes:
        fingerprint: Stands for the request that came with it first.
        begun_at: Seconds, of the clock given to the store.
        answer: The body answered with 200; None while the request is in progress.
    """

    fingerprint: str
    begun_at: float
    answer: dict[str, object] | None = None


class IdempotencyKeys:
    """The keys of the last 24 hours.

    Args:
        clock: Seconds, never going back.
        most: How many keys are kept at most; beyond, the oldest are forgotten (unlike Resend, to bound memory).
    """

    def __init__(self, clock: Callable[[], float], most: int = 200_000) -> None:
        self._clock = clock
        self._most = most
        self._entries: dict[str, Entry] = {}

    @contextmanager
    def hold(self, key: str | None, fingerprint: str) -> Iterator[Entry]:
        """Hold a key while its request is worked on; an entry with an answer is a request that came before.

        A request that leaves without an answer leaves no trace of its key: only what was accepted is remembered.

        Raises:
            Refusal: The key is too long, came with another request before, or its request is in progress.
        """
        if key is None:
            yield Entry(fingerprint, self._clock())
            return
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise Refusal(400, "invalid_idempotency_key", "The key must be between 1-256 chars.")
        self._forget_old()
        entry = self._entries.get(key)
        if entry is not None:
            yield _checked(entry, fingerprint)
            return
        entry = self._entries[key] = Entry(fingerprint, self._clock())
        try:
            yield entry
        finally:
            if entry.answer is None and self._entries.get(key) is entry:
                del self._entries[key]

    def clear(self) -> None:
        """Forget all keys."""
        self._entries.clear()

    def _forget_old(self) -> None:
        expired = self._clock() - KEPT_S
        while self._entries:
            oldest = next(iter(self._entries))
            if self._entries[oldest].begun_at >= expired and len(self._entries) < self._most:
                return
            del self._entries[oldest]


def _checked(entry: Entry, fingerprint: str) -> Entry:
    if entry.fingerprint != fingerprint:
        message = "Same idempotency key used with a different request payload."
        raise Refusal(409, "invalid_idempotent_request", message)
    if entry.answer is None:
        message = "Same idempotency key used while original request is still in progress."
        raise Refusal(409, "concurrent_idempotent_requests", message)
    return entry

"""The newest requests to the API and what became of them."""

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass

_MOST_REQUESTS = 10_000
_MOST_EMAILS = 100_000  # in the requests kept: a batch holds up to 100


@dataclass(slots=True)
class RequestRecord:
    """One POST.

    Attributes:
        at: When its body had come, in seconds since 1970.
        n: How many emails it carried; 0 if its body could not be read.
        size: Bytes of its body.
        body_sha256: Of the bytes as they came, in hexadecimal.
        status: What was answered; 0 if nothing (yet).
        name: The API's name of the error answered; empty if none.
        outcome: `in progress`, `accepted`, `replayed` or `refused`; `nothing` for a request that a rule swallowed.
        rule: The action of the rule that applied; empty if none.
        traceparent: The header that names the caller's trace; None: there was none.
    """

    at: float
    path: str
    idempotency_key: str | None
    n: int
    subjects: list[str]
    size: int
    body_sha256: str
    status: int = 0
    name: str = ""
    outcome: str = "in progress"
    rule: str = ""
    traceparent: str | None = None


class RequestLog:
    """The newest requests, oldest first."""

    def __init__(self) -> None:
        self._records: deque[RequestRecord] = deque()
        self._emails = 0

    def add(self, record: RequestRecord) -> None:
        """Keep a record, which may still change, and forget the oldest beyond the bound."""
        self._records.append(record)
        self._emails += record.n
        while len(self._records) > _MOST_REQUESTS or (self._emails > _MOST_EMAILS and len(self._records) > 1):
            self._emails -= self._records.popleft().n

    def __iter__(self) -> Iterator[RequestRecord]:
        return iter(self._records)

    def as_json(self) -> list[dict[str, object]]:
        """All of them as JSON objects."""
        return [asdict(record) for record in self._records]

    def clear(self) -> None:
        """Forget all."""
        self._records.clear()
        self._emails = 0

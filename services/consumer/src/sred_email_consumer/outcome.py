"""What the provider's answers mean. Pure: no I/O, no clock.

"Definite" means: nothing was accepted by this request.
Source: https://resend.com/docs/api-reference/errors
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto


class FailureKind(Enum):
    """Why a request was not answered with 200."""

    RATE_LIMITED = auto()
    """Definite; wait as told, all replicas."""
    QUOTA_EXHAUSTED = auto()
    """Definite; nothing goes out until the quota renews."""
    KEY_IN_USE = auto()
    """Another request under this key is in progress: this one did nothing, the other may have."""
    KEY_SPENT = auto()
    """The provider knows the key with other bytes."""
    OUTCOME_UNKNOWN = auto()
    """It may have been accepted."""
    NOT_SENT = auto()
    """Definite: no connection was made."""
    MISCONFIGURED = auto()
    """Definite, and never one email's fault: the key, the account, the address of the API."""
    DOMAIN_REFUSED = auto()
    """Definite: this sender's domain may not send."""
    REJECTED = auto()
    """Definite: the provider will not take this email."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A 200 whose parts add up.

    Attributes:
        message_ids: The provider's id of each email that was accepted, by its position in the request.
        errors: Why an email was refused, by its position in the request.
        provider_limit: Requests per second that the provider allows the account; None: it does not say.
    """

    message_ids: dict[int, str]
    errors: dict[int, str]
    provider_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not accepted, or not known to be.

    Attributes:
        kind: What it means.
        error: For people: status, name and the provider's words.
        retry_after: How long the provider asks to wait; None: it does not say.
        name: The provider's name of the error; empty: it gave none.
        provider_limit: Requests per second that the provider allows the account; None: it does not say.
        answered: The API itself has said so.
    """

    kind: FailureKind
    error: str
    retry_after: timedelta | None = None
    name: str = ""
    provider_limit: float | None = None
    answered: bool = False


_BY_NAME: dict[tuple[int, str], FailureKind] = {
    (429, "rate_limit_exceeded"): FailureKind.RATE_LIMITED,
    (429, "daily_quota_exceeded"): FailureKind.QUOTA_EXHAUSTED,
    (429, "monthly_quota_exceeded"): FailureKind.QUOTA_EXHAUSTED,
    (409, "concurrent_idempotent_requests"): FailureKind.KEY_IN_USE,
    (409, "resource_locked"): FailureKind.KEY_IN_USE,
    (409, "invalid_idempotent_request"): FailureKind.KEY_SPENT,
    (403, "validation_error"): FailureKind.DOMAIN_REFUSED,
}

_BY_STATUS: dict[int, FailureKind] = {
    401: FailureKind.MISCONFIGURED,
    403: FailureKind.MISCONFIGURED,
    404: FailureKind.MISCONFIGURED,
    405: FailureKind.MISCONFIGURED,
    408: FailureKind.OUTCOME_UNKNOWN,
    429: FailureKind.RATE_LIMITED,
}

_MAX_ERROR_CHARACTERS = 1000
_LONGEST_WINDOW_S = 60
"""A limit over a longer time is a quota: it can't be kept by spacing requests."""


def interpret(status: int, headers: Mapping[str, str], body: bytes, *, emails: int, batch: bool) -> Accepted | Failure:
    """Say what an answer means.

    Args:
        status: HTTP status.
        headers: By lower-case name, or by name whatever its case.
        body: As it came.
        emails: How many the request carried.
        batch: Whether it went to the batch endpoint.
    """
    parsed = _parse(body)
    retry_after = _retry_after(headers)
    limit = provider_limit(headers)
    if status == 200:  # noqa: PLR2004 - HTTP
        accepted = _accepted(parsed, emails=emails, batch=batch)
        if accepted is None:
            error = "200 with a body that does not add up"
            return Failure(FailureKind.OUTCOME_UNKNOWN, error, retry_after)
        return replace(accepted, provider_limit=limit)
    name, message = _error_of(parsed)
    error = " ".join(part for part in (str(status), name, _printable(message)) if part)[:_MAX_ERROR_CHARACTERS]
    # Without a name somebody else has answered, whose limits are not the provider's.
    return Failure(_kind(status, name), error, retry_after, name, limit if name else None, answered=bool(name))


def provider_limit(headers: Mapping[str, str]) -> float | None:
    """Requests per second that the provider's headers allow; None: they do not say.

    Args:
        headers: As in interpret: ``ratelimit-limit`` (``10``), and where it is there ``ratelimit-policy``
            (``10;w=1``: that many in a window of so many seconds). Without a window it is a second.

    Source: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/03/
    """
    limit = re.match(r"\s*(\d{1,9})\b", headers.get("ratelimit-limit", ""))
    if limit is None or int(limit[1]) == 0:
        return None
    window = re.search(rf"\b{limit[1]}\s*;\s*w=(\d{{1,6}})\b", headers.get("ratelimit-policy", ""))
    seconds = max(1, int(window[1]) if window else 1)
    return int(limit[1]) / seconds if seconds <= _LONGEST_WINDOW_S else None


def _kind(status: int, name: str) -> FailureKind:
    if (status, name) in _BY_NAME:
        return _BY_NAME[status, name]
    if status >= 500 or 200 <= status < 300:  # noqa: PLR2004 - HTTP; another 2xx is no answer of this API
        return FailureKind.OUTCOME_UNKNOWN
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    # Below 400, and whenever the body is not the API's, somebody else has answered: a proxy, a wrong address.
    return FailureKind.REJECTED if status >= 400 and name else FailureKind.MISCONFIGURED  # noqa: PLR2004 - HTTP


def _accepted(parsed: object, *, emails: int, batch: bool) -> Accepted | None:
    if not isinstance(parsed, dict):
        return None
    if not batch:
        message_id = parsed.get("id")
        return Accepted({0: _printable(message_id)}, {}) if isinstance(message_id, str) and message_id else None
    data, errors = parsed.get("data"), parsed.get("errors") or []
    if not isinstance(data, list) or not isinstance(errors, list) or len(data) + len(errors) != emails:
        return None
    refused: dict[int, str] = {}
    for item in errors:
        index = item.get("index") if isinstance(item, dict) else None
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < emails or index in refused:
            return None
        refused[index] = _printable(str(item.get("message") or "refused"))[:_MAX_ERROR_CHARACTERS]
    ids = [item.get("id") if isinstance(item, dict) else None for item in data]
    if not all(isinstance(i, str) and i for i in ids):
        return None
    positions = [index for index in range(emails) if index not in refused]
    return Accepted({index: _printable(str(i)) for index, i in zip(positions, ids, strict=True)}, refused)


def _parse(body: bytes) -> object:
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed


def _error_of(parsed: object) -> tuple[str, str]:
    """Name and message of the API's error object; two empty strings if it is none."""
    if not isinstance(parsed, dict):
        return "", ""
    name, message = parsed.get("name"), parsed.get("message")
    if not isinstance(name, str) or not isinstance(message, str):
        return "", ""
    return _printable(name), message


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Seconds of the retry-after header; a date, which this provider does not send, counts as absent."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return timedelta(seconds=seconds) if 0 <= seconds <= 31 * 86400 else None

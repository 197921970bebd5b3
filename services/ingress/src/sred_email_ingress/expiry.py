"""When an email expires: when its call says, or as long after its acceptance or scheduled time as its kind says."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.email_pb2 import EmailKind
from sred_email_core.errors import FieldViolation

KINDS = tuple(name.removeprefix("EMAIL_KIND_") for name, number in EmailKind.items() if number)
DEFAULT_EXPIRY: Mapping[str, timedelta] = {
    "PASSWORD_RESET": timedelta(hours=1),
    "EMAIL_CONFIRMATION": timedelta(days=1),
}
"""Links that stop working: an email that brings one later only confuses."""

_SHORT = timedelta(hours=1)
_MOST_SECONDS = 1e9
_LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The last microsecond of that year, by which some callers say "never", is infinity to the driver of PostgreSQL: a time
that nothing can be computed with."""


@dataclass(frozen=True, slots=True)
class ExpiryPolicy:
    """When emails expire whose call does not say.

    Attributes:
        lifetimes: From acceptance or the scheduled time on, by name of the kind; other kinds never expire.
    """

    lifetimes: Mapping[str, timedelta]

    def lifetime(self, kind: str) -> timedelta | None:
        """From acceptance or the scheduled time until an email of this kind expires; None: it never does."""
        return self.lifetimes.get(kind)

    def objection(self, expire_at: datetime | None, now: datetime) -> FieldViolation | None:
        """Why an email can't expire at this time; None: it can."""
        if expire_at is not None and expire_at <= now:
            return FieldViolation("expire_at", "is in the past: it must be in the future")
        return None


def expire_at_of(request: SendEmailRequest) -> datetime | None:
    """When the call says that its email expires; None: it does not say.

    Args:
        request: A request without violations.
    """
    return min(request.expire_at.ToDatetime(UTC), _LATEST) if request.HasField("expire_at") else None


def parse_lifetimes(text: str) -> dict[str, timedelta]:
    """Read ``PASSWORD_RESET=3600,EMAIL_CONFIRMATION=86400``, or ``off``.

    Args:
        text: Seconds for each kind that expires; fractions are allowed.

    Raises:
        ValueError: It can't be read. The message names each bad entry by its number, without its text.
    """
    if text.strip().lower() == "off":
        return {}
    lifetimes: dict[str, timedelta] = {}
    problems = []
    for number, entry in enumerate(text.split(","), 1):
        kind, equals, seconds = (part.strip() for part in entry.partition("="))
        kind = kind.upper()
        if not equals:
            problems.append(f"entry {number} is not KIND=SECONDS")
        elif kind not in KINDS:
            problems.append(f"entry {number} names no kind (kinds are {', '.join(KINDS)})")
        elif kind in lifetimes:
            problems.append(f"entry {number} names a kind a second time")
        elif (lifetime := _lifetime(seconds)) is None:
            problems.append(f"entry {number} needs a number of seconds, more than 0")
        else:
            lifetimes[kind] = lifetime
    if problems:
        raise ValueError("; ".join(problems))
    return lifetimes


def short_lifetimes(lifetimes: Mapping[str, timedelta]) -> list[str]:
    """Kinds that expire sooner than is wise: within the hour that an outage, a quota or a backlog may take."""
    return sorted(kind for kind, lifetime in lifetimes.items() if lifetime < _SHORT)


def _lifetime(seconds: str) -> timedelta | None:
    try:
        number = float(seconds)
    except ValueError:
        return None
    lifetime = timedelta(seconds=number) if 0 < number < _MOST_SECONDS else timedelta()  # also refuses nan and inf
    return lifetime or None

"""What the ways through the log and through Redis have in common."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

import structlog

from sred_email_core.errors import LogUnavailableError, QueueUnavailableError

log = structlog.get_logger(__name__)


class Mended(StrEnum):
    """What was not as the log says, by what was done about it."""

    PUBLISHED = "published"
    PLACED_IN_SENDS = "placed_in_sends"
    PLACES_FORGOTTEN = "places_forgotten"
    LEFTOVERS_DROPPED = "leftovers_dropped"
    LETTERS_SHOWN = "letters_shown"
    LETTERS_REMOVED = "letters_removed"
    LETTERS_INDEXED = "letters_indexed"
    LETTERS_RESOLVED = "letters_resolved"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did.

    Attributes:
        last: It was the last one of this way through; the next one begins anew.
        mended: How many of each kind.
    """

    last: bool
    mended: Counter[Mended] = field(default_factory=Counter)


class Pass(Protocol):
    """A way through something large, a bounded step at a time, again and again."""

    def restart(self) -> None:
        """Begin anew with the next step."""

    async def step(self, *, older_than: timedelta) -> Step:
        """Take the next step; where an engine does not answer, it is taken again, and any other failure is passed over.

        Args:
            older_than: What changed since then is left to whoever changed it.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer, or is full.
        """


@contextmanager
def passing_over_failures(what: str) -> Iterator[None]:
    """Log a failure that is not of an engine that is away, and go on: what can't be mended must not hold up the rest.

    Raises:
        LogUnavailableError: PostgreSQL does not answer.
        QueueUnavailableError: Redis does not answer, or is full.
    """
    try:
        yield
    except (LogUnavailableError, QueueUnavailableError):
        raise
    except Exception:
        log.exception("passed_over", what=what)

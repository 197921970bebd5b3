"""What a run is asked for, and the settings that its services get."""

from dataclasses import dataclass
from pathlib import Path

SERVICE_SETTINGS = {
    "SRED_EMAIL_LOG_LEVEL": "INFO",
    # Few enough for emails to wait for a slot, and so to travel in batches, whenever anything is slow.
    "SRED_EMAIL_CONSUMER_SLOTS": "4",
    # Weather must not use up the attempts of any email: only those that are refused may end as dead letters.
    "SRED_EMAIL_MAX_ATTEMPTS": "50",
    "SRED_EMAIL_RETRY_MAX_DELAY": "0.5",
}
"""Beside those of tests that must not take long (`support.world.FAST`)."""


@dataclass(frozen=True, slots=True)
class Options:
    """One run.

    Attributes:
        duration_s: How long things go wrong.
        seed: Of the faults and of the emails.
        rate: Emails a second.
        folder: Where the engines live and the processes log.
        rest_s: How long it may take afterwards until every email has ended and Redis is empty.
        ingresses: Processes.
        consumers: Processes.
    """

    duration_s: float
    seed: int
    rate: float
    folder: Path
    rest_s: float = 120.0
    ingresses: int = 2
    consumers: int = 3

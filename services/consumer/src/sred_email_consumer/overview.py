"""Everything at a glance, over all replicas."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sred_email_consumer.letter_count import LetterCount
from sred_email_core.email_send_log.minutes import Minute, MinuteLog
from sred_email_core.email_send_log.pauses import Pause, PauseLog
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.stats import QueueInspector, QueueStats

MINUTES = 60
"""How far back the flow is told."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What is to be seen at one moment.

    Attributes:
        queue: What waits where.
        dead_letters: Open ones; of many, some seconds ago.
        pauses: Paused lanes, as the log has them.
        minutes: What happened in the last hour, the earliest first.
    """

    queue: QueueStats
    dead_letters: int
    pauses: Mapping[Lane, Pause]
    minutes: Sequence[Minute]

    @property
    def stopped_since(self) -> datetime | None:
        """Since when no email is sent; None: emails are, or it is not known."""
        if self.queue.dispatch.state == "PAUSED":
            return max((pause.since for pause in self.pauses.values()), default=None)
        return self.queue.dispatch.since


class Overview:
    """Looks at the queue and at the log."""

    def __init__(self, inspector: QueueInspector, letters: LetterCount, pauses: PauseLog, minutes: MinuteLog) -> None:
        self._inspector = inspector
        self._letters = letters
        self._pauses = pauses
        self._minutes = minutes

    async def look(self) -> Glance:
        """Look once.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer.
        """
        return Glance(
            *await asyncio.gather(
                self._inspector.read(), self._letters.now(), self._pauses.standing(), self._minutes.latest(MINUTES)
            )
        )

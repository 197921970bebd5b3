"""From the log to Redis: emails that are scheduled, once their time is near."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from sred_email_core.email_send_log.records import SCHEDULED_IN_REDIS
from sred_email_core.email_send_log.recovery import LOAD_EMAILS, RecoveryLog
from sred_email_core.email_send_log.schedule import NONE_YET, ScheduleLog
from sred_email_core.queue.recovery_scripts import OpenEmail, RecoveryScripts
from sred_email_core.queue.scripts import QueueScripts
from sred_email_ingress.recovery.emails import is_publishable
from sred_email_ingress.recovery.passes import Step, passing_over_failures

log = structlog.get_logger(__name__)

_PAGE = 500
_PAGES = 20
"""In one step, so that the other passes come to their turn: with the default interval 1,000 emails a second."""

_FULL, _NEARLY_FULL = 0.95, 0.75
"""Pressures from which on nothing is published, or only what is due now. LOW is refused from 0.8 on, HIGH at 1: what
was scheduled long ago must not take the room of what somebody waits for."""
_NOW = timedelta(seconds=30)


class SchedulePass:
    """Goes through the scheduled emails in the order of their times, as far as Redis may know of them.

    Publishing puts an email into the retry set, with its time as score, unless it has a place: safe to repeat, and for
    several processes at once. So it finds what has come near, what an ingress did not live to publish, and what Redis
    has lost. It can't tell one from the other, and calls nothing mended.
    """

    def __init__(
        self,
        schedule: ScheduleLog,
        recovery_log: RecoveryLog,
        queue: RecoveryScripts,
        scripts: QueueScripts,
        *,
        pressure: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            schedule: What comes due.
            recovery_log: What it is.
            queue: Where it is.
            scripts: What publishes it.
            pressure: How full Redis is, 1 at its limit. By what the log has open, what waits here would hold itself up.
        """
        self._schedule = schedule
        self._log = recovery_log
        self._queue = queue
        self._scripts = scripts
        self._pressure = pressure
        self._after = NONE_YET

    def restart(self) -> None:
        """Begin with the soonest."""
        self._after = NONE_YET

    async def step(self, *, older_than: timedelta) -> Step:
        """Publish those on the next pages; see Pass."""
        del older_than  # to publish at the same moment as whoever accepted it publishes once
        published, through = 0, False
        for _ in range(_PAGES):
            if through:
                break
            pressure = self._pressure()
            within = _NOW if pressure >= _NEARLY_FULL else SCHEDULED_IN_REDIS
            due = await self._schedule.due(within=within, after=self._after, size=_PAGE) if pressure < _FULL else []
            with passing_over_failures("scheduled emails"):
                published += await self._publish([str(email.id) for email in due])
            through = len(due) < _PAGE
            self._after = NONE_YET if through else due[-1]
        if published:
            log.info("scheduled_published", emails=published)
        return Step(through, Counter())

    async def _publish(self, email_ids: Sequence[str]) -> int:
        """Publish those that have no true place; of the others no content is read. How many were published."""
        without = await self._queue.without_true_place([OpenEmail(email_id) for email_id in email_ids])
        published = 0
        for start in range(0, len(without), LOAD_EMAILS):
            # An email of a send has its place there, which others look after: it is not among these.
            emails, _ = await self._log.load([email.email_id for email in without[start : start + LOAD_EMAILS]])
            lost = await self._queue.without_true_place([OpenEmail(email.email_id) for email in emails], forget=True)
            lost_ids = {email.email_id for email in lost}
            published += await self._scripts.publish(
                [e for e in emails if e.email_id in lost_ids and is_publishable(e)]
            )
        return published

"""From the log to Redis: emails that are scheduled, once their time is near."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import structlog

from sred_email_core.email_send_log.recovery import LOAD_EMAILS, RecoveryLog
from sred_email_core.email_send_log.schedule import NONE_YET, ScheduledEmail, ScheduleLog
from sred_email_core.queue.recovery_scripts import RecoveryScripts
from sred_email_core.queue.scripts import QueueScripts
from sred_email_ingress.recovery.emails import is_publishable
from sred_email_ingress.recovery.passes import Step, passing_over_failures

log = structlog.get_logger(__name__)

_PAGE = 500
_PAGES = 20
"""In one step, so that the other passes come to their turn: with the default interval 1,000 emails a second."""
_SLOW_ACCEPTANCE = timedelta(seconds=65)
"""From the start of the statement that judged an email to be far ahead to its commit, and some more."""


class SchedulePass:
    """Goes through the scheduled emails in the order of their times, as far as Redis may know of them.

    Publishing puts an email into the retry set, with its time as score, unless it has a place: safe to repeat, and for
    several processes at once. Having come to the end it goes a little back, for emails that were accepted slowly. What
    it publishes was not lost, and is not counted as mended.
    """

    def __init__(
        self, schedule: ScheduleLog, recovery_log: RecoveryLog, queue: RecoveryScripts, scripts: QueueScripts
    ) -> None:
        self._schedule = schedule
        self._log = recovery_log
        self._queue = queue
        self._scripts = scripts
        self._after = self._furthest = NONE_YET

    def restart(self) -> None:
        """Begin with the soonest."""
        self._after = self._furthest = NONE_YET

    async def step(self, *, older_than: timedelta) -> Step:
        """Publish those on the next pages; see Pass."""
        del older_than  # to publish at the same moment as whoever accepted it publishes once
        published, through = 0, False
        for _ in range(_PAGES):
            due = await self._schedule.due(after=self._after, size=_PAGE)
            with passing_over_failures("scheduled emails"):
                published += await self._publish([str(email.id) for email in due])
            if due:
                self._after = due[-1]
                self._furthest = max(self._furthest, self._after)
            through = len(due) < _PAGE
            if through:
                self._after = _a_little_before(self._furthest)
                break
        if published:
            log.info("scheduled_published", emails=published)
        return Step(through, Counter())

    async def _publish(self, email_ids: Sequence[str]) -> int:
        """Publish those that have no place; of the others no content is read."""
        places = await self._queue.places(email_ids)
        without = [email_id for email_id, place in zip(email_ids, places, strict=True) if not place]
        published = 0
        for start in range(0, len(without), LOAD_EMAILS):
            emails, _ = await self._log.load(without[start : start + LOAD_EMAILS])
            published += await self._scripts.publish([email for email in emails if is_publishable(email)])
        return published


def _a_little_before(email: ScheduledEmail) -> ScheduledEmail:
    earliest = NONE_YET.send_at + _SLOW_ACCEPTANCE  # before that there are no times
    return ScheduledEmail(max(email.send_at, earliest) - _SLOW_ACCEPTANCE, NONE_YET.id)

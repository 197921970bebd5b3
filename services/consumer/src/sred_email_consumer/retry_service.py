"""Owns the retry set: what waits there, and its way back."""

from collections.abc import Sequence
from datetime import timedelta

from sred_email_core.group_commit import GroupCommit
from sred_email_core.queue.codec import QueuedEmail
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.scripts import Finished, Parked, ParkedInSend, Promoted, QueueScripts

MOST_PER_PROMOTION = 200
"""Members of the retry set that one call looks at."""


class RedisEmailRetryService:
    """Moves emails between streams and retry set, each move one script; moves that come together share one call.

    Times are Redis' own. Every method raises QueueUnavailableError when Redis does not answer; repeating is safe.
    """

    def __init__(self, scripts: QueueScripts, consumer: str) -> None:
        self._scripts = scripts
        self._consumer = consumer
        self._finishing: GroupCommit[Sequence[Finished], None] = GroupCommit(
            self._finish, max_items=100, max_groups=2, weigh=len, max_weight=500
        )
        self._parking: GroupCommit[Parked, None] = GroupCommit(self._park, max_items=500, max_groups=2)

    async def finish(self, emails: Sequence[Finished]) -> None:
        """Take emails off their streams: nothing more is to be done about them."""
        await self._finishing.submit(emails)

    async def finish_sends(self, emails: Sequence[tuple[str, str]]) -> None:
        """Forget sends that need no repeat any more, told as (email id, first email id of its send)."""
        await self._scripts.finish_sends(emails)

    async def park(self, email: Parked) -> None:
        """Let an email that was definitely refused wait for itself."""
        await self._parking.submit(email)

    async def publish(self, emails: Sequence[QueuedEmail]) -> None:
        """Let emails that were in a send wait, each for itself."""
        await self._scripts.publish(emails)

    async def park_sends(self, emails: Sequence[ParkedInSend], *, entitled: bool) -> None:
        """Let sends wait for their repeat; see QueueScripts."""
        await self._scripts.park_sends(self._consumer, emails, entitled=entitled)

    async def postpone(self, first_email_id: str, delay: timedelta) -> None:
        """Let a send that can't be repeated yet be due later."""
        await self._scripts.postpone(first_email_id, delay)

    async def hand_back(self, entries: Sequence[tuple[Lane, str]], *, died: bool = False) -> None:
        """Give back entries, as lane and entry id, that were not begun, or that failed us (``died``)."""
        await self._scripts.hand_back(self._consumer, entries, died=died)

    async def promote(self, *, passing_over: int = 0) -> Promoted:
        """Put parked emails that have come due back on their streams."""
        return await self._scripts.promote(most=MOST_PER_PROMOTION, passing_over=passing_over)

    async def _park(self, emails: Sequence[Parked]) -> list[None]:
        await self._scripts.park(self._consumer, emails)
        return [None] * len(emails)

    async def _finish(self, sends: Sequence[Sequence[Finished]]) -> list[None]:
        await self._scripts.finish(self._consumer, [email for emails in sends for email in emails])
        return [None] * len(sends)

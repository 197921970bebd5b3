"""Owns the retry set: what waits there, and its way back."""

from collections.abc import Sequence

from sred_email_core.group_commit import GroupCommit
from sred_email_core.queue.scripts import Finished, Parked, ParkedInSend, Promoted, QueueScripts

_MOST_PER_PROMOTION = 1000


class RedisEmailRetryService:
    """Moves emails between streams and retry set, each move one script; moves that come together share one call.

    Times are Redis' own. Every method raises QueueUnavailableError when Redis does not answer; repeating is safe.
    """

    def __init__(self, scripts: QueueScripts, consumer: str) -> None:
        self._scripts = scripts
        self._consumer = consumer
        self._finishing: GroupCommit[Finished, None] = GroupCommit(self._finish, max_items=500, max_groups=2)

    async def finish(self, email: Finished) -> None:
        """Take an email off its stream: nothing more is to be done about it."""
        await self._finishing.submit(email)

    async def finish_sends(self, emails: Sequence[tuple[str, str]]) -> None:
        """Forget sends that need no repeat any more, told as (email id, first email id of its send)."""
        await self._scripts.finish_sends(emails)

    async def park(self, emails: Sequence[Parked]) -> None:
        """Let emails that were definitely refused wait alone."""
        await self._scripts.park(self._consumer, emails)

    async def park_sends(self, emails: Sequence[ParkedInSend]) -> None:
        """Let sends wait for their repeat."""
        await self._scripts.park_sends(self._consumer, emails)

    async def promote(self) -> Promoted:
        """Put parked emails that have come due back on their streams."""
        return await self._scripts.promote(_MOST_PER_PROMOTION)

    async def _finish(self, emails: Sequence[Finished]) -> list[None]:
        await self._scripts.finish(self._consumer, emails)
        return [None] * len(emails)

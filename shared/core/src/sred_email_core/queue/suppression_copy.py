"""The copy of the suppressions that Redis holds: asked before each first request, brought into line with the log."""

from collections.abc import Sequence

from sred_email_core.email_send_log.suppressions import SuppressionChange, SuppressionLog
from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner

_PAGE = 2000
"""Changes copied by one script: bounds the time that Redis is blocked."""
_MOST_CONFLICTS = 1000


class SuppressionCopy:
    """Copies what the log says, change by change. Any process may, at any time, and several go on from each other.

    Redis knows addresses by their digests only.
    """

    def __init__(self, log: SuppressionLog, runner: ScriptRunner, keys: QueueKeys) -> None:
        self._log = log
        self._run = runner.run
        self._keys = [keys.suppressions, keys.suppressed]

    async def suppressed(self, digests: Sequence[bytes]) -> set[bytes] | None:
        """Which of these get no email now; None: there is no complete copy.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        version, *numbers = await self._run("check_suppressions", self._keys, digests)
        return {digests[number - 1] for number in numbers} if version else None

    async def renew(self) -> None:
        """Bring the copy into line with the log: nothing is moved but what has changed.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer.
        """
        version = await self._move(0, 0)  # where there is a copy, this only tells its version
        for _ in range(_MOST_CONFLICTS):
            page = await self._log.changes(version, size=_PAGE)
            if page.list_version < version:
                # A log that was restored or failed over: it has forgotten what the copy knows, and counts anew.
                await self._log.count_beyond(version)
                version = await self._move(version, 0)
                continue
            to = page.list_version if page.complete else page.changes[-1].version
            now = await self._move(version, to, page.changes, complete=page.complete)
            if now == to and page.complete:
                return
            version = now
        raise QueueUnavailableError("Redis: the copy of the suppressions keeps changing")

    async def _move(
        self, since: int, to: int, changes: Sequence[SuppressionChange] = (), *, complete: bool = False
    ) -> int:
        flat = [part for change in changes for part in (change.digest, _until(change))]
        return int(await self._run("copy_suppressions", self._keys, [since, to, int(complete), *flat]))


def _until(change: SuppressionChange) -> int:
    if change.removed:
        return -1
    return 0 if change.expires_at is None else max(1, int(change.expires_at.timestamp() * 1000))

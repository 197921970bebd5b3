"""The copy of the pauses that Redis holds, brought into line with the log."""

from sred_email_core.email_send_log.pauses import PauseLog
from sred_email_core.queue.dispatch_scripts import DispatchScripts

_TRIES = 4


class PauseCopy:
    """Copies what the log says. Any process may, at any time: an older version never replaces a newer one."""

    def __init__(self, log: PauseLog, scripts: DispatchScripts) -> None:
        self._log = log
        self._scripts = scripts

    async def renew(self) -> None:
        """Copy the pauses.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer.
        """
        newer = 0
        for _ in range(_TRIES):
            pauses = await self._log.load()
            if newer and pauses.version < newer:
                # Not a change that came between: a log that was restored or failed over counts anew.
                await self._log.count_beyond(newer)
                continue
            newer = await self._scripts.set_pauses(pauses.version, pauses.reasons)
            if not newer:
                return

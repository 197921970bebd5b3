"""The copy of the pauses that Redis holds, brought into line with the log."""

from sred_email_core.email_send_log.pauses import PauseLog
from sred_email_core.queue.dispatch_scripts import DispatchScripts


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
        pauses = await self._log.load()
        await self._scripts.set_pauses(pauses.version, pauses.reasons)

"""What operators do to delivery as a whole: pause it, let it go on."""

from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.pauses import PauseLog
from sred_email_core.errors import FieldViolation, InvalidRequestError
from sred_email_core.queue.dispatch_scripts import DispatchScripts
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.pause_copy import PauseCopy

_LONGEST_REASON = 500


class DeliveryControl:
    """Pauses lanes. The log holds what is paused; Redis has a copy, by which every replica goes."""

    def __init__(self, log: PauseLog, copy: PauseCopy, scripts: DispatchScripts) -> None:
        self._log = log
        self._copy = copy
        self._scripts = scripts

    async def pause(self, lane: Lane | None, reason: str, deed: Deed | None = None) -> None:
        """Send nothing more; what is being sent ends.

        Args:
            lane: This lane; None: all.
            reason: Why, for those who wonder.
            deed: What the audit says.

        Raises:
            InvalidRequestError: The reason is too long or not printable.
            LogUnavailableError: Nothing has changed, or the answer was lost; repeat it.
            QueueUnavailableError: It is kept, and comes into force with the next round of the reconciler; repeat it to
                have it in force at once.
        """
        if len(reason) > _LONGEST_REASON or not all(c.isprintable() for c in reason):
            violation = FieldViolation("reason", f"must have at most {_LONGEST_REASON} printable characters")
            raise InvalidRequestError([violation])
        await self._log.pause(_lanes(lane), reason, deed=deed)
        await self._copy.renew()

    async def resume(self, lane: Lane | None, deed: Deed | None = None) -> None:
        """Go on sending; where all lanes go on, what stopped delivery otherwise is probed at once.

        Raises:
            LogUnavailableError: As for pause.
            QueueUnavailableError: As for pause.
        """
        await self._log.resume(_lanes(lane), deed=deed)
        await self._copy.renew()
        if lane is None:
            await self._scripts.end_probe(0, accepted=False)


def _lanes(lane: Lane | None) -> list[Lane]:
    return list(Lane) if lane is None else [lane]

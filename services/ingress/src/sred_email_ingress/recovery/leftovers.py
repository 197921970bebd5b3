"""From Redis to the log: what emails that need nothing more have left is dropped, so that no key grows for ever."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from sred_email_core.email_send_log.recovery import RecoveryLog
from sred_email_core.queue.recovery_scripts import RecoveryScripts, WaitingIn
from sred_email_ingress.recovery.passes import Mended, Step, passing_over_failures

_PLACES = 5000
_LEFTOVERS = 250
"""Fewer at once: the messages are read to be passed over, up to 64 kB each."""


class PlacePass:
    """Goes through all places, and forgets those of emails that have ended or that the log does not know."""

    def __init__(self, log: RecoveryLog, queue: RecoveryScripts) -> None:
        self._log = log
        self._queue = queue
        self._cursor = "0"

    def restart(self) -> None:
        """Begin with the first."""
        self._cursor = "0"

    async def step(self, *, older_than: timedelta) -> Step:
        """Look at the next ones; see Pass."""
        page = await self._queue.scan_places(self._cursor, count=_PLACES)
        forgotten = 0
        with passing_over_failures("places"):
            gone: list[str | bytes] = [*await self._gone(page.ids, older_than), *page.others]
            forgotten = await self._forget(gone, older_than) if gone else 0
        self._cursor = page.cursor
        return Step(page.cursor == "0", Counter({Mended.PLACES_FORGOTTEN: forgotten}))

    async def _forget(self, gone: Sequence[str | bytes], older_than: timedelta) -> int:
        """Forget places of emails that are gone after these were read, so that a replay does not lose its own."""
        places = dict(zip(gone, await self._queue.places(gone), strict=True))
        still_gone = {*await self._gone([i for i in gone if isinstance(i, str)], older_than)}
        return await self._queue.forget(
            [(i, place) for i, place in places.items() if i in still_gone or isinstance(i, bytes)]
        )

    async def _gone(self, email_ids: Sequence[str], older_than: timedelta) -> list[str]:
        return await self._log.gone(email_ids, older_than=older_than) if email_ids else []


class LeftoverPass:
    """Goes through the retry set and the parked messages, and drops those of emails whose place is elsewhere."""

    def __init__(self, queue: RecoveryScripts) -> None:
        self._queue = queue
        self._where = WaitingIn.RETRY
        self._cursor = "0"

    def restart(self) -> None:
        """Begin with the first."""
        self._where, self._cursor = WaitingIn.RETRY, "0"

    async def step(self, *, older_than: timedelta) -> Step:
        """Look at the next ones; see Pass."""
        del older_than  # Redis alone shows that nothing would ever use them
        cursor, dropped = "0", 0  # where it fails, its cursor is not known, and the other ones come next
        with passing_over_failures("leftovers"):
            cursor, dropped = await self._queue.drop_leftovers(self._where, self._cursor, count=_LEFTOVERS)
        self._cursor = cursor
        last = self._cursor == "0" and self._where is WaitingIn.PARKED
        if self._cursor == "0":
            self._where = WaitingIn.PARKED if self._where is WaitingIn.RETRY else WaitingIn.RETRY
        return Step(last, Counter({Mended.LEFTOVERS_DROPPED: dropped}))

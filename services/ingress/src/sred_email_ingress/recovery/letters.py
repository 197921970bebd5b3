"""Between the dead letters in the log and the DLQ that shows them, both ways."""

from collections import Counter
from datetime import timedelta

from sred_email_core.email_send_log.recovery_letters import OpenLetter, RecoveryLetterLog, in_loads
from sred_email_core.queue.letter_scripts import LetterScripts
from sred_email_ingress.recovery.passes import Mended, Step, passing_over_failures

_PAGE = 500
_ENTRIES = 20
"""Of the DLQ, read in one call."""


class LetterPass:
    """Goes through the open letters, shows those that the DLQ has lost, and resolves those whose email was sent."""

    def __init__(self, log: RecoveryLetterLog, dlq: LetterScripts) -> None:
        self._log = log
        self._dlq = dlq
        self._after: OpenLetter | None = None

    def restart(self) -> None:
        """Begin with the oldest."""
        self._after = None

    async def step(self, *, older_than: timedelta) -> Step:
        """Look at the next page; see Pass."""
        del older_than  # to show a letter twice at the same moment is shown once
        letters = await self._log.open_page(self._after, size=_PAGE)
        mended: Counter[Mended] = Counter()
        delivered = [letter.email_id for letter in letters if letter.delivered and letter.email_id is not None]
        with passing_over_failures("letters of emails that were sent"):
            resolved = await self._log.resolve_delivered(delivered) if delivered else []
            await self._dlq.remove(resolved)
            mended[Mended.LETTERS_RESOLVED] = len(resolved)
        for load in in_loads([letter for letter in letters if not letter.delivered]):
            with passing_over_failures("open letters"):
                missing = {*await self._dlq.not_shown([str(letter.id) for letter in load])}
                lost = [letter for letter in load if str(letter.id) in missing]
                if lost:
                    mended[Mended.LETTERS_SHOWN] += await self._dlq.show(await self._log.load(lost))
        self._after = letters[-1] if len(letters) == _PAGE else None
        return Step(self._after is None, mended)


class ShownPass:
    """Goes through the DLQ and its index, makes them agree, and removes letters that are not open any more.

    The entries are read only while there are not as many as the index says: those of malformed entries may be large.
    """

    def __init__(self, log: RecoveryLetterLog, dlq: LetterScripts) -> None:
        self._log = log
        self._dlq = dlq
        self.restart()

    def restart(self) -> None:
        """Begin with the oldest."""
        self._entry = ""
        self._entries_seen = False
        self._cursor = "0"

    async def step(self, *, older_than: timedelta) -> Step:
        """Look at the next ones: at entries first, then at the index; see Pass."""
        del older_than  # a letter that was resolved is never open again
        if not self._entries_seen:
            mended, self._entries_seen = 0, True  # where it fails, the index comes next
            with passing_over_failures("entries of the DLQ"):
                mended = await self._adopt()
            return Step(last=False, mended=Counter({Mended.LETTERS_INDEXED: mended}))
        page = await self._dlq.scan(self._cursor, count=_PAGE)
        removed = 0
        with passing_over_failures("letters in the DLQ"):
            resolved = await self._log.resolved(page.ids) if page.ids else []
            removed = await self._dlq.remove([*resolved, *page.others])
        self._cursor = page.cursor
        last = page.cursor == "0"
        if last:
            self.restart()
        return Step(last, Counter({Mended.LETTERS_REMOVED: removed}))

    async def _adopt(self) -> int:
        total = 0
        if self._entry or not await self._dlq.agrees():
            for _ in range(_PAGE // _ENTRIES):
                self._entry, mended = await self._dlq.adopt(self._entry, count=_ENTRIES)
                total += mended
                if not self._entry:
                    break
        self._entries_seen = not self._entry
        return total

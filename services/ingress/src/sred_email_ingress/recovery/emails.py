"""From the log to Redis: open emails that have no place there, or one that is not true, are put back."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import structlog

from sred_email_core.email_send_log.recovery import FIRST_ID, LAST_ID, LOAD_EMAILS, OpenSend, RecoveryLog
from sred_email_core.queue.codec import QueuedEmail, encode
from sred_email_core.queue.recovery_scripts import LostSend, OpenEmail, RecoveryScripts
from sred_email_core.queue.scripts import QueueScripts
from sred_email_ingress.recovery.passes import Mended, Step, passing_over_failures

log = structlog.get_logger(__name__)

_PAGE = 5000
"""Open emails looked at in one step: with the default interval 100,000 take a little over three minutes."""
_MOST_NAMED = 10


class EmailPass:
    """Goes through the open emails by their ids, and compares each with its place.

    In a healthy queue no content is read. An email that seems lost is judged again by the log as it is then, before
    anything is changed: it may have ended, or become part of a send. To publish is safe to repeat.
    """

    def __init__(self, log: RecoveryLog, queue: RecoveryScripts, scripts: QueueScripts) -> None:
        self._log = log
        self._queue = queue
        self._scripts = scripts
        self._after = FIRST_ID
        self._lost_last_time = 0
        self._lost = 0
        self._being_put_back = 0

    @property
    def inconsistent(self) -> int:
        """Emails that the last way through all of them found without a true place, or this one has so far."""
        return max(self._lost_last_time, self._lost + self._being_put_back)

    def restart(self) -> None:
        """Begin at the oldest."""
        self._after = FIRST_ID
        self._lost = 0

    async def step(self, *, older_than: timedelta) -> Step:
        """Look at the next page; see Pass."""
        mended, last_id = await self.look(self._after, LAST_ID, older_than=older_than)
        self._after = last_id or FIRST_ID
        if last_id is None:
            self._lost_last_time, self._lost = self._lost, 0
        return Step(last_id is None, mended)

    async def look(
        self, after: uuid.UUID, until: uuid.UUID, *, older_than: timedelta
    ) -> tuple[Counter[Mended], uuid.UUID | None]:
        """Look at a page of a span of ids; what was mended, and the id to go on from (None: the span is through)."""
        page = await self._log.open_page(after=after, until=until, older_than=older_than, size=_PAGE)
        mended: Counter[Mended] = Counter()
        suspects: list[OpenEmail] = []
        with passing_over_failures("open emails"):
            suspects = await self._queue.without_true_place(page.emails)
        unknown: list[str] = []
        for start in range(0, len(suspects), LOAD_EMAILS):
            with passing_over_failures("lost emails"):
                emails, sends = await self._log.load([e.email_id for e in suspects[start : start + LOAD_EMAILS]])
                mended[Mended.PUBLISHED] += await self._publish(emails, unknown)
                mended[Mended.PLACED_IN_SENDS] += await self._place(sends)
        if unknown:
            log.error("emails_not_publishable", emails=len(unknown), email_ids=unknown[:_MOST_NAMED])
        return mended, page.last_id

    async def _publish(self, emails: Sequence[QueuedEmail], unknown: list[str]) -> int:
        lost = await self._queue.without_true_place([OpenEmail(email.email_id) for email in emails], forget=True)
        lost_ids = {email.email_id for email in lost}
        with self._putting_back(lost):
            wanted = [email for email in emails if email.email_id in lost_ids]
            known = [email for email in wanted if is_publishable(email)]
            known_ids = {email.email_id for email in known}
            unknown += [email.email_id for email in wanted if email.email_id not in known_ids]
            return await self._scripts.publish(known)

    async def _place(self, sends: Sequence[OpenSend]) -> int:
        members = [OpenEmail(email_id, send.email_ids[0]) for send in sends for email_id in send.email_ids]
        lost = await self._queue.without_true_place(members, forget=True)
        of_send: dict[str, list[str]] = {}
        for email in lost:
            of_send.setdefault(email.first_of_send, []).append(email.email_id)
        delays = {send.email_ids[0]: send.delay for send in sends}
        with self._putting_back(lost):
            return await self._queue.place_sends(
                [LostSend(first, tuple(email_ids), delays[first]) for first, email_ids in of_send.items()]
            )

    @contextmanager
    def _putting_back(self, lost: Sequence[OpenEmail]) -> Iterator[None]:
        """Count emails as lost once, also when it takes more than one try to put them back."""
        self._being_put_back = len(lost)
        yield
        self._lost += self._being_put_back
        self._being_put_back = 0


def is_publishable(email: QueuedEmail) -> bool:
    """Whether this version can put it on a stream: another one may have accepted it, with a kind unknown here."""
    try:
        encode(email)
    except ValueError:
        return False
    return True


def first_id_of(at: datetime) -> uuid.UUID:
    """The smallest UUIDv7 of a moment.

    Source: https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7 : the first 48 bits are Unix milliseconds.
    """
    return uuid.UUID(int=max(0, int(at.timestamp() * 1000)) << 80)

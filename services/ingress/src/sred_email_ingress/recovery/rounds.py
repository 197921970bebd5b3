"""What is done in one round: a little of everything, or all of it when Redis is another one than before."""

import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from sred_email_core.email_send_log.recovery import RecoveryLog
from sred_email_core.queue.epoch import Epoch
from sred_email_core.queue.scripts import QueueScripts
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.recovery.emails import EmailPass, first_id_of
from sred_email_ingress.recovery.passes import Mended, Pass, Step, passing_over_failures

log = structlog.get_logger(__name__)

GoOn = Callable[[], Awaitable[bool]]
"""Whether to go on: nobody asked to stop, and this process still is the one that reconciles."""

_EXPIRE_PAGE = 500
_EXPIRE_PAGES = 20
_SLOW_ACCEPTANCE = timedelta(seconds=65)
"""From the making of an id to the commit of its row: another group's statement and its own, 30 s each at the most, and
5 s by which the clocks of the processes that accept may differ. What is slower is found with the rest."""


@dataclass(slots=True)
class _Sweep:
    """A way through everything.

    Attributes:
        began: When.
        remaining: The passes that are not through.
        older_than: What changed since then is left alone.
        name: By which the epoch knows it; None: the epoch has not changed.
    """

    began: datetime
    remaining: list[Pass]
    older_than: timedelta
    name: str | None = None


class SettingsCopy(Protocol):
    """What Redis holds of the settings of operation, which PostgreSQL has."""

    async def renew(self) -> None:
        """Bring it into line with the log.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer.
        """


class ExpiryStep:
    """Ends open emails that have expired, and takes them out of Redis where no consumer holds them."""

    def __init__(self, recovery_log: RecoveryLog, scripts: QueueScripts, metrics: IngressMetrics) -> None:
        self._log = recovery_log
        self._scripts = scripts
        self._metrics = metrics

    async def run_once(self) -> bool:
        """End some; whether there may be more."""
        ended, more = await self._log.expire(size=_EXPIRE_PAGE)
        if ended:
            self._metrics.expired.inc(len(ended))
            log.info("emails_expired", email_ids=ended)
            await self._scripts.cancel(ended)
        return more


class RecoveryRounds:
    """Decides what to look at, and remembers how far it came.

    Each round looks at what was accepted since the last one, and at the next page of everything else. All is looked at
    when this process begins to reconcile, and when the epoch says that Redis may have forgotten something: then also
    what changed just now. A sweep that is interrupted goes on in the next round, unless Redis forgot something again.
    """

    def __init__(
        self,
        expiry: ExpiryStep,
        copies: Sequence[SettingsCopy],
        emails: EmailPass,
        passes: Sequence[Pass],
        epoch: Epoch,
        *,
        after: timedelta,
    ) -> None:
        """Prepare.

        Args:
            expiry: What ends expired emails.
            copies: What Redis is told in each round: which lanes are paused, which addresses get no email.
            emails: What puts emails back.
            passes: Everything that is gone through, ``emails`` too, in this order: what frees memory first.
            epoch: Tells whether Redis is another one.
            after: How long what changed is left to whoever changed it.
        """
        self._expiry = expiry
        self._copies = copies
        self._emails = emails
        self._passes = passes
        self._epoch = epoch
        self._after = after
        self._sweep: _Sweep | None = None
        self._looked_until = datetime.now(UTC)

    def take_over(self) -> None:
        """Look at everything in the next round: another process reconciled until now, or nobody."""
        self._sweep = self._sweep_all(self._after)

    async def run_once(self, mended: Counter[Mended], go_on: GoOn) -> None:
        """Do one round.

        Args:
            mended: What was mended is added to it, also when the round fails.
            go_on: Asked before each step.

        Raises:
            LogUnavailableError: PostgreSQL does not answer; the next round goes on from here.
            QueueUnavailableError: Redis does not answer or is full; the same.
        """
        for copy in self._copies:
            with passing_over_failures(type(copy).__name__):
                await copy.renew()
        with passing_over_failures("expired emails"):
            for _ in range(_EXPIRE_PAGES):
                if not await self._expiry.run_once():
                    break
        await self._notice_another_redis()
        if self._sweep is not None:
            await self._go_on_sweeping(self._sweep, mended, go_on)
            return
        with passing_over_failures("new emails"):
            await self._look_at_new(mended, go_on)
        for each in self._passes:
            await self._step(each, self._after, mended)

    async def _look_at_new(self, mended: Counter[Mended], go_on: GoOn) -> None:
        until = datetime.now(UTC) - self._after
        after: uuid.UUID | None = first_id_of(self._looked_until - _SLOW_ACCEPTANCE)
        while after is not None:
            if not await go_on():
                return
            more, after = await self._emails.look(after, first_id_of(until), older_than=self._after)
            mended.update(more)
        self._looked_until = until

    async def _notice_another_redis(self) -> None:
        state = await self._epoch.look()
        under_way = self._sweep.name if self._sweep is not None else None
        if not state.changed or (under_way is not None and state.is_sweep(under_way)):
            return
        log.info("sweep_begins", reason="Redis is new to us, or was flushed, restarted or failed over")
        self._sweep = self._sweep_all(timedelta())
        self._sweep.name = uuid.uuid4().hex
        await self._epoch.begin(self._sweep.name)

    async def _go_on_sweeping(self, sweep: _Sweep, mended: Counter[Mended], go_on: GoOn) -> None:
        while sweep.remaining:
            if not await go_on():
                return
            if (await self._step(sweep.remaining[0], sweep.older_than, mended)).last:
                del sweep.remaining[0]
        if sweep.name is not None and (await self._epoch.seal(sweep.name)).changed:
            log.info("sweep_void", reason="Redis forgot something meanwhile")  # the next round notices, and begins anew
        self._looked_until = sweep.began - self._after
        self._sweep = None

    async def _step(self, each: Pass, older_than: timedelta, mended: Counter[Mended]) -> Step:
        step: Step | None = None
        with passing_over_failures(type(each).__name__):
            step = await each.step(older_than=older_than)
        if step is None:  # not even its page could be read
            each.restart()
            return Step(last=True)
        mended.update(step.mended)
        return step

    def _sweep_all(self, older_than: timedelta) -> _Sweep:
        for each in self._passes:
            each.restart()
        return _Sweep(datetime.now(UTC), list(self._passes), older_than)

"""Holds Redis to the log: puts back what Redis has forgotten or was never told, drops what nothing needs any more."""

import asyncio
from collections import Counter
from datetime import timedelta

import structlog

from sred_email_core.email_send_log.leases import Lease
from sred_email_core.errors import LogUnavailableError, QueueUnavailableError
from sred_email_core.lifecycle import wait_for
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.recovery.consistency import ConsistencyCheck
from sred_email_ingress.recovery.passes import Mended
from sred_email_ingress.recovery.rounds import RecoveryRounds

log = structlog.get_logger(__name__)

_PATIENCE_S = 1.0
"""With a round that was cancelled: the driver waits for a server that hangs."""


class Reconciler:
    """Does a round each interval, in the one process that has the lease.

    Everything it does is safe to repeat, and safe while others do the same: the lease saves work, nothing else.
    """

    def __init__(
        self,
        lease: Lease,
        rounds: RecoveryRounds,
        consistency: ConsistencyCheck,
        metrics: IngressMetrics,
        *,
        interval: timedelta,
    ) -> None:
        """Prepare.

        Args:
            lease: Who may.
            rounds: What is done.
            consistency: What is shown.
            metrics: Where to count.
            interval: Between rounds.
        """
        self._lease = lease
        self._rounds = rounds
        self._consistency = consistency
        self._metrics = metrics
        self._interval_s = interval.total_seconds()
        self._reconciles = False
        self._away: type[Exception] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Reconcile until ``stop`` is set."""
        try:
            while not await wait_for(stop, self._interval_s):
                await self._round_until(stop)
        finally:
            await self._lease.release()

    async def run_once(self) -> Counter[Mended]:
        """Do one round, if no other process reconciles, and give the lease back; what was mended.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer, or is full.
        """
        try:
            return await self._round(asyncio.Event())
        finally:
            await self._lease.release()

    async def _round_until(self, stop: asyncio.Event) -> None:
        """Do one round; a stop ends it wherever it is, since all of it is safe to repeat."""
        going_on = asyncio.create_task(self._try_round(stop))
        asked = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([going_on, asked], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            if going_on.cancel():
                await asyncio.wait([going_on], timeout=_PATIENCE_S)

    async def _try_round(self, stop: asyncio.Event) -> None:
        try:
            await self._round(stop)
        except (LogUnavailableError, QueueUnavailableError) as e:
            if self._away is not type(e):
                log.warning("reconciliation_postponed", reason=str(e))
            self._away = type(e)
        except Exception:
            log.exception("reconciliation_failed")  # a bug; accepting goes on without it, and it tries again
        else:
            if self._away is not None:
                log.info("reconciliation_resumed")
            self._away = None

    async def _round(self, stop: asyncio.Event) -> Counter[Mended]:
        mended: Counter[Mended] = Counter()

        async def go_on() -> bool:
            return not stop.is_set() and await self._hold()

        if await self._hold():
            try:
                await self._rounds.run_once(mended, go_on)
            except (LogUnavailableError, QueueUnavailableError):
                if self._reconciles:
                    await self._consistency.run_once()  # a full Redis can still be counted
                raise
            finally:
                self._tell(mended)
            await self._consistency.run_once()
            self._metrics.reconciled_at.set_to_current_time()
        return +mended

    async def _hold(self) -> bool:
        try:
            mine = await self._lease.hold()
        except Exception:
            self._consistency.leave()
            self._reconciles = False  # another process may have it until it comes back
            self._metrics.reconciles.set(0)
            raise
        if mine and not self._reconciles:
            self._rounds.take_over()
        if self._reconciles and not mine:
            self._consistency.leave()
        self._reconciles = mine
        self._metrics.reconciles.set(mine)
        return mine

    def _tell(self, mended: Counter[Mended]) -> None:
        for what, count in (+mended).items():
            self._metrics.mended.labels(what.value).inc(count)
        if +mended:
            numbers = {what.value: count for what, count in (+mended).items()}
            log.warning("redis_mended", meaning="Redis was not as the log says", **numbers)

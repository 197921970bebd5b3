"""Builds the reconciler."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg

from sred_email_core.email_send_log.leases import Lease
from sred_email_core.email_send_log.pauses import PauseLog
from sred_email_core.email_send_log.recovery import RecoveryLog
from sred_email_core.email_send_log.recovery_letters import RecoveryLetterLog
from sred_email_core.email_send_log.schedule import ScheduleLog
from sred_email_core.email_send_log.suppressions import SuppressionLog
from sred_email_core.queue.dispatch_scripts import DispatchScripts
from sred_email_core.queue.epoch import Epoch
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.letter_scripts import LetterScripts
from sred_email_core.queue.pause_copy import PauseCopy
from sred_email_core.queue.recovery_scripts import RecoveryScripts
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.scripts import QueueScripts
from sred_email_core.queue.suppression_copy import SuppressionCopy
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.reconciler import Reconciler
from sred_email_ingress.recovery.consistency import ConsistencyCheck
from sred_email_ingress.recovery.emails import EmailPass
from sred_email_ingress.recovery.leftovers import LeftoverPass, PlacePass
from sred_email_ingress.recovery.letters import LetterPass, ShownPass
from sred_email_ingress.recovery.passes import Pass
from sred_email_ingress.recovery.rounds import ExpiryStep, RecoveryRounds
from sred_email_ingress.recovery.schedule import SchedulePass

_LEASE_ROUNDS = 3
"""Intervals for which the one that reconciles keeps the others from it without saying so again."""


def build_reconciler(  # noqa: PLR0913 - a composition root names each
    pool: "asyncpg.Pool[Any]",
    runner: ScriptRunner,
    keys: QueueKeys,
    metrics: IngressMetrics,
    *,
    interval: timedelta,
    after: timedelta,
    pressure: Callable[[], float] = lambda: 0.0,
) -> Reconciler:
    """The reconciler, and everything it stands on.

    Args:
        pool: Of the log.
        runner: Of the scripts.
        keys: Of the queue.
        metrics: Where to count.
        interval: Between rounds.
        after: How long what changed is left to whoever changed it.
        pressure: How full Redis is, 1 at its limit.
    """
    log, letter_log = RecoveryLog(pool), RecoveryLetterLog(pool)
    queue, dlq, scripts = RecoveryScripts(runner, keys), LetterScripts(runner, keys), QueueScripts(runner, keys)
    schedule = ScheduleLog(pool)
    emails = EmailPass(log, queue, scripts)
    scheduled = SchedulePass(schedule, log, queue, scripts, pressure=pressure)
    passes: list[Pass] = [PlacePass(log, queue), LeftoverPass(queue), emails, scheduled]
    rounds = RecoveryRounds(
        ExpiryStep(log, scripts, metrics),
        [
            PauseCopy(PauseLog(pool), DispatchScripts(runner, keys)),
            SuppressionCopy(SuppressionLog(pool), runner, keys),
        ],
        emails,
        [*passes, ShownPass(letter_log, dlq), LetterPass(letter_log, dlq)],
        Epoch(runner, keys),
        after=after,
    )
    return Reconciler(
        Lease(pool, "reconciler", span=_LEASE_ROUNDS * interval),
        rounds,
        ConsistencyCheck(log, schedule, queue, emails, metrics),
        metrics,
        interval=interval,
    )

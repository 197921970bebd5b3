"""What to do about a request that was not accepted. Pure: time and chance come in as arguments."""

from dataclasses import dataclass
from datetime import timedelta

from sred_email_consumer.outcome import Failure, FailureKind
from sred_email_core.email_send_log.records import FailureAction


@dataclass(frozen=True, slots=True)
class Hold:
    """Delivery is to be held for every replica.

    Attributes:
        state: Name of the DispatchState; RUNNING: the provider asked to wait, and that is all.
        reason: For people.
        duration: For how long, or until a single email is tried.
        refused_name: Name of the refusals, or of the missing key, that are the cause; empty: another cause.
    """

    state: str
    reason: str
    duration: timedelta
    refused_name: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a send.

    Attributes:
        action: See record_failures.sql.
        refused: The request was definitely refused.
        counted: It counts as an attempt.
        delay: RETRY and RELEASE: until the next attempt.
        reason: REJECT and BURY: name of the DeadLetterReason.
        key_spent: The provider knows the key with other bytes.
        alone: RELEASE: its emails share no request any more.
        hold: What else it means, for all replicas.
    """

    action: FailureAction
    refused: bool
    counted: bool
    delay: timedelta = timedelta()
    reason: str | None = None
    key_spent: bool = False
    alone: bool = False
    hold: Hold | None = None


_LONGEST_RATE_HOLD = timedelta(hours=1)
"""Whoever answered 429, all replicas ask again after this."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how far apart.

    Attributes:
        max_attempts: Attempts that count before an email is given up.
        base_delay: Upper bound of the first delay; it doubles with each attempt.
        max_delay: Upper bound of every delay.
        probe_interval: Between tries while something is wrong that is no email's fault.
        quota_interval: Between tries while the quota is used up and the provider does not say for how long.
        soon: Until another email is tried, where one told nothing about the provider.
    """

    max_attempts: int
    base_delay: timedelta
    max_delay: timedelta
    probe_interval: timedelta
    quota_interval: timedelta = timedelta(hours=1)
    soon: timedelta = timedelta(milliseconds=250)

    def decide(  # noqa: PLR0911, PLR0913 - what a decision depends on, and may be
        self,
        failure: Failure,
        *,
        attempt: int,
        maybe_accepted: bool,
        jitter: float,
        batch: bool = False,
        outage: bool = False,
        stopped_by: str = "",
    ) -> Decision:
        """Choose what becomes of a send whose request failed.

        A send that may have been accepted by an earlier request is only ever repeated, whatever this answer says: to
        dissolve it would mean to send its emails twice.

        Args:
            failure: What the provider answered.
            attempt: Attempts so far that counted, and this one; 1 or more.
            maybe_accepted: An earlier request under the same key may have been accepted.
            jitter: Uniform draw from [0, 1), made by the caller.
            batch: The request went to the batch endpoint: what is wrong with one email was said of all.
            outage: Different sends fail one after the other: this one's attempts are not for it to spend.
            stopped_by: Name of the refusals that stopped delivery, where this request was to find out about them.

        Returns:
            A delay never shorter than the provider's ``Retry-After``; what stops delivery as a whole is probed at an
            interval of its own.
        """
        kind = failure.kind
        if kind is FailureKind.KEY_SPENT:
            return Decision(FailureAction.BURY, False, True, reason="OUTCOME_UNKNOWN", key_spent=True)  # noqa: FBT003
        if kind is FailureKind.OUTCOME_UNKNOWN:
            return self._after_unknown(failure, attempt, jitter, outage=outage)
        if batch and not maybe_accepted and kind in (FailureKind.REJECTED, FailureKind.DOMAIN_REFUSED):
            return Decision(FailureAction.RELEASE, refused=True, counted=False, alone=True)
        if kind is FailureKind.REJECTED and not maybe_accepted and stopped_by and failure.name == stopped_by:
            stop = self.stop_for_refusals(failure)
            return Decision(FailureAction.RELEASE, refused=True, counted=False, delay=stop.duration, hold=stop)
        if kind is FailureKind.REJECTED:
            return self._after_rejection(failure, attempt, jitter, maybe_accepted=maybe_accepted)
        if kind is FailureKind.KEY_IN_USE:
            # The other request under this key is ours: an earlier owner's. Not counted as refused, so that the send
            # stays one that may have been accepted.
            delay = failure.retry_after or self.backoff(1, jitter)
            return Decision(FailureAction.RETRY, refused=False, counted=False, delay=delay)
        delay, hold = self._wait(failure, jitter)
        action = FailureAction.RETRY if maybe_accepted else FailureAction.RELEASE
        return Decision(action, refused=True, counted=False, delay=delay, hold=hold)

    def backoff(self, attempt: int, jitter: float) -> timedelta:
        """Exponential backoff with full jitter.

        Source: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
        """
        ceiling_s = min(self.max_delay.total_seconds(), self.base_delay.total_seconds() * 2.0 ** min(attempt - 1, 40))
        return timedelta(seconds=ceiling_s * jitter)

    def stop_for_refusals(self, failure: Failure) -> Hold:
        """Many different emails are refused with one name: that is no email's fault."""
        return Hold("MISCONFIGURED", f"one after the other: {failure.error}", self.probe_interval, failure.name)

    def stop_for_key(self, reason: str, name: str) -> Hold:
        """An encryption key is not here: that is no email's fault either."""
        return Hold("MISCONFIGURED", reason, self.probe_interval, name)

    def _after_unknown(self, failure: Failure, attempt: int, jitter: float, *, outage: bool) -> Decision:
        if outage:
            delay = max(self.backoff(attempt, jitter), failure.retry_after or timedelta())
            return Decision(FailureAction.RETRY, refused=False, counted=False, delay=delay)
        if attempt >= self.max_attempts:
            return Decision(FailureAction.BURY, refused=False, counted=True, reason="ATTEMPTS_EXHAUSTED")
        delay = max(self.backoff(attempt, jitter), failure.retry_after or timedelta())
        return Decision(FailureAction.RETRY, refused=False, counted=True, delay=delay)

    def _after_rejection(self, failure: Failure, attempt: int, jitter: float, *, maybe_accepted: bool) -> Decision:
        if not maybe_accepted:
            return Decision(FailureAction.REJECT, refused=True, counted=True, reason="REJECTED")
        if attempt >= self.max_attempts:
            return Decision(FailureAction.BURY, refused=True, counted=True, reason="OUTCOME_UNKNOWN")
        delay = max(self.backoff(attempt, jitter), failure.retry_after or timedelta())
        return Decision(FailureAction.RETRY, refused=True, counted=True, delay=delay)

    def _wait(self, failure: Failure, jitter: float) -> tuple[timedelta, Hold | None]:
        """How long to wait for something that is no email's fault, and whether everybody waits."""
        if failure.kind is FailureKind.RATE_LIMITED:
            delay = failure.retry_after or timedelta(seconds=1)
            return delay, Hold("RUNNING", failure.error, min(delay, _LONGEST_RATE_HOLD))
        if failure.kind is FailureKind.QUOTA_EXHAUSTED:
            # These emails wait no longer than the others: nothing is taken before the quota renews, or is renewed.
            return self.probe_interval, Hold(
                "QUOTA_EXHAUSTED", failure.error, failure.retry_after or self.quota_interval
            )
        if failure.kind is FailureKind.MISCONFIGURED:
            return self.probe_interval, Hold("MISCONFIGURED", failure.error, self.probe_interval)
        if failure.kind is FailureKind.DOMAIN_REFUSED:
            return max(self.probe_interval, failure.retry_after or timedelta()), None
        return self.backoff(1, jitter), None

"""What a state of delivery means and what to do about it: the entries of docs/runbook.md, in short."""

from dataclasses import dataclass
from datetime import timedelta

from sred.email.v1.operations_service_pb2 import DispatchState, GetQueueStatsResponse


@dataclass(frozen=True, slots=True)
class Advice:
    """What is so, and what to press.

    Attributes:
        meaning: In a sentence or two.
        remedy: The same.
        entry: Of docs/runbook.md.
        resume: Whether resuming is what to press.
    """

    meaning: str
    remedy: str
    entry: str
    resume: bool = False


_STATES = {
    DispatchState.DISPATCH_STATE_PAUSED: Advice(
        "An operator paused every lane. Emails are accepted and wait.",
        "Look in the audit who did and why. Resume when the reason is gone.",
        "PAUSED",
        resume=True,
    ),
    DispatchState.DISPATCH_STATE_PROVIDER_DOWN: Advice(
        "The provider does not answer or fails. One email each probe interval tries again; the others wait.",
        "Look at the provider's status page. Delivery goes on by itself.",
        "PROVIDER_DOWN",
    ),
    DispatchState.DISPATCH_STATE_MISCONFIGURED: Advice(
        "The provider refuses us, whatever the email: a revoked or wrong key, a suspended account. The backlog waits, "
        "and no attempt is spent.",
        "Read the reason. Put a valid key into the file of RESEND_API_KEY_FILE: delivery goes on by itself with the "
        "next probe. Resume probes at once. With RESEND_API_KEY, restart the consumers.",
        "MISCONFIGURED",
        resume=True,
    ),
    DispatchState.DISPATCH_STATE_QUOTA_EXHAUSTED: Advice(
        "The quota of the provider's account is used up. One email an hour tries again; the others wait.",
        "Buy more quota, then resume: it tries at once. To keep what is left for urgent email, pause the lane LOW.",
        "QUOTA_EXHAUSTED",
        resume=True,
    ),
}
_SILENT = timedelta(minutes=1)
"""Consumers give a sign of life each second."""
_NOBODY = Advice(
    "Emails wait, and no consumer that could send them was heard of within the last minute.",
    "Start consumers. What their /readyz says is what they miss.",
    "Lag",
)
_HELD = Advice(
    "Emails are being sent, and something slows it.",
    "A hold ends by itself. A sender's domain has to be verified at the provider.",
    "Held, or a domain waits",
)


def advice_for(stats: GetQueueStatsResponse) -> Advice | None:
    """What there is to say; None: all is well."""
    known = _STATES.get(stats.dispatch_state)
    if known is not None:
        return known
    heard = any(each.idle.ToTimedelta() < _SILENT for each in stats.consumers)
    if not heard and any(lane.waiting for lane in stats.lanes):
        return _NOBODY
    return _HELD if stats.dispatch_reason else None

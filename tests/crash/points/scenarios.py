"""Every situation in which a process dies at every point."""

from dataclasses import replace

from crash.points import deeds
from crash.points.checks import AtRest
from crash.points.scenario import Scenario, nothing
from crash.points.situations import (
    BATCH,
    EXPIRED_S,
    LIMITED,
    NEAR_S,
    ONE_REFUSED,
    PAST_HORIZON_S,
    REFUSED,
    SLOW,
    SOON_S,
    UNANSWERED,
    accept,
    accept_expiring,
    accept_scheduled,
    accept_scheduled_for_later,
    accept_several,
    buried,
    deadly,
    delivered,
    forgotten,
    go_on,
    later,
    malformed,
    one_of_each,
    orphaned,
    postgres_is_back,
    taken,
    then,
)
from support.in_process import MAX_ATTEMPTS

SENT = AtRest("SUCCESS", 1, None)
CANCELLED = AtRest("CANCELLED", 0, None)
EXPIRED = AtRest("EXPIRED", 0, None)
EXPIRED_MAYBE_SENT = AtRest("EXPIRED", 1, None)
REJECTED = AtRest("FAILED", 0, "REJECTED")
POISON = AtRest("FAILED", 0, "POISON")
UNKNOWN = AtRest("FAILED", 0, "OUTCOME_UNKNOWN")
UNKNOWN_SENT = AtRest("FAILED", 1, "OUTCOME_UNKNOWN")
EXHAUSTED = AtRest("FAILED", 1, "ATTEMPTS_EXHAUSTED")
REFUSED_ENDS = (REJECTED, UNKNOWN)
"""The second, where nobody learned that the first request was refused, or whether it was made."""

_ONE = {"one": (SENT,)}
_ALL = dict.fromkeys(BATCH, (SENT,))
_EACH = {
    "repeated": (SENT,),
    "first of a batch": (SENT,),
    "second of a batch": (SENT,),
    "rejected": (REJECTED,),
    "parked": (SENT,),
    "waiting": (SENT,),
}
_unanswered = then(accept, UNANSWERED, times=1)
_unanswered_batch = then(accept_several, UNANSWERED, times=1)
_limited = then(accept, LIMITED, times=1)
_unanswered_expiring = then(accept_expiring, UNANSWERED, times=1)
_limited_expiring = then(accept_expiring, LIMITED, times=1)

_ACCEPTANCE = [
    Scenario("acceptance", deeds.accept_one, ends=_ONE, optional=frozenset({"one"}), mended=True),
    Scenario("acceptance that is called again", deeds.accept_one, after=accept, ends=_ONE),
    Scenario("duplicate acceptance", deeds.accept_one, before=accept, ends=_ONE),
]
_DELIVERY = [
    Scenario("delivery", deeds.deliver, before=accept, ends=_ONE),
    Scenario("delivery that gets no answer", deeds.deliver, before=_unanswered, ends=_ONE),
    Scenario("repeat", deeds.deliver, before=delivered(_unanswered), ends=_ONE),
    Scenario("delivery beyond the rate limit", deeds.deliver, before=_limited, ends=_ONE),
    Scenario("promotion", deeds.promote, before=delivered(_limited), ends=_ONE),
]
_BATCH = [
    Scenario("delivery of several, each alone", deeds.deliver, before=accept_several, ends=_ALL),
    Scenario("delivery of a batch", deeds.deliver_batch, before=accept_several, ends=_ALL),
    Scenario("delivery of a batch that gets no answer", deeds.deliver_batch, before=_unanswered_batch, ends=_ALL),
    Scenario("repeat of a batch", deeds.deliver_batch, before=delivered(_unanswered_batch), ends=_ALL, mended=True),
    Scenario(
        "delivery of a batch beyond the rate limit",
        deeds.deliver_batch,
        before=then(accept_several, LIMITED, times=1),
        ends=_ALL,
    ),
    Scenario(
        "refusal of one email within a batch",
        deeds.deliver_batch,
        before=then(accept_several, ONE_REFUSED),
        ends={**_ALL, "two": REFUSED_ENDS},
    ),
    Scenario(
        "refusal of one email within the repeat of a batch",
        deeds.deliver_batch,
        before=then(delivered(_unanswered_batch), ONE_REFUSED),
        ends=_ALL,
        mended=True,
    ),
    Scenario(
        "refusal of a whole batch",
        deeds.deliver_batch,
        before=then(accept_several, REFUSED, times=1),
        ends=_ALL,
    ),
    Scenario(
        "refusal of the repeat of a batch",
        deeds.deliver_batch,
        before=then(delivered(_unanswered_batch), REFUSED, times=1),
        ends=_ALL,
    ),
]
_DEATH = [
    *(
        Scenario(f"reclaim of what had come as far as {step}", deeds.reclaim, before=orphaned(step), ends=_ONE)
        for step in ("take.lua", "claim_sends.sql", "POST /emails", "record_answers.sql")
    ),
    Scenario(
        "reclaim after nobody was heard for long",
        deeds.reclaim_as_the_only_one,
        before=orphaned("claim_sends.sql", bystander=False),
        ends=_ONE,
    ),
    Scenario("poison", deeds.reclaim, before=deadly(accept, "take.lua"), ends={"one": (POISON,)}),
    Scenario(
        "poison that may have been accepted",
        deeds.reclaim,
        before=deadly(accept, "claim_sends.sql", "claim_repeats.sql"),
        ends={"one": (UNKNOWN,)},
    ),
    Scenario(
        "a batch with which two died",
        deeds.deliver_batch,
        before=deadly(accept_several, "take.lua", deaths=2),
        ends=_ALL,
    ),
]
_END = [
    Scenario("burial of a rejected email", deeds.deliver, before=then(accept, REFUSED), ends={"one": REFUSED_ENDS}),
    Scenario("burial of a malformed entry", deeds.deliver, before=malformed),
    Scenario(
        "the horizon of a send",
        deeds.deliver,
        before=delivered(_unanswered, passing_s=PAST_HORIZON_S),
        ends={"one": (UNKNOWN_SENT,)},
    ),
    Scenario(
        "replay of a rejected email",
        deeds.replay,
        before=buried(accept, REFUSED),
        ends={"one": (SENT, REJECTED)},
        mended=True,
    ),
    Scenario(
        "replay within a send",
        deeds.replay,
        before=buried(accept, UNANSWERED, attempts=MAX_ATTEMPTS),
        ends={"one": (SENT, EXHAUSTED)},
        mended=True,
    ),
    Scenario(
        "replay within the send of a batch",
        deeds.replay,
        before=buried(accept_several, UNANSWERED, attempts=MAX_ATTEMPTS),
        ends=dict.fromkeys(BATCH, (SENT, EXHAUSTED)),
        mended=True,
    ),
]
_WITHDRAWAL = [
    Scenario("cancelling what waits", deeds.cancel, before=accept, ends={"one": (CANCELLED, SENT)}),
    Scenario(
        "cancelling that is called again",
        deeds.cancel,
        before=accept,
        after=deeds.cancel_again,
        ends={"one": (CANCELLED,)},
    ),
    Scenario(
        "cancelling what is parked",
        deeds.cancel,
        before=delivered(_limited, passing_s=0),
        after=deeds.cancel_again,
        ends={"one": (CANCELLED,)},
    ),
    Scenario(
        "cancelling what a consumer has taken",
        deeds.cancel,
        before=taken(accept),
        after=go_on,
        ends={"one": (CANCELLED, SENT)},
    ),
    Scenario(
        "cancelling what may have been accepted",
        deeds.cancel_in_vain,
        before=delivered(_unanswered, passing_s=0),
        ends=_ONE,
    ),
    Scenario("expiry of what waits", deeds.deliver, before=later(accept_expiring, EXPIRED_S), ends={"one": (EXPIRED,)}),
    Scenario(
        "expiry of what is parked",
        deeds.promote,
        before=delivered(_limited_expiring, passing_s=EXPIRED_S),
        ends={"one": (EXPIRED,)},
    ),
    Scenario(
        "expiry of what may have been accepted",
        deeds.deliver,
        before=delivered(_unanswered_expiring, passing_s=EXPIRED_S),
        ends={"one": (EXPIRED_MAYBE_SENT,)},
    ),
    Scenario(
        "expiry that an ingress finds",
        deeds.reconcile,
        before=later(accept_expiring, EXPIRED_S),
        ends={"one": (EXPIRED,)},
    ),
]
_TIME = [
    Scenario("acceptance for soon", deeds.schedule_one, ends=_ONE, optional=frozenset({"one"}), mended=True),
    Scenario(
        "acceptance for later that is called again",
        deeds.schedule_one_for_later,
        before=accept_scheduled_for_later,
        after=later(nothing, NEAR_S),
        ends=_ONE,
        reconciled=True,
    ),
    Scenario(
        "the time of an email comes near",
        deeds.reconcile,
        before=later(accept_scheduled_for_later, NEAR_S),
        ends=_ONE,
        mended=True,
    ),
    Scenario("the time of an email comes", deeds.promote, before=later(accept_scheduled, SOON_S), ends=_ONE),
    Scenario("delivery before the time", deeds.promote, before=accept_scheduled, ends=_ONE),
    Scenario(
        "reconciliation of what is scheduled after a flush",
        deeds.reconcile,
        before=forgotten,
        ends={"soon": (SENT,), "later": (SENT,)},
        reconciled=True,
    ),
    Scenario(
        "cancelling what is scheduled",
        deeds.cancel,
        before=accept_scheduled,
        after=deeds.cancel_again,
        ends={"one": (CANCELLED,)},
    ),
    Scenario(
        "cancelling what is scheduled for later",
        deeds.cancel,
        before=accept_scheduled_for_later,
        after=deeds.cancel_again,
        ends={"one": (CANCELLED,)},
    ),
]
_OUTAGE = [
    Scenario("reconciliation after a flush", deeds.reconcile, before=one_of_each, ends=_EACH, mended=True),
    Scenario(
        "shutdown while PostgreSQL is away",
        deeds.shut_down_before_the_claim,
        before=accept_several,
        after=postgres_is_back,
        ends=_ALL,
    ),
    Scenario(
        "shutdown while an answer can't be recorded",
        deeds.shut_down_before_the_record,
        before=then(accept_several, replace(SLOW)),
        after=postgres_is_back,
        ends=_ALL,
    ),
]

SCENARIOS = [*_ACCEPTANCE, *_DELIVERY, *_BATCH, *_DEATH, *_END, *_WITHDRAWAL, *_TIME, *_OUTAGE]
TWICE = [
    each
    for each in SCENARIOS
    if each.name
    in {
        "delivery",
        "repeat",
        "delivery of a batch that gets no answer",
        "repeat of a batch",
        "refusal of one email within a batch",
        "refusal of a whole batch",
        "replay within a send",
        "replay within the send of a batch",
    }
]
"""Those in which a second crash follows on the first."""

"""What becomes of a send whose request was not accepted."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sred_email_consumer.outcome import Failure, FailureKind
from sred_email_consumer.retry_policy import Decision, RetryPolicy
from sred_email_core.email_send_log.records import FailureAction

POLICY = RetryPolicy(
    max_attempts=8,
    base_delay=timedelta(seconds=2),
    max_delay=timedelta(seconds=3600),
    probe_interval=timedelta(seconds=15),
    quota_interval=timedelta(hours=1),
)
WAITS = [
    FailureKind.RATE_LIMITED,
    FailureKind.QUOTA_EXHAUSTED,
    FailureKind.KEY_IN_USE,
    FailureKind.NOT_SENT,
    FailureKind.MISCONFIGURED,
    FailureKind.DOMAIN_REFUSED,
]
DISSOLVING = (FailureAction.RELEASE, FailureAction.REJECT, FailureAction.EXPIRE)
PROBED = (FailureKind.NOT_SENT, FailureKind.MISCONFIGURED, FailureKind.QUOTA_EXHAUSTED)
"""NOT_SENT has no answer that could ask for anything; for the others delivery is probed at an interval of its own."""
OF_ONE_EMAIL = (FailureKind.REJECTED, FailureKind.DOMAIN_REFUSED)
"""Said of a batch, they may be meant of any of its emails."""

kinds = st.sampled_from(FailureKind)
attempts = st.integers(1, 1000)
jitters = st.floats(0, 1, exclude_max=True)
retry_afters = st.none() | st.timedeltas(timedelta(), timedelta(days=31))
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1000),
    base_delay=st.timedeltas(timedelta(milliseconds=1), timedelta(minutes=1)),
    max_delay=st.timedeltas(timedelta(hours=1), timedelta(days=30)),
    probe_interval=st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)),
    quota_interval=st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)),
)


def decide(  # noqa: PLR0913 - what a decision depends on
    kind: FailureKind,
    *,
    retry_after: timedelta | None = None,
    attempt: int = 1,
    maybe_accepted: bool = False,
    jitter: float = 0.5,
    policy: RetryPolicy = POLICY,
    batch: bool = False,
) -> Decision:
    failure = Failure(kind, "what was said", retry_after)
    return policy.decide(failure, attempt=attempt, maybe_accepted=maybe_accepted, jitter=jitter, batch=batch)


def test_an_unknown_outcome_is_repeated_as_it_is() -> None:
    decision = decide(FailureKind.OUTCOME_UNKNOWN)
    assert decision.action is FailureAction.RETRY
    assert decision.counted
    assert not decision.refused
    assert decision.delay == timedelta(seconds=1)
    assert decision.hold is None


def test_a_rejected_email_becomes_a_dead_letter_at_once() -> None:
    decision = decide(FailureKind.REJECTED)
    assert decision.action is FailureAction.REJECT
    assert decision.reason == "REJECTED"
    assert decision.counted
    assert decision.refused


def test_a_spent_key_ends_with_an_unknown_outcome_and_is_never_tried_again() -> None:
    for maybe_accepted in (False, True):
        decision = decide(FailureKind.KEY_SPENT, maybe_accepted=maybe_accepted)
        assert decision.action is FailureAction.BURY
        assert decision.reason == "OUTCOME_UNKNOWN"
        assert decision.key_spent
        assert not decision.refused


def test_only_a_spent_key_is_recorded_as_spent() -> None:
    assert [kind for kind in FailureKind if decide(kind).key_spent] == [FailureKind.KEY_SPENT]


@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.RATE_LIMITED,
        FailureKind.QUOTA_EXHAUSTED,
        FailureKind.NOT_SENT,
        FailureKind.MISCONFIGURED,
        FailureKind.DOMAIN_REFUSED,
    ],
)
def test_an_email_that_was_certainly_refused_waits_alone(kind: FailureKind) -> None:
    decision = decide(kind)
    assert decision.action is FailureAction.RELEASE
    assert decision.refused


def test_a_key_in_use_keeps_its_send_one_that_may_have_been_accepted() -> None:
    for maybe_accepted in (False, True):
        decision = decide(FailureKind.KEY_IN_USE, maybe_accepted=maybe_accepted)
        assert decision.action is FailureAction.RETRY
        assert not decision.refused


@pytest.mark.parametrize("kind", WAITS)
@pytest.mark.parametrize("attempt", [1, 8, 500])
@pytest.mark.parametrize("maybe_accepted", [False, True])
def test_a_wait_spends_no_attempt_and_gives_nothing_up(kind: FailureKind, attempt: int, maybe_accepted: bool) -> None:
    decision = decide(kind, attempt=attempt, maybe_accepted=maybe_accepted)
    assert not decision.counted
    assert decision.action in (FailureAction.RETRY, FailureAction.RELEASE)


def test_a_rate_limit_without_a_time_waits_a_second() -> None:
    assert decide(FailureKind.RATE_LIMITED).delay == timedelta(seconds=1)


def test_a_rate_limit_holds_all_replicas_as_long_as_told() -> None:
    decision = decide(FailureKind.RATE_LIMITED, retry_after=timedelta(seconds=7))
    assert decision.delay == timedelta(seconds=7)
    assert decision.hold is not None
    assert (decision.hold.state, decision.hold.duration) == ("RUNNING", timedelta(seconds=7))


def test_hazard_17_a_quota_holds_all_as_told_and_else_an_hour_and_is_shown() -> None:
    told = decide(FailureKind.QUOTA_EXHAUSTED, retry_after=timedelta(hours=5))
    untold = decide(FailureKind.QUOTA_EXHAUSTED)
    for decision, duration in ((told, timedelta(hours=5)), (untold, timedelta(hours=1))):
        assert decision.delay == POLICY.probe_interval  # then the email is back among those that wait for the quota
        assert decision.hold is not None
        assert decision.hold.duration == duration
        assert decision.hold.state == "QUOTA_EXHAUSTED"
        assert decision.hold.reason == "what was said"


def test_a_bad_key_stops_everybody_until_the_next_probe() -> None:
    decision = decide(FailureKind.MISCONFIGURED)
    assert decision.delay == POLICY.probe_interval
    assert decision.hold is not None
    assert (decision.hold.state, decision.hold.duration) == ("MISCONFIGURED", POLICY.probe_interval)
    assert decision.hold.reason == "what was said"


def test_a_refused_domain_stops_nobody_else() -> None:
    decision = decide(FailureKind.DOMAIN_REFUSED)
    assert decision.hold is None
    assert decision.delay >= POLICY.probe_interval


@pytest.mark.parametrize("kind", [FailureKind.OUTCOME_UNKNOWN, FailureKind.REJECTED])
def test_a_failure_of_one_send_holds_nobody(kind: FailureKind) -> None:
    assert decide(kind, maybe_accepted=True).hold is None


def test_attempts_used_up_without_an_answer_end_as_attempts_exhausted() -> None:
    assert decide(FailureKind.OUTCOME_UNKNOWN, attempt=7).action is FailureAction.RETRY
    for attempt in (8, 9):
        decision = decide(FailureKind.OUTCOME_UNKNOWN, attempt=attempt)
        assert decision.action is FailureAction.BURY
        assert decision.reason == "ATTEMPTS_EXHAUSTED"
        assert not decision.refused
        assert decision.counted


def test_a_repeat_that_is_rejected_at_last_ends_as_an_unknown_outcome() -> None:
    assert decide(FailureKind.REJECTED, attempt=7, maybe_accepted=True).action is FailureAction.RETRY
    for attempt in (8, 9):
        decision = decide(FailureKind.REJECTED, attempt=attempt, maybe_accepted=True)
        assert decision.action is FailureAction.BURY
        assert decision.reason == "OUTCOME_UNKNOWN"
        assert decision.refused


def test_with_one_attempt_allowed_the_first_unknown_outcome_is_the_last() -> None:
    decision = decide(FailureKind.OUTCOME_UNKNOWN, policy=replace(POLICY, max_attempts=1))
    assert decision.action is FailureAction.BURY


@pytest.mark.parametrize("kind", [FailureKind.OUTCOME_UNKNOWN, FailureKind.REJECTED])
def test_retry_after_wins_over_a_shorter_backoff(kind: FailureKind) -> None:
    decision = decide(kind, retry_after=timedelta(seconds=30), attempt=2, maybe_accepted=True)
    assert decision.delay == timedelta(seconds=30)


@pytest.mark.parametrize("kind", [FailureKind.OUTCOME_UNKNOWN, FailureKind.REJECTED])
def test_a_longer_backoff_wins_over_retry_after(kind: FailureKind) -> None:
    decision = decide(kind, retry_after=timedelta(seconds=1), attempt=5, maybe_accepted=True)
    assert decision.delay == timedelta(seconds=16)


def test_the_bound_of_the_backoff_doubles_until_the_longest_delay() -> None:
    nearly_one = 1 - 2**-20
    bounds = [round(POLICY.backoff(attempt, nearly_one).total_seconds()) for attempt in range(1, 15)]
    assert bounds == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600]


@pytest.mark.parametrize("base_delay", [timedelta(minutes=2), timedelta(hours=1), timedelta(days=365)])
def test_a_long_base_delay_and_many_attempts_still_make_a_delay(base_delay: timedelta) -> None:
    policy = replace(POLICY, base_delay=base_delay, max_delay=base_delay * 2, max_attempts=1000)
    assert policy.backoff(999, 0.5) == base_delay


# Batches


@pytest.mark.parametrize("kind", OF_ONE_EMAIL)
@pytest.mark.parametrize("attempt", [1, 8, 500])
def test_hazard_18_a_batch_that_was_refused_is_dissolved_and_its_emails_go_alone_at_once(
    kind: FailureKind, attempt: int
) -> None:
    decision = decide(kind, batch=True, attempt=attempt)
    assert decision == Decision(FailureAction.RELEASE, refused=True, counted=False, alone=True)


@pytest.mark.parametrize("kind", OF_ONE_EMAIL)
def test_hazard_4_a_batch_that_may_have_been_accepted_is_repeated_though_its_repeat_was_refused(
    kind: FailureKind,
) -> None:
    decision = decide(kind, batch=True, maybe_accepted=True)
    assert (decision.action, decision.refused, decision.alone) == (FailureAction.RETRY, True, False)
    assert decision == decide(kind, batch=False, maybe_accepted=True)


def test_hazard_4_the_repeats_of_a_refused_batch_end_as_an_unknown_outcome() -> None:
    decision = decide(FailureKind.REJECTED, batch=True, maybe_accepted=True, attempt=8)
    assert (decision.action, decision.reason) == (FailureAction.BURY, "OUTCOME_UNKNOWN")


def test_hazard_18_only_a_lone_answer_parks_a_domain() -> None:
    assert decide(FailureKind.DOMAIN_REFUSED, batch=False).delay >= POLICY.probe_interval
    assert decide(FailureKind.DOMAIN_REFUSED, batch=True).delay == timedelta()


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind not in OF_ONE_EMAIL])
@pytest.mark.parametrize("maybe_accepted", [False, True])
def test_every_other_answer_means_the_same_of_a_batch_as_of_one_email(kind: FailureKind, maybe_accepted: bool) -> None:
    for attempt in (1, 8):
        alone = decide(kind, attempt=attempt, maybe_accepted=maybe_accepted, batch=False)
        assert decide(kind, attempt=attempt, maybe_accepted=maybe_accepted, batch=True) == alone
        assert not alone.alone


@given(policy=policies, kind=kinds, attempt=attempts, maybe_accepted=st.booleans(), jitter=jitters)
def test_hazard_18_an_answer_to_a_batch_never_rejects_an_email(
    policy: RetryPolicy, kind: FailureKind, attempt: int, maybe_accepted: bool, jitter: float
) -> None:
    decision = decide(kind, attempt=attempt, maybe_accepted=maybe_accepted, jitter=jitter, policy=policy, batch=True)
    assert decision.action is not FailureAction.REJECT
    assert decision.reason != "REJECTED"


# Whatever comes


@given(policy=policies, attempt=attempts, jitter=jitters)
def test_full_jitter_draws_between_nothing_and_the_bound(policy: RetryPolicy, attempt: int, jitter: float) -> None:
    bound = min(policy.max_delay, policy.base_delay * 2 ** min(attempt - 1, 40))
    delay = policy.backoff(attempt, jitter)
    assert timedelta() <= delay <= bound
    assert policy.backoff(attempt, 0) == timedelta()
    assert abs(delay - bound * jitter) <= timedelta(microseconds=2)


@given(policy=policies, attempt=attempts, low=jitters, high=jitters)
def test_more_jitter_never_waits_less(policy: RetryPolicy, attempt: int, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert policy.backoff(attempt, low) <= policy.backoff(attempt, high)


@given(kind=kinds, retry_after=retry_afters, attempt=attempts, jitter=jitters, batch=st.booleans())
def test_hazard_4_what_may_have_been_accepted_is_never_dissolved(
    kind: FailureKind, retry_after: timedelta | None, attempt: int, jitter: float, batch: bool
) -> None:
    decision = decide(kind, retry_after=retry_after, attempt=attempt, maybe_accepted=True, jitter=jitter, batch=batch)
    assert decision.action not in DISSOLVING


@given(policy=policies, kind=kinds, attempt=attempts, jitter=jitters, batch=st.booleans())
def test_an_outcome_that_is_not_definite_never_dissolves_a_send(
    policy: RetryPolicy, kind: FailureKind, attempt: int, jitter: float, batch: bool
) -> None:
    decision = decide(kind, attempt=attempt, jitter=jitter, policy=policy, batch=batch)
    if not decision.refused:
        assert decision.action not in DISSOLVING


@given(kind=kinds, attempt=attempts, maybe_accepted=st.booleans(), jitter=jitters, batch=st.booleans())
def test_whether_a_request_was_refused_depends_on_its_answer_alone(
    kind: FailureKind, attempt: int, maybe_accepted: bool, jitter: float, batch: bool
) -> None:
    decision = decide(kind, attempt=attempt, maybe_accepted=maybe_accepted, jitter=jitter, batch=batch)
    may_be_in = (FailureKind.OUTCOME_UNKNOWN, FailureKind.KEY_IN_USE, FailureKind.KEY_SPENT)
    assert decision.refused == (kind not in may_be_in)


@given(
    policy=policies,
    kind=kinds.filter(lambda kind: kind not in PROBED),
    retry_after=st.timedeltas(timedelta(milliseconds=1), timedelta(days=31)),
    attempt=attempts,
    maybe_accepted=st.booleans(),
    jitter=jitters,
)
def test_no_wait_is_ever_shorter_than_the_provider_asks(
    policy: RetryPolicy,
    kind: FailureKind,
    retry_after: timedelta,
    attempt: int,
    maybe_accepted: bool,
    jitter: float,
) -> None:
    decision = decide(
        kind, retry_after=retry_after, attempt=attempt, maybe_accepted=maybe_accepted, jitter=jitter, policy=policy
    )
    if decision.action in (FailureAction.RETRY, FailureAction.RELEASE):
        assert decision.delay >= retry_after


def test_hazard_14_in_an_outage_no_attempt_is_spent_and_nothing_given_up() -> None:
    failure = Failure(FailureKind.OUTCOME_UNKNOWN, "503")
    for attempt in (1, POLICY.max_attempts, 1000):
        decision = POLICY.decide(failure, attempt=attempt, maybe_accepted=True, jitter=0.5, outage=True)
        assert (decision.action, decision.counted, decision.refused) == (FailureAction.RETRY, False, False)


def test_refusals_that_stopped_delivery_cost_no_further_email() -> None:
    failure = Failure(FailureKind.REJECTED, "422 invalid_from", name="invalid_from")
    probe = POLICY.decide(failure, attempt=1, maybe_accepted=False, jitter=0.5, stopped_by="invalid_from")
    assert (probe.action, probe.counted) == (FailureAction.RELEASE, False)
    assert probe.hold is not None
    assert (probe.hold.state, probe.hold.refused_name) == ("MISCONFIGURED", "invalid_from")
    other = POLICY.decide(failure, attempt=1, maybe_accepted=False, jitter=0.5, stopped_by="another")
    assert other.action is FailureAction.REJECT


@given(
    policy=policies,
    kind=kinds,
    retry_after=retry_afters,
    attempt=attempts,
    maybe_accepted=st.booleans(),
    batch=st.booleans(),
)
def test_each_decision_is_whole(
    policy: RetryPolicy,
    kind: FailureKind,
    retry_after: timedelta | None,
    attempt: int,
    maybe_accepted: bool,
    batch: bool,
) -> None:
    decision = decide(
        kind, retry_after=retry_after, attempt=attempt, maybe_accepted=maybe_accepted, policy=policy, batch=batch
    )
    gives_up = decision.action in (FailureAction.REJECT, FailureAction.BURY)
    assert (decision.reason is not None) == gives_up
    assert decision.reason in (None, "REJECTED", "ATTEMPTS_EXHAUSTED", "OUTCOME_UNKNOWN")
    assert decision.action is FailureAction.RELEASE or not decision.alone
    assert decision.action is not FailureAction.EXPIRE
    assert decision.delay >= timedelta()
    if gives_up:
        assert decision.delay == timedelta()
    if decision.hold is not None:
        assert decision.hold.duration > timedelta()


@given(
    policy=policies,
    kind=st.sampled_from(WAITS),
    retry_after=retry_afters,
    attempt=attempts,
    maybe_accepted=st.booleans(),
)
def test_no_number_of_attempts_turns_a_wait_into_a_dead_letter(
    policy: RetryPolicy, kind: FailureKind, retry_after: timedelta | None, attempt: int, maybe_accepted: bool
) -> None:
    decision = decide(kind, retry_after=retry_after, attempt=attempt, maybe_accepted=maybe_accepted, policy=policy)
    assert decision.reason is None
    assert not decision.counted


@given(policy=policies, kind=kinds, maybe_accepted=st.booleans(), attempt=attempts, jitter=jitters)
def test_attempts_are_given_up_only_when_they_are_used_up(
    policy: RetryPolicy, kind: FailureKind, maybe_accepted: bool, attempt: int, jitter: float
) -> None:
    decision = decide(kind, attempt=attempt, maybe_accepted=maybe_accepted, jitter=jitter, policy=policy)
    if decision.action is FailureAction.BURY and kind is not FailureKind.KEY_SPENT:
        assert attempt >= policy.max_attempts
